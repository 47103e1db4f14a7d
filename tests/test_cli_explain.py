"""`receiptd explain`: what is printed, what is masked, how it ends."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from receiptd.cli import exit_codes, explain_view, main
from receiptd.clock import ManualClock
from receiptd.config import loading
from receiptd.explain import Explainer, Said, What
from receiptd.plugins import Installed
from tests.test_docs import ROOT
from tests.told_story import BIZ_ID, PHONE, SETTINGS, Story, after

CONFIG = """
[database]
url = "sqlite:///x.db"
[accounts.main]
provider = "aliyun"
[sources.sms_report]
puller = "mns"
account = "main"
message_type = "SmsReport"
queue = "q"
"""


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    monkeypatch.setenv("TZ", "UTC")
    (tmp_path / "config.toml").write_text(CONFIG)
    story = Story("sqlite:///x.db")
    yield story
    story.store.close()


@pytest.fixture
def run(story: Story, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command; returns its code, what is on stdout and what is on stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["explain", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def drawn(story: Story, wanted: str, width: int, *, now: float = 0) -> str:
    """The explanation on a terminal of `width` columns, at a time after noon."""
    explainer = Explainer(story.store, SETTINGS, Installed(), story.clock)
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    explain_view.show(explainer.explain(wanted), console, ManualClock(after(now)))
    return console.export_text()


def test_a_timeline_is_printed_for_a_person(story: Story, run: Any) -> None:
    story.send()
    story.at(5).report()

    code, out, err = run(BIZ_ID)

    assert (code, err) == (exit_codes.OK, "")
    assert out.index("sent through SendSms") < out.index("status awaited -> delivered")
    assert PHONE in out


def test_json_is_masked_unless_asked_otherwise(story: Story, run: Any) -> None:
    story.send()

    code, out, _ = run("13900000001", "--json")
    _, whole, _ = run("13900000001", "--json", "--show-phones")

    assert code == exit_codes.OK
    assert "13900000001" not in out
    assert json.loads(out)["messages"][0]["phone"] == "139****0001"
    assert json.loads(whole)["messages"][0]["phone"] == PHONE


def test_json_has_the_documented_keys(story: Story, run: Any) -> None:
    story.send()
    story.at(5).report(success="perhaps")
    story.reply("TD")
    text = (ROOT / "docs" / "explain-and-status.md").read_text(encoding="utf-8")

    _, out, _ = run("13900000001", "--json")

    shown = json.loads(out)
    [message] = shown["messages"]
    keys = {*shown, *message, *message["events"][0]}
    assert all(f"`{key}`" in text for key in keys)
    assert all(f"`{word.value}`" in text for word in (*What, *Said))


def test_nothing_known_ends_with_65_and_says_what_was_searched(run: Any) -> None:
    code, out, err = run("13900000009")

    assert code == exit_codes.DATA_REFUSED
    assert out == ""
    assert "biz_id, sequence_id, phone, out_id" in err
    assert "13900000009" not in err


def test_nothing_known_is_json_too(run: Any) -> None:
    code, out, _ = run("order-9", "--json", "--account", "main")

    assert code == exit_codes.DATA_REFUSED
    assert json.loads(out)["messages"] == []
    assert json.loads(out)["found_by"] is None


def test_what_only_the_quarantine_knows_is_told(story: Story, run: Any) -> None:
    story.at(5).report(success="perhaps")

    code, out, _ = run(BIZ_ID)

    assert code == exit_codes.OK
    assert "quarantined (bad_field:success)" in out.replace("\n", " ")


def test_a_masked_number_is_a_usage_error(run: Any) -> None:
    code, _, err = run("139****0001")

    assert code == exit_codes.USAGE
    assert "all of its digits" in err


def test_the_rest_of_many_sms_is_counted(story: Story, run: Any) -> None:
    for number in range(5):
        story.send(f"{number}^0")

    _, out, _ = run("13900000001", "--limit", "2")

    assert "3 more SMS to this phone" in out


def test_a_database_that_is_away_ends_with_69(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIPTD_DATABASE__URL", "postgresql://nobody@127.0.0.1:1/none")

    assert run(BIZ_ID)[0] == exit_codes.UNAVAILABLE


def test_a_database_without_a_schema_ends_with_78(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECEIPTD_DATABASE__URL", "sqlite:///other.db")

    assert run(BIZ_ID)[0] == exit_codes.CONFIG


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_is_not_overrun(story: Story, width: int) -> None:
    story.send(out_id="o" * 200)
    story.at(5).report(success=False, err_msg="用户接收失败" * 40)

    assert max(cells(line) for line in drawn(story, BIZ_ID, width).splitlines()) <= width


def test_a_vendors_text_does_not_steer_the_terminal(story: Story) -> None:
    story.send(sign_name="[red]\x1b[2J")
    story.at(5).report(err_msg="\x1b]0;x\x07[/bold]")

    told = drawn(story, BIZ_ID, 120)

    assert "\x1b" not in told
    assert "[red]" in told
    assert "[/bold]" in told


def test_an_open_send_says_how_long_until_it_is_lost(story: Story) -> None:
    story.send()

    told = drawn(story, BIZ_ID, 100, now=86400)

    assert "for ever in 29 d" in told
    assert "lost for ever, if nothing is heard by then (in 29 d)" in told


def cells(line: str) -> int:
    return cell_len(line.rstrip())
