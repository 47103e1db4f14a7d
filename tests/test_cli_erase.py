"""`receiptd erase`: what it asks, what it prints, how it ends."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from receiptd import erase
from receiptd.cli import exit_codes, main
from receiptd.clock import SystemClock
from receiptd.config import loading
from receiptd.errors import StoreUnavailable
from receiptd.store import erasure, open_store
from tests.databases import ask
from tests.store.store_samples import entries, receipt, uplink

PHONE = "13812345678"
ROWS = {"receipts": 1, "uplinks": 1, "journal": 2, "outbox": 0, "notices": 0}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    (tmp_path / "config.toml").write_text('[database]\nurl = "sqlite:///x.db"\n')
    store = open_store("sqlite:///x.db", SystemClock())
    store.upgrade()
    whole = f"+86{PHONE}"
    store.save(entries(receipt("1", phone=whole), uplink("1", phone=whole), receipt("2")))
    store.close()
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command; returns its code and its texts on stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["erase", *arguments])
        captured = capsys.readouterr()
        assert PHONE not in captured.out + captured.err
        return code, captured.out, captured.err

    return run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def phones() -> list[str]:
    return sorted(phone[:7] for (phone,) in ask("sqlite:///x.db", "SELECT phone FROM receipts"))


def test_it_erases_and_says_what(run: Any) -> None:
    code, out, told = run("--phone", PHONE, "--yes")

    assert (code, told) == (exit_codes.OK, "")
    assert out.splitlines() == [
        "receipts    1 rows erased",
        "uplinks     1 rows erased",
        "journal     2 rows erased",
        "outbox      0 rows erased",
        "notices     0 rows erased",
        "recorded as erasure 1",
    ]
    assert phones() == ["+861390", "erased:"]


def test_json_holds_the_mask_and_the_counts(run: Any) -> None:
    code, out, _ = run("--phone", f"+86 {PHONE}", "--yes", "--json", "--because", "ticket 7")

    assert code == exit_codes.OK
    said = {"dry_run": False, "phone": "138****5678", "erasure": 1, "traces": False}
    assert json.loads(out) == said | ROWS
    ((because, by, finished),) = ask(
        "sqlite:///x.db", "SELECT because, asked_by, finished_at FROM erasures"
    )
    assert because == "ticket 7"
    assert by
    assert finished


def test_a_dry_run_changes_nothing_and_asks_nothing(run: Any) -> None:
    code, out, _ = run("--phone", PHONE, "--dry-run", "--json")

    assert code == exit_codes.OK
    said = {"dry_run": True, "phone": "138****5678", "erasure": None, "traces": False}
    assert json.loads(out) == said | ROWS
    assert phones() == ["+861381", "+861390"]
    assert "journal     2 rows to erase\n" in run("--phone", PHONE, "--dry-run")[1]


@pytest.mark.parametrize(
    ("answer", "code", "left"),
    [
        ("y\n", exit_codes.OK, ["+861390", "erased:"]),
        ("n\n", exit_codes.INTERRUPTED, ["+861381", "+861390"]),
        ("\n", exit_codes.INTERRUPTED, ["+861381", "+861390"]),
    ],
)
def test_it_asks_first(
    run: Any, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))

    found, _, told = run("--phone", PHONE)

    assert found == code
    assert "138****5678" in told
    assert phones() == left


def test_where_nobody_can_be_asked_it_does_nothing(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))

    code, _, told = run("--phone", PHONE)

    assert code == exit_codes.USAGE
    assert "--yes" in told
    assert phones() == ["+861381", "+861390"]


def test_the_number_may_come_from_stdin(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PHONE}\n"))

    assert run("--phone", "-", "--yes")[0] == exit_codes.OK

    assert phones() == ["+861390", "erased:"]


@pytest.mark.parametrize("phone", ["", "abc", "139", "13812345678,13812345679"])
def test_what_is_no_number_is_wrong_usage(phone: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["erase", "--phone", phone, "--yes"]) == exit_codes.USAGE

    assert "is no phone number: write +8613900000001" in capsys.readouterr().err


def test_without_a_schema_it_says_so(run: Any, folder: Path) -> None:
    (folder / "config.toml").write_text('[database]\nurl = "sqlite:///new.db"\n')

    code, _, told = run("--phone", PHONE, "--yes")

    assert code == exit_codes.CONFIG
    assert "receiptd db upgrade" in told


@pytest.mark.parametrize(
    ("error", "code"),
    [(StoreUnavailable("locked"), exit_codes.UNAVAILABLE), (KeyboardInterrupt(), 130)],
)
def test_who_stopped_it_is_told_how_to_go_on(
    run: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    monkeypatch.setattr(erase, "_RETRY_PAUSE_S", 0)

    def stop(*arguments: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(erasure, "finish", stop)
        found, out, told = run("--phone", PHONE, "--yes")

    assert (found, out) == (code, "")
    assert "stopped after 4 rows; run it again" in told
    assert run("--phone", PHONE, "--yes")[0] == exit_codes.OK
    finished = ask("sqlite:///x.db", "SELECT finished_at IS NULL FROM erasures ORDER BY id")
    assert finished == [(1,), (0,)]


def test_old_copies_are_told_and_a_vacuum_removes_them(run: Any) -> None:
    store = open_store("sqlite:///x.db", SystemClock())
    with store.writing() as connection:
        connection.exec_driver_sql("PRAGMA secure_delete = OFF")
        connection.exec_driver_sql("DELETE FROM uplinks")
    store.close()

    code, _, told = run("--phone", PHONE, "--yes")
    assert code == exit_codes.OK
    assert "--vacuum" in told

    assert run("--phone", PHONE, "--yes", "--vacuum")[2] == ""
