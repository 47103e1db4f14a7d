"""`receiptd status`: what is printed, how --watch goes on, how it ends."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from sqlalchemy import insert

from receiptd.cli import exit_codes, main
from receiptd.cli.status import _frames
from receiptd.cli.status_view import Frame, View
from receiptd.config import loading
from receiptd.status import StatusReader
from receiptd.store.schema import audits
from receiptd.tally import Counts
from tests.databases import Postgresql
from tests.test_cli_explain import CONFIG
from tests.test_docs import ROOT
from tests.told_story import NOON, SETTINGS, Story

LEFT = b"\x1b[?1049l"  # the terminal's other screen
AWAY = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    (tmp_path / "config.toml").write_text(CONFIG)
    story = Story("sqlite:///x.db")
    yield story
    story.store.close()


def drawn(story: Story, width: int, **fields: Any) -> str:
    """The status on a terminal of `width` columns."""
    status = StatusReader(story.store, SETTINGS, story.clock).read()
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    console.print(View(Frame(status, at=status.taken_at, **fields)))
    return console.export_text()


def test_the_status_is_printed_for_a_person(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    story.send()
    story.report("2^0")

    assert main(["status"]) == exit_codes.OK

    out = capsys.readouterr().out
    assert "aliyun/main" in out
    assert "sms_report" in out


def test_json_has_the_documented_keys(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    story.send()
    story.store.record_progress("a/1", "sms_report", Counts())
    text = (ROOT / "docs" / "explain-and-status.md").read_text(encoding="utf-8")

    assert main(["status", "--json"]) == exit_codes.OK

    shown = json.loads(capsys.readouterr().out)
    parts = [shown, shown["database"], shown["counted"], *shown["sources"], *shown["accounts"]]
    parts += shown["sources"][0]["instances"]
    assert all(f"`{key}`" in text for part in parts for key in part)


def test_a_database_that_is_away_ends_with_69(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECEIPTD_DATABASE__URL", AWAY)

    assert main(["status"]) == exit_codes.UNAVAILABLE


def test_a_time_that_is_none_is_a_usage_error(story: Story) -> None:
    assert main(["status", "--watch", "--every", "soon"]) == exit_codes.USAGE


def test_a_silent_source_and_a_gap_are_told(story: Story) -> None:
    story.store.record_progress("a/1", "sms_report", Counts(pulled=1))
    story.send()
    story.at(29 * 86400)

    told = drawn(story, 80)

    assert "SILENT for 29 d, since 2026-11-01 12:00 UTC" in told
    assert "1 d" in told


def test_a_gap_that_is_over_says_so(story: Story) -> None:
    story.send()
    story.at(31 * 86400)

    assert "over" in drawn(story, 80)


def test_audits_that_differ_are_told_with_both_counts(story: Story) -> None:
    counts = {f"provider_{name}": 5 for name in ("total", "delivered", "failed", "pending")}
    counts |= {f"held_{name}": 5 for name in ("total", "failed", "pending")}
    day = NOON.date() - timedelta(days=1)
    row = {"provider": "aliyun", "account": "main", "day": day, "audited_at": NOON}
    with story.store.writing() as connection:
        connection.execute(insert(audits).values(row | counts | {"held_delivered": 4}))

    assert "2026-10-31 aliyun/main: we hold delivered 4 of 5" in drawn(story, 100)


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_is_not_overrun(story: Story, width: int) -> None:
    names = {"短信状态报告": None, "a" * 64: None, "sms_report": None}
    for number, name in enumerate(names):
        counts = Counts(pulled=123_456_789, changed=123_456_789, acked=123_456_789)
        story.store.record_progress(f"host-with-a-long-name/{number}", name, counts)
    story.send(account="账户" * 20)

    told = drawn(story, width)

    assert max(cell_len(line.rstrip()) for line in told.splitlines()) <= width
    assert "123.46M" in told


def test_a_name_does_not_steer_the_terminal(story: Story) -> None:
    story.store.record_progress("a/1", "[red]\x1b[2J", Counts())

    told = drawn(story, 120)

    assert "\x1b" not in told
    assert "[red]" in told


def test_an_outage_is_shown_over_the_last_figures(story: Story) -> None:
    fields = {"error": "the connection failed", "away_since": NOON - timedelta(seconds=65)}

    told = drawn(story, 100, **fields)

    assert "DATABASE AWAY for 1 min 5 s: the connection failed" in told
    assert "sms_report" in told


# --- --watch ---


def watch(folder: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "receiptd", "status", "--watch", "--every", "1s"]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_watch_as_json_is_a_line_each_time_and_ctrl_c_ends_it_well(
    story: Story, tmp_path: Path
) -> None:
    with watch(tmp_path, "--json") as running:
        assert running.stdout is not None
        lines = [json.loads(running.stdout.readline()) for _ in range(2)]
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)

    assert [line["database"]["kind"] for line in lines] == ["sqlite", "sqlite"]
    assert (running.returncode, err) == (exit_codes.OK, "")


def test_watch_goes_on_while_the_database_is_away(story: Story, tmp_path: Path) -> None:
    with watch(tmp_path, "--json", RECEIPTD_DATABASE__URL=AWAY) as running:
        assert running.stdout is not None
        lines = [json.loads(running.stdout.readline()) for _ in range(2)]
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)

    assert all(line["error"] for line in lines)
    assert running.returncode == exit_codes.OK


def test_watch_draws_on_a_terminal_and_leaves_the_last_picture(
    story: Story, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "receiptd", "status", "--watch", "--every", "1s"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as running:
        os.close(theirs)
        before = until(ours, b"aliyun/main", b"Leases")
        running.send_signal(signal.SIGINT)
        after = until(ours, LEFT, b"aliyun/main", b"Leases")
        assert running.wait(30) == exit_codes.OK
    os.close(ours)

    assert b"\x1b[?1049h" in before  # a screen of its own
    assert b"Traceback" not in after


def test_an_outage_is_shown_until_it_is_over() -> None:
    server = Postgresql()
    try:
        story = Story(server.url("postgres"))
        story.send()
        stop = threading.Event()
        reader = StatusReader(story.store, SETTINGS, story.clock)
        frames = _frames(story.store, reader, story.clock, stop, 2.0)
        before = next(frames)
        server.stop()
        away, still_away = next(frames), next(frames)
        server.start()
        after = next(frames)
        stop.set()
        assert list(frames) == []
        story.store.close()
    finally:
        server.remove()

    assert (before.error, after.error) == ("", "")
    assert away.error
    assert away.status == before.status
    assert away.away_since == still_away.away_since == NOON + timedelta(seconds=2)
    assert after.status is not None
    assert after.status.accounts[0].awaited == 1


def until(terminal: int, *wanted: bytes) -> bytes:
    """Read a terminal until all of `wanted` were written, in this order."""
    seen, start = b"", 0
    for text in wanted:
        while (found := seen.find(text, start)) < 0:
            ready, _, _ = select.select([terminal], [], [], 30)
            assert ready, seen[-300:]
            seen += os.read(terminal, 65536)
        start = found + len(text)
    return seen
