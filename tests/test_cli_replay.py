"""`receiptd replay`: what it takes, what it prints, how it ends."""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from receiptd.cli import exit_codes, main
from receiptd.clock import SystemClock
from receiptd.config import loading
from receiptd.store import open_store
from tests.databases import SERVERS, ask, fresh_url
from tests.fakes import sms_report

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
endpoint = "https://mns.example"
"""
TYPE = ["--type", "aliyun.SmsReport"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    (tmp_path / "config.toml").write_text(CONFIG)
    store = open_store("sqlite:///x.db", SystemClock())
    store.upgrade()
    store.close()
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command; returns its code, its JSON lines and its lines on stderr."""

    def run(*arguments: str) -> tuple[int, Any, list[str]]:
        code = main(["replay", *arguments, "--json"])
        captured = capsys.readouterr()
        found = [json.loads(line) for line in captured.out.splitlines()]
        return code, found, captured.err.splitlines()

    return run


def write(name: str, *lines: bytes) -> str:
    Path(name).write_bytes(b"\n".join(lines))
    return name


def quarantine(body: bytes, number: int = 1) -> None:
    """Put a row into the journal as it was before a fix."""
    ask(
        "sqlite:///x.db",
        "INSERT INTO journal (source, envelope_id, part, body, encoding, kind, outcome, reason,"
        f" received_at) VALUES ('sms_report', 'm{number}', 0, '{body.decode()}', 'text',"
        " 'unreadable', 'quarantined', 'bad_field:err_code', '2026-05-06 08:00:00.000000')",
    )


def rows(sql: str) -> list[tuple[Any, ...]]:
    return ask("sqlite:///x.db", sql)


def dump() -> list[Any]:
    return [rows(f"SELECT * FROM {name}") for name in ("receipts", "journal", "uplinks", "notices")]


def test_a_file_is_replayed_and_noted_in_the_journal(run: Any) -> None:
    file = write("a.ndjson", sms_report(1), b"{broken", sms_report(2), b'{"biz_id":"1"}')

    code, [result], told = run(file, *TYPE)

    assert code == exit_codes.DATA_REFUSED
    assert (result["records"], result["changed"], result["refused"]) == (2, 2, 2)
    assert result["reasons"] == {"not_json": 1, "missing_field": 1}
    assert [line.split(": ")[1:3] for line in told] == [
        ["a.ndjson:2", "not_json"],
        ["a.ndjson:4", "missing_field:success"],
    ]
    assert rows("SELECT source, envelope_id, kind, outcome FROM journal") == [
        ("replay", "a.ndjson:1", "receipt", "replayed"),
        ("replay", "a.ndjson:2", "unreadable", "quarantined"),
        ("replay", "a.ndjson:3", "receipt", "replayed"),
        ("replay", "a.ndjson:4", "unreadable", "quarantined"),
    ]
    assert rows("SELECT DISTINCT provider, account, origin FROM receipts") == [
        ("aliyun", "main", "replay")
    ]


def test_the_same_file_twice_leaves_the_receipts_the_same(run: Any) -> None:
    file = write("a.json", b"[%s,\n%s]" % (sms_report(1), sms_report(2)))
    assert run(file, *TYPE)[0] == exit_codes.OK
    before = rows("SELECT * FROM receipts")

    code, [result], told = run(file, *TYPE)

    assert (code, result["records"], result["changed"], told) == (exit_codes.OK, 2, 0, [])
    assert rows("SELECT * FROM receipts") == before


def test_stdin_is_read(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(sms_report(1))))

    assert run("-", *TYPE, "--account", "main")[1][0]["changed"] == 1


@pytest.mark.parametrize("format", ["csv", "ndjson"])
def test_an_exported_journal_brings_the_rows_back(run: Any, capsys: Any, format: str) -> None:
    run(write("a.ndjson", *map(sms_report, range(5)), b"\xff{"), *TYPE)
    before = rows("SELECT biz_id, phone, status, reported_at, out_id FROM receipts")
    assert main(["export", "journal", "--format", format, "--output", "j"]) == exit_codes.OK
    capsys.readouterr()
    for table in ("receipts", "journal"):
        rows(f"DELETE FROM {table}")

    code, [result], _ = run("j", *TYPE)

    assert (code, result["records"], result["refused"]) == (exit_codes.DATA_REFUSED, 5, 1)
    assert rows("SELECT biz_id, phone, status, reported_at, out_id FROM receipts") == before
    assert rows("SELECT count(DISTINCT envelope_id) FROM journal") == [(6,)]


def test_the_quarantine_is_replayed(run: Any) -> None:
    quarantine(sms_report(1))
    quarantine(b"{}", 2)

    code, [result], told = run("--quarantined", "--reason", "bad_field")

    assert code == exit_codes.DATA_REFUSED
    assert (result["records"], result["replayed"], result["refused"]) == (1, 1, 1)
    assert told[0].startswith("receiptd: journal row 2: unknown_shape")
    assert rows("SELECT outcome, reason FROM journal") == [
        ("replayed", "bad_field:err_code"),
        ("quarantined", "bad_field:err_code"),
    ]
    assert rows("SELECT origin FROM receipts") == [("queue",)]
    assert run("--quarantined", "--reason", "not_json")[1][0]["records"] == 0


def test_a_long_list_of_refused_rows_is_cut(run: Any) -> None:
    for number in range(25):
        quarantine(b"{}", number)

    told = run("--quarantined")[2]

    assert len(told) == 21
    assert "receiptd quarantine list" in told[-1]


def test_a_dry_run_prints_the_changes_and_makes_none(run: Any, capsys: Any) -> None:
    run(write("a", sms_report(1, success=False)), *TYPE)
    quarantine(sms_report(1))
    quarantine(sms_report(2))
    before = dump()

    code, found, _ = run("--quarantined", "--dry-run")

    assert code == exit_codes.OK
    assert [(one["identity"][-4:], one["phone"], one["old"], one["new"]) for one in found[:2]] == [
        ("01^0", "139****0001", "failed", "delivered"),
        ("02^0", "139****0002", None, "delivered"),
    ]
    assert (found[2]["dry_run"], found[2]["changed"], found[2]["replayed"]) == (True, 2, 2)
    assert run(write("b", sms_report(3)), *TYPE, "--dry-run")[1][1]["changed"] == 1
    assert dump() == before
    main(["replay", "--quarantined", "--dry-run"])
    assert capsys.readouterr().out.splitlines() == [
        "receipts 900000000000000001^0      139****0001   failed -> delivered",
        "receipts 900000000000000002^0      139****0002   new -> delivered",
        "2 records understood: 2 rows would be new or changed",
        "2 quarantined journal rows would be replayed",
    ]


def test_a_time_is_replayed_from_the_journal(run: Any) -> None:
    quarantine(sms_report(1))
    run("--quarantined")
    rows("DELETE FROM receipts")

    assert run("--since", "2026-05-07")[1][0]["records"] == 0
    assert run("--since", "2026-05-06", "--until", "2026-05-06 16:00:00")[1][0]["records"] == 0
    assert run("--since", "2026-05-06 16:00:00", "--source", "sms_report")[1][0]["changed"] == 1


def test_what_no_source_explains_is_told_and_skipped(run: Any, capsys: Any) -> None:
    run(write("a", sms_report(1)), *TYPE)

    code, [result], _ = run("--since", "2020-01-01")

    assert (code, result["unexplained"]) == (exit_codes.DATA_REFUSED, {"replay": 1})
    code, [result], _ = run("--since", "2020-01-01", *TYPE)
    assert (code, result["records"], result["changed"]) == (exit_codes.OK, 1, 0)
    main(["replay", "--since", "2020-01-01"])
    assert "1 skipped: no source replay is configured; give --type" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--quarantined, --since TIME, or files"),
        (["a", "--quarantined"], "does not go with"),
        (["a", "--since", "2026-05-06"], "does not go with"),
        (["--since", "2026-05-06", "--reason", "x"], "needs --quarantined"),
        (["--since", "2026-05-06", "--after-id", "1"], "needs --quarantined"),
        (["--since", "noon"], "2024-05-06"),
        (["a"], "say what is read: --type"),
        (["a", "no.json", *TYPE], "No such file"),
        (["a", "--type", "aliyun.x"], "aliyun.SmsReport"),
        (["a", "--type", "jushita.sms"], "no account of the provider jushita"),
        (["a", *TYPE, "--account", "shop"], "one of main"),
        (["a", *TYPE, "--rate", "0"], "0.1"),
    ],
)
def test_wrong_usage_is_refused(run: Any, arguments: list[str], said: str) -> None:
    write("a", sms_report(1))

    code, found, told = run(*arguments)

    assert (code, found) == (exit_codes.USAGE, [])
    assert said in " ".join(told)
    assert rows("SELECT count(*) FROM receipts") == [(0,)]


def test_a_wrong_source_is_a_matter_of_the_configuration(run: Any, folder: Path) -> None:
    (folder / "config.toml").write_text(CONFIG.replace('"SmsReport"', '"SmsRepord"'))

    code, _, told = run("--quarantined")

    assert code == exit_codes.CONFIG
    assert "sources.sms_report.message_type" in told[0]


def test_a_database_that_is_away_is_told(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql+psycopg://nobody@127.0.0.1:1/x"
    monkeypatch.setenv("RECEIPTD_DATABASE__URL", url)

    assert run("--quarantined")[0] == exit_codes.UNAVAILABLE


def test_without_a_schema_it_says_so(run: Any, folder: Path) -> None:
    (folder / "x.db").unlink()

    code, _, told = run("--quarantined")

    assert code == exit_codes.CONFIG
    assert "receiptd db upgrade" in told[0]


@pytest.mark.parametrize("what", ["file", "quarantine"])
def test_interrupted_it_ends_between_two_batches_and_says_how_to_go_on(run: Any, what: str) -> None:
    bodies = list(map(sms_report, range(45)))
    if what == "file":
        arguments = [write("a b.ndjson", *bodies), *TYPE]
    else:
        arguments = ["--quarantined"]
        for number, body in enumerate(bodies):
            quarantine(body, number)
    command = [sys.executable, "-m", "receiptd", "replay", *arguments, "--rate", "20"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        while rows("SELECT count(*) FROM receipts") == [(0,)]:
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(0.05)
        running.send_signal(signal.SIGINT)  # in the pause that the rate asks for
        _, told = running.communicate(timeout=30)

    assert running.returncode == exit_codes.INTERRUPTED
    [done] = rows("SELECT count(*) FROM receipts")[0]
    assert done in (20, 40)
    line = told.splitlines()[-1]
    assert line.startswith(f"receiptd: stopped after {done} records; go on with: receiptd replay ")
    place = ["a b.ndjson", "--after-line"] if what == "file" else ["--quarantined", "--after-id"]
    go_on = line.partition("receiptd replay ")[2]
    assert go_on.endswith(f"{place[1]} {done}")
    rest = [*place, str(done), *(TYPE if what == "file" else [])]
    assert run(*rest)[1][0]["records"] == 45 - done
    assert rows("SELECT count(*) FROM receipts") == [(45,)]


@pytest.mark.parametrize("kind", SERVERS)
def test_it_works_on_servers(
    run: Any, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write("a", *map(sms_report, range(700)), b"{")
    with fresh_url(kind) as url:
        monkeypatch.setenv("RECEIPTD_DATABASE__URL", url)
        assert main(["db", "upgrade"]) == exit_codes.OK
        capsys.readouterr()

        assert run(file, *TYPE)[1][-1]["changed"] == 700
        assert run("--since", "2020-01-01", *TYPE)[1][-1]["changed"] == 0
        assert run("--quarantined", *TYPE)[1][-1]["refused"] == 1


def test_nothing_is_drawn_where_stderr_is_no_terminal() -> None:
    file = write("a", sms_report(1))

    done = subprocess.run(
        [sys.executable, "-m", "receiptd", "replay", file, *TYPE],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (exit_codes.OK, "")
    assert done.stdout == "1 records understood: 1 rows new or changed\n"
