"""SQLite's own: durability, addresses, and which error means what."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from receiptd.clock import ManualClock
from receiptd.errors import ConfigError, StoreRejected, StoreUnavailable
from receiptd.store import Store, open_store
from receiptd.store.dialects.sqlite import SqliteDialect, durability
from tests.store.store_samples import entries, open_new, receipt

DIALECT = SqliteDialect()


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = open_new(path)
    yield store
    store.close()


def error(name: str, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    raised = kind("text with +8613987654321")
    raised.sqlite_errorname = name
    return raised


def test_a_writing_connection_is_wal_and_full_and_waits_for_locks(store: Store) -> None:
    with store._engines.writer.begin() as connection:
        told = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "journal_size_limit")
        }

    assert told == {
        "journal_mode": "wal",
        "synchronous": 2,
        "busy_timeout": 5000,
        "journal_size_limit": 64 << 20,
    }


def test_a_writer_takes_its_lock_before_it_reads(store: Store, path: Path) -> None:
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        with (
            store._engines.writer.begin(),
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN IMMEDIATE")
    finally:
        other.close()


def test_a_reading_connection_cannot_write(store: Store) -> None:
    with (
        pytest.raises(OperationalError, match="readonly"),
        store._engines.reader.begin() as connection,
    ):
        connection.exec_driver_sql("DELETE FROM receipts")


def test_a_connection_without_write_ahead_log_is_a_problem_with_a_cure() -> None:
    memory = sqlite3.connect(":memory:")
    memory.execute("PRAGMA synchronous = NORMAL")

    first, second = durability(memory)
    memory.close()

    assert (first.value, second.value) == ("memory", "1")
    assert first.cure
    assert second.cure


def test_a_file_that_cannot_have_a_write_ahead_log_is_refused(tmp_path: Path) -> None:
    # This VFS locks with files beside the database and has no shared memory, like many a network
    # drive.
    store = open_store(f"sqlite:///file:{tmp_path}/a.db?vfs=unix-dotfile&uri=true", ManualClock())

    assert "write-ahead log" in store.problems()[0].rule
    with pytest.raises(ConfigError, match="write-ahead log"):
        store.save(entries(receipt()))
    store.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:a?mode=memory"])
def test_a_database_in_memory_is_refused_with_a_cure(url: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.url: a database in memory.*name a file"):
        open_store(url, ManualClock())


def test_a_missing_directory_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"directory does not exist.*mkdir -p {tmp_path}/none"):
        open_store(f"sqlite:///{tmp_path}/none/a.db", ManualClock())


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        open_store(f"sqlite:///{tmp_path}", ManualClock())


def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # root may write anywhere

    with pytest.raises(ConfigError, match=f"cannot be written.*{tmp_path}"):
        open_store(f"sqlite:///{tmp_path}/a.db", ManualClock())


def test_a_relative_path_is_under_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert DIALECT.url_problems(make_url("sqlite:///receiptd.db")) == []


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("SQLITE_BUSY", "locked"),
        ("SQLITE_BUSY_SNAPSHOT", "locked"),
        ("SQLITE_FULL", "make room"),
        ("SQLITE_IOERR_FSYNC", "disk fails"),
        ("SQLITE_READONLY_DBMOVED", "owner and mode"),
        ("SQLITE_CANTOPEN", "directory"),
        ("SQLITE_ERROR", "db upgrade"),
        ("SQLITE_CORRUPT", "damaged"),
        ("SQLITE_SOMETHING", "failed"),
    ],
)
def test_the_databases_own_troubles_make_it_unavailable(name: str, cure: str) -> None:
    translated = DIALECT.translate(DBAPIError("INSERT", {}, error(name)))

    assert isinstance(translated, StoreUnavailable)
    assert name in str(translated)
    assert cure in str(translated)
    assert "139" not in str(translated)


@pytest.mark.parametrize(
    "cause",
    [
        error("SQLITE_CONSTRAINT_TRIGGER", sqlite3.IntegrityError),
        error("SQLITE_TOOBIG", sqlite3.DataError),
        UnicodeEncodeError("utf-8", "+8613987654321\ud800", 14, 15, "surrogates not allowed"),
        OverflowError("Python int too large"),
        TypeError("+8613987654321"),
        sqlite3.ProgrammingError("Error binding parameter 1: type 'list' is not supported"),
        sqlite3.InterfaceError("Error binding parameter 0 - probably unsupported type"),
    ],
)
def test_a_rows_data_makes_it_rejected(cause: Exception) -> None:
    translated = DIALECT.translate(cause)

    assert isinstance(translated, StoreRejected)
    assert "139" not in str(translated)


@pytest.mark.parametrize(
    "cause",
    [
        PoolTimeout("QueuePool limit"),
        MemoryError(),
        sqlite3.ProgrammingError("Cannot operate on a closed database."),
    ],
)
def test_what_may_pass_makes_the_database_unavailable(cause: Exception) -> None:
    assert isinstance(DIALECT.translate(cause), StoreUnavailable)


def test_a_bug_is_no_word_of_the_database() -> None:
    assert DIALECT.translate(LookupError("a bug")) is None
    assert DIALECT.translate(sqlite3.ProgrammingError("Incorrect number of bindings")) is None


def test_a_transaction_that_was_lost_is_never_committed(path: Path) -> None:
    store = open_new(path)

    def lose(connection: object, cursor: sqlite3.Cursor, statement: str, *rest: object) -> None:
        if "INTO receipts" in statement:
            cursor.connection.execute("ROLLBACK")  # as SQLite does by itself on a full disk

    event.listen(store._engines.writer, "after_cursor_execute", lose)

    with pytest.raises(StoreUnavailable, match="rolled back before its commit"):
        store.save(entries(receipt()))
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")
def test_a_folder_that_this_user_may_not_enter_is_named_with_a_cure(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    tmp_path.chmod(0o700)
    os.setresuid(65534, 65534, 0)
    try:
        [problem] = DIALECT.url_problems(make_url(f"sqlite:///{folder}/receiptd.db"))
    finally:
        os.setresuid(0, 0, 0)

    assert problem.value == str(folder)
    assert problem.cure
