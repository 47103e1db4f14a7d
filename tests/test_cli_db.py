"""`receiptd db prune`: what it deletes, what it prints, how it ends."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from receiptd.cli import exit_codes, main
from receiptd.clock import SystemClock
from receiptd.config import loading
from receiptd.store import Store, open_store
from receiptd.store.leases import read_time
from receiptd.store.schema import journal, receipts

TABLES = {"journal": 0, "receipts": 0, "progress": 0}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    (tmp_path / "config.toml").write_text('[database]\nurl = "sqlite:///x.db"\n')
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """A database with journal rows and receipts of 0, 10, ... 100 days of age."""
    store = open_store(f"sqlite:///{folder}/x.db", SystemClock())
    store.upgrade()
    with store._talking(store._engines.writer) as connection:
        now = read_time(connection, SystemClock())
        for age in range(100, -1, -10):
            at = now - timedelta(days=age)
            row = {"source": "s", "envelope_id": str(age), "part": 0, "body": "{}"}
            outcome = "quarantined" if age == 100 else "stored"
            said = {"encoding": "text", "kind": "receipt", "outcome": outcome, "received_at": at}
            connection.execute(insert(journal).values(row | said))
            key = {"provider": "aliyun", "account": "main", "biz_id": str(age), "phone": "1"}
            state = {"status": "failed", "origin": "queue", "created_at": at, "updated_at": at}
            connection.execute(insert(receipts).values(key | state))
    yield store
    store.close()


def left(store: Store) -> tuple[int, int]:
    with store._talking(store._engines.reader) as connection:
        return (
            len(connection.scalars(select(journal.c.id)).all()),
            len(connection.scalars(select(receipts.c.id)).all()),
        )


def test_it_goes_by_the_configured_retention(
    store: Store, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "config.toml").open("a") as file:
        file.write('[retention]\njournal = "45d"\nreceipts = "75d"\n')

    assert main(["db", "prune"]) == exit_codes.OK

    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        "journal     5 rows deleted",
        "receipts    3 rows deleted",
        "progress    0 rows deleted",
        "quarantined 1 old rows kept",
    ]
    assert left(store) == (6, 8)


def test_options_stand_above_the_configuration(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--journal", "forever", "--receipts", "15d", "--json"]

    assert main(["db", "prune", *arguments]) == exit_codes.OK

    told = json.loads(capsys.readouterr().out)
    assert told == TABLES | {"dry_run": False, "receipts": 9, "quarantined_kept": 0}
    assert left(store) == (11, 2)


def test_quarantined_rows_go_only_when_told(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--journal", "95d", "--json"]

    main(["db", "prune", *arguments])
    told = json.loads(capsys.readouterr().out)
    assert (told["journal"], told["quarantined_kept"]) == (0, 1)

    main(["db", "prune", *arguments, "--include-quarantined"])
    told = json.loads(capsys.readouterr().out)
    assert (told["journal"], told["quarantined_kept"]) == (1, 0)


def test_a_dry_run_deletes_nothing(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "prune", "--journal", "15d", "--dry-run"]) == exit_codes.OK

    assert "journal     8 rows to delete\n" in capsys.readouterr().out
    assert left(store) == (11, 11)


@pytest.mark.parametrize("age", ["", "90", "0d", "90 days", "-1d", "never"])
def test_what_is_no_age_is_wrong_usage(age: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "prune", f"--receipts={age}"]) == exit_codes.USAGE

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--receipts" in captured.err


def test_without_a_database_it_says_so_and_makes_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["db", "prune"]) == exit_codes.CONFIG

    assert "run `receiptd db upgrade`" in capsys.readouterr().err
    assert not (folder / "x.db").exists()


def test_nothing_is_drawn_where_stderr_is_no_terminal(store: Store) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "receiptd", "db", "prune", "--journal", "15d"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (exit_codes.OK, "")
    assert done.stdout.startswith("journal     8 rows deleted\n")
