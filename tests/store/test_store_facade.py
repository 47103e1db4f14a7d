"""The store from outside: opening, and progress."""

import sqlite3
import sys
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, event

from receiptd.clock import ManualClock
from receiptd.errors import ConfigError, StoreUnavailable
from receiptd.store import Store, open_store
from tests.store.store_samples import NOON, Database, entries, open_new, receipt


class Progress(msgspec.Struct, kw_only=True):
    pulled: int = 0
    redelivered: int = 0
    records: int = 0
    changed: int = 0
    quarantined: int = 0
    acked: int = 0
    ack_expired: int = 0
    ack_failed: int = 0
    last_pull_at: datetime | None = None
    last_commit_at: datetime | None = None


@pytest.mark.parametrize(
    "url", ["oracle://scott:tiger@db/x", "sqlite+aiosqlite:///a.db", "mysql+nosuch://u:tiger@h/d"]
)
def test_an_unknown_database_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.url: is of an unknown kind") as caught:
        open_store(url, ManualClock())

    assert "tiger" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "tiger", "postgresql+psycopg://u:tiger@h:port/d"])
def test_what_is_no_address_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.url: is no database address") as caught:
        open_store(url, ManualClock())

    assert "tiger" not in str(caught.value)
    assert caught.value.__context__ is None


def test_opening_does_not_touch_the_disk(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/a.db", ManualClock())
    store.close()

    assert list(tmp_path.iterdir()) == []


def test_a_healthy_store_has_no_problems(store: Store, database: Database) -> None:
    assert store.problems() == []
    assert store.is_local == database.is_sqlite


def test_a_store_without_schema_says_how_to_make_it(database: Database) -> None:
    store = database.open(upgrade=False)

    (problem,) = store.problems()
    with pytest.raises(StoreUnavailable, match="receiptd db upgrade"):
        store.save(entries(receipt()))
    store.close()

    assert (problem.rule, problem.cure) == (
        "the database has no schema",
        "run `receiptd db upgrade`",
    )


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
def test_a_servers_address_without_a_database_is_a_problem(scheme: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.url: names no database; end it with"):
        open_store(f"{scheme}://user:tiger@127.0.0.1/", ManualClock())


@pytest.mark.parametrize(
    ("scheme", "driver", "extra"),
    [("postgresql", "psycopg", "postgres"), ("mysql", "pymysql", "mysql")],
)
def test_a_missing_driver_is_a_problem_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, scheme: str, driver: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, driver, None)

    with pytest.raises(ConfigError, match=rf"driver {driver}; pip install 'receiptd\[{extra}\]'"):
        open_store(f"{scheme}://user@127.0.0.1/receiptd", ManualClock())


def test_a_directory_that_vanished_is_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    store = open_store(f"sqlite:///{folder}/a.db", ManualClock())
    folder.rmdir()

    assert "directory does not exist" in store.problems()[0].rule
    with pytest.raises(ConfigError, match="directory does not exist"):
        store.upgrade()
    with pytest.raises(StoreUnavailable, match="SQLITE_CANTOPEN"):
        store.save(entries(receipt()))
    store.close()


def test_progress_is_one_row_per_instance_and_source(store: Store, database: Database) -> None:
    store.record_progress("a:1", "sms", Progress(pulled=1, last_pull_at=NOON))
    store.record_progress("a:1", "sms", Progress(pulled=16, acked=2**40, last_pull_at=NOON))

    told = database.row("progress")
    assert (told["instance"], told["source"]) == ("a:1", "sms")
    assert (told["pulled"], told["acked"], told["last_commit_at"]) == (16, 2**40, None)

    store.record_progress("a:2", "sms", Progress())
    assert database.count("progress") == 2


def test_progress_that_is_the_same_can_be_recorded_again(store: Store, database: Database) -> None:
    store.record_progress("a:1", "sms", Progress())
    store.record_progress("a:1", "sms", Progress())

    assert database.count("progress") == 1


def test_on_sqlite_progress_waits_only_briefly_for_a_lock_and_saving_keeps_its_patience(
    path: Path,
) -> None:
    store = open_new(path)
    waited: list[int] = []

    def look(connection: Connection) -> None:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        waited.append(raw.execute("PRAGMA busy_timeout").fetchone()[0])

    def look_at(connection: Connection, cursor: sqlite3.Cursor, sql: str, *rest: object) -> None:
        if sql == "BEGIN IMMEDIATE":
            look(connection)

    event.listen(store._engines.writer, "before_cursor_execute", look_at)
    store.record_progress("a:1", "sms", Progress())
    store.save(entries(receipt()))

    store.close()
    assert waited == [500, 5000]


def test_on_sqlite_progress_under_a_lock_is_unavailable(path: Path) -> None:
    store = open_new(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
        store.record_progress("a:1", "sms", Progress())
    other.close()

    store.record_progress("a:1", "sms", Progress())
    store.close()


def test_asking_what_is_wrong_does_not_make_the_database(path: Path) -> None:
    store = open_store(f"sqlite:///{path}", ManualClock())

    (problem,) = store.problems()
    store.close()

    assert problem.rule == "the database has no schema"
    assert not path.exists()
