"""SQLite: one file, WAL, every commit on the disk before it is reported."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql.dml import Insert

from receiptd.errors import (
    ConfigError,
    Problem,
    ReceiptdError,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from receiptd.store import merge_sql, rows, schema
from receiptd.store.dialects.base import BRIEF, Engines
from receiptd.store.types import sqlite_time

_PLACE = "database.url"
_BUSY_S = 5.0  # another process's transaction is milliseconds; longer is a fault
_BRIEF_MS = 500
_POOL_S = 30.0
_FULL = 2  # PRAGMA synchronous: with less, a power cut undoes commits that were acked
_ROWS_AT_ONCE = 16  # a batch; twice as many gain 3 %, and cost 0.5 MB
_CACHE_KIB = 2048  # twice as much cost 2 MB of RSS and gained nothing
# Each reader has its own, empty again after whatever another connection wrote: beside traffic it
# serves one question only. With the default, 2 MB, the roll-ups were no faster.
_READER_CACHE_KIB = 256

_CURES = {
    "SQLITE_BUSY": "another process holds the database locked",
    "SQLITE_LOCKED": "another process holds the database locked",
    "SQLITE_FULL": "the disk is full: make room",
    "SQLITE_READONLY": "the file cannot be written: look at its owner and mode",
    "SQLITE_CANTOPEN": "the file cannot be opened: look at its directory, owner and mode",
    "SQLITE_IOERR": "the disk fails",
    "SQLITE_CORRUPT": "the file is damaged: restore a backup",
    "SQLITE_NOTADB": "the file is no SQLite database",
    "SQLITE_ERROR": "the schema does not fit: run `receiptd db upgrade`",
}


class SqliteDialect:
    """See base.Dialect."""

    is_local = True
    has_transactional_ddl = True

    def url_problems(self, url: URL) -> list[Problem]:
        path = url.database or ""
        if not path or ":memory:" in path or url.query.get("mode") == "memory":
            rule = "a database in memory forgets what was acked"
            return [Problem(_PLACE, rule, cure="name a file: sqlite:///receiptd.db")]
        if path.startswith("file:"):
            return []  # SQLite's own spelling; it reports by itself
        file = Path(path)
        folder = file.parent
        # By os.path: pathlib raises where this user may not enter a directory on the way.
        if not os.path.isdir(folder):
            rule = "the directory does not exist"
            return [Problem(_PLACE, rule, str(folder), f"mkdir -p {folder}")]
        if os.path.isdir(file):
            return [Problem(_PLACE, "is a directory", path, "name a file in it")]
        # The directory too: the -wal and -shm files are made beside the database.
        for place, mode in ((folder, os.W_OK | os.X_OK), (file, os.W_OK)):
            if os.path.exists(place) and not os.access(place, mode):
                rule = "cannot be written by this user"
                return [Problem(_PLACE, rule, str(place), "look at its owner and mode")]
        return []

    def is_missing(self, url: URL) -> bool:
        path = url.database or ""
        return not path.startswith("file:") and not os.path.exists(path)

    def engines(self, url: URL) -> Engines:
        # One connection writes, because SQLite has one writer anyway: who waits, waits here and
        # not in a busy loop.
        writer = _engine(url, size=1, overflow=0)
        event.listen(writer, "connect", _prepare_writer)
        # A deferred BEGIN that reads first and writes after another's commit fails at once,
        # whatever the busy timeout.
        event.listen(writer, "begin", _begin_immediate)
        event.listen(writer, "commit", _refuse_lost_transaction)
        reader = _engine(url, size=2, overflow=6)
        event.listen(reader, "connect", _prepare_reader)
        event.listen(reader, "begin", _begin_deferred)
        return Engines(writer, reader)

    def migrating(self, connection: Connection) -> AbstractContextManager[None]:
        return nullcontext()  # the transaction itself has the only writer's lock

    time = staticmethod(sqlite_time)  # as it is: a frame of our own costs as much as a hit

    def upsert_receipts(self, connection: Connection, rows: Sequence[rows.Row]) -> int:
        return _many(connection, _upsert(), rows)

    def append(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[rows.Row],
    ) -> None:
        _many(connection, _insert(table, tuple(columns)), rows)

    def insert_new(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[rows.Row],
    ) -> int:
        return _many(connection, _insert_new(table, tuple(columns)), rows)

    def translate(self, error: Exception) -> StoreError | None:
        cause = error.orig if isinstance(error, StatementError) else error
        if isinstance(cause, (sqlite3.IntegrityError, sqlite3.DataError)):
            return StoreRejected(f"the database refused the data ({_name(cause)})")
        if isinstance(cause, (sqlite3.ProgrammingError, sqlite3.InterfaceError)):
            return _translate_misuse(cause)
        if isinstance(cause, sqlite3.Error):
            name = _name(cause)
            family = "_".join(name.split("_")[:2])  # SQLITE_IOERR_FSYNC -> SQLITE_IOERR
            return StoreUnavailable(f"{name}: {_CURES.get(family, 'the database failed')}")
        if isinstance(cause, PoolTimeout):
            return StoreUnavailable(f"no connection became free within {_POOL_S:g} s")
        if isinstance(cause, MemoryError):
            return StoreUnavailable("out of memory")
        # UnicodeEncodeError is a ValueError. The driver raises them bare, so `except DBAPIError`
        # would miss them.
        if isinstance(cause, (ValueError, OverflowError, TypeError)):
            return StoreRejected(f"the driver refused the data ({type(cause).__name__})")
        return None

    def is_deadlock(self, error: Exception) -> bool:
        return False  # one writer at a time

    def durability(self, connection: Connection) -> list[Problem]:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        return durability(raw)


def durability(connection: sqlite3.Connection) -> list[Problem]:
    """Return what keeps a commit on this connection from surviving a power cut, read back."""
    problems = []
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        cure = "put the file on a local disk that this user can write"
        problems.append(Problem(_PLACE, "SQLite cannot use its write-ahead log here", mode, cure))
    (level,) = connection.execute("PRAGMA synchronous").fetchone()
    if level < _FULL:
        cure = "use a SQLite library that obeys PRAGMA synchronous"
        problems.append(Problem(_PLACE, "commits would not reach the disk", str(level), cure))
    return problems


def _engine(url: URL, *, size: int, overflow: int) -> Engine:
    return create_engine(
        url,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=overflow,
        pool_use_lifo=True,  # by turns, each connection would fill its own cache
        pool_timeout=_POOL_S,
        hide_parameters=True,
        # isolation_level None: the driver begins nothing by itself, the events do.
        connect_args={"timeout": _BUSY_S, "isolation_level": None, "check_same_thread": False},
    )


def _prepare_writer(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    # What is erased shall not stand in freed pages. Debian's build has it on anyway.
    connection.execute("PRAGMA secure_delete = ON")
    if problems := durability(connection):
        connection.close()
        raise ConfigError(problems)


def _prepare_reader(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB}")


def _begin_immediate(connection: Connection) -> None:
    if not connection.get_execution_options().get(BRIEF):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    patience_ms: int = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {min(patience_ms, _BRIEF_MS)}")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience_ms}")


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _refuse_lost_transaction(connection: Connection) -> None:
    # SQLite rolls back by itself when the disk is full, and the driver's commit() is then a no-op
    # that looks like success.
    raw = connection.connection.dbapi_connection
    if not (isinstance(raw, sqlite3.Connection) and raw.in_transaction):
        raise StoreUnavailable("the transaction was rolled back before its commit")


def _translate_misuse(error: sqlite3.Error) -> StoreError | None:
    text = str(error)
    if text.startswith("Error binding parameter"):
        return StoreRejected("the driver refused the data (unsupported type)")
    if "closed database" in text:
        return StoreUnavailable("the connection was closed")
    return None


def _name(error: sqlite3.Error) -> str:
    # Only the code's name: the text of a constraint or a trigger may quote the row.
    return getattr(error, "sqlite_errorname", None) or type(error).__name__


def _many(connection: Connection, sql: str, rows: Sequence[rows.Row]) -> int:
    """Execute an INSERT of one row for all `rows`; return how many it inserted or changed."""
    # Many rows in one step of SQLite cost a sixth less than a step each, and each step gives up
    # the interpreter's lock, for which 63 other threads may wait.
    whole = len(rows) - len(rows) % _ROWS_AT_ONCE
    changed = 0
    for start in range(0, whole, _ROWS_AT_ONCE):
        values = tuple(chain.from_iterable(rows[start : start + _ROWS_AT_ONCE]))
        changed += connection.exec_driver_sql(_for_many(sql, len(rows[0])), values).rowcount
    if rest := rows[whole:]:
        # Straight to the driver's executemany: Core's own way to it costs as much again per row.
        parameters: Any = rest
        changed += connection.exec_driver_sql(sql, parameters).rowcount
    return changed


@cache
def _for_many(sql: str, columns: int) -> str:
    """Return an INSERT of one row as one of _ROWS_AT_ONCE."""
    row = f"({', '.join('?' * columns)})"
    before, found, after = sql.partition(f"VALUES {row}")
    if not found:
        raise ReceiptdError("the statement inserts no row")
    return f"{before}VALUES {', '.join([row] * _ROWS_AT_ONCE)}{after}"


@cache
def _upsert() -> str:
    insert = sqlite.insert(schema.receipts)
    identity = schema.identity(schema.receipts)
    old, new = schema.receipts.c, insert.excluded
    values = merge_sql.merged(old, new)
    statement = insert.on_conflict_do_update(
        index_elements=identity,
        set_=values | {"updated_at": new["updated_at"]},
        where=merge_sql.changes(old, new),
    )
    return _compiled(statement, rows.RECEIPTS)


@cache
def _insert(table: Table, columns: tuple[str, ...]) -> str:
    return _compiled(sqlite.insert(table), columns)


@cache
def _insert_new(table: Table, columns: tuple[str, ...]) -> str:
    # Not OR IGNORE, which also swallows a missing value.
    statement = sqlite.insert(table).on_conflict_do_nothing(index_elements=schema.identity(table))
    return _compiled(statement, columns)


def _compiled(statement: Insert, columns: Sequence[str]) -> str:
    compiled = statement.compile(
        dialect=sqlite.dialect(paramstyle="qmark"), column_keys=list(columns)
    )
    if compiled.positiontup != list(columns):
        raise ReceiptdError("the statement's order is not the rows'")
    return str(compiled)
