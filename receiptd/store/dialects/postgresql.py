"""PostgreSQL 13 or later, by psycopg 3.

A batch is one parameter, a JSON array of rows: one statement and one round trip per table however
many rows there are, and a fifth of executemany's CPU on our side.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache, partial
from typing import Any

import msgspec
import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import (
    URL,
    Boolean,
    Connection,
    Integer,
    Table,
    bindparam,
    cast,
    event,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.dml import Insert

from receiptd.errors import ConfigError, Problem, ReceiptdError, StoreError, StoreRejected
from receiptd.store import merge_sql, rows, schema
from receiptd.store.dialects import server
from receiptd.store.dialects.base import BRIEF, Engines, Limits
from receiptd.store.dialects.guarded import GuardedConnection
from receiptd.store.dialects.postgresql_errors import meaning
from receiptd.store.types import UTC

_OLDEST = 13
# Any number that nobody else would think of: the ASCII of "receiptd".
_MIGRATION_LOCK = int.from_bytes(b"receiptd")
_PAYLOAD_BYTES = 16 << 20  # memory, on both sides; PostgreSQL's own limit is 256 MB
_encode = msgspec.json.Encoder().encode


class PostgresqlDialect:
    """See base.Dialect."""

    is_local = False
    has_transactional_ddl = True

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    def url_problems(self, url: URL) -> list[Problem]:
        return server.url_problems(url)

    def is_missing(self, url: URL) -> bool:
        return False

    def engines(self, url: URL) -> Engines:
        writer, reader = (
            server.engine(
                url.set(drivername="postgresql+psycopg"),
                self._limits,
                partial(_connect, self._limits, is_reader),
                lambda connection: -1 if connection.closed else connection.fileno(),
            )
            for is_reader in (False, True)
        )
        brief_ms = round(self._limits.brief_lock_s * 1000)

        def be_brief(connection: Connection) -> None:
            if connection.get_execution_options().get(BRIEF):
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {brief_ms}")

        event.listen(writer, "begin", be_brief)
        return Engines(writer, reader)

    @contextmanager
    def migrating(self, connection: Connection) -> Iterator[None]:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, GuardedConnection)
        limit_ms = round(self._limits.upgrade_s * 1000)
        wait_ms = round(self._limits.other_upgrade_s * 1000)
        lock_ms = round(self._limits.lock_s * 1000)
        with raw.patient(self._limits.upgrade_s):
            for sql in (
                f"SET LOCAL statement_timeout = {limit_ms}",
                f"SET LOCAL lock_timeout = {wait_ms}",
                f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})",
                # Whoever waits for a table's lock makes all others wait behind it.
                f"SET LOCAL lock_timeout = {lock_ms}",
            ):
                connection.exec_driver_sql(sql)
            yield

    def time(self, value: datetime) -> object:
        if value.utcoffset() is None:
            raise ValueError("a time without offset")
        return value  # the JSON encoder writes it with its offset

    def upsert_receipts(self, connection: Connection, rows: Sequence[rows.Row]) -> int:
        return _many(connection, _upsert(), rows)

    def append(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[rows.Row],
    ) -> None:
        _many(connection, _append(table, tuple(columns)), rows)

    def insert_new(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[rows.Row],
    ) -> int:
        return _many(connection, _insert_new(table, tuple(columns)), rows)

    def translate(self, error: Exception) -> StoreError | None:
        cause = server.cause(error)
        if isinstance(cause, psycopg.Error):
            return meaning(cause)
        if isinstance(cause, msgspec.MsgspecError):
            return StoreRejected(f"the driver refused the data ({type(cause).__name__})")
        return server.translate(cause)

    def is_deadlock(self, error: Exception) -> bool:
        return getattr(server.cause(error), "sqlstate", None) in ("40P01", "40001")

    def durability(self, connection: Connection) -> list[Problem]:
        names = "synchronous_commit", "fsync", "server_encoding", "server_version_num"
        query = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
        return _refusals(*connection.exec_driver_sql(query).one())


def _connect(
    limits: Limits, is_reader: bool, cargs: tuple[Any, ...], cparams: dict[str, Any]
) -> GuardedConnection:
    network: dict[str, Any] = {
        "connect_timeout": max(round(limits.connect_s), 1),
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": round(limits.answer_s * 1000),
        "client_encoding": "UTF8",
        "application_name": "receiptd",
        # Only ever asked for on purpose, and its negotiation costs a round trip.
        "gssencmode": "disable",
    }
    connection = GuardedConnection.connect(*cargs, autocommit=True, **(network | cparams))
    try:
        connection.patience_s = limits.answer_s
        session = {
            "lock_timeout": str(round(limits.lock_s * 1000)),
            "statement_timeout": str(round(limits.statement_s * 1000)),
            "idle_in_transaction_session_timeout": str(round(limits.idle_in_transaction_s * 1000)),
            "timezone": "UTC",
        }
        if is_reader:  # a report is of one moment
            session |= {
                "default_transaction_read_only": "on",
                "default_transaction_isolation": "repeatable read",
            }
        # By set_config and not by startup options, which PgBouncer refuses.
        settings = ", ".join(f"set_config('{name}', '{to}', false)" for name, to in session.items())
        query = (
            f"SELECT current_setting('synchronous_commit'), current_setting('fsync'),"
            f" current_setting('server_encoding'), current_setting('server_version_num'),"
            f" {settings}"
        )
        found = connection.execute(query.encode()).fetchone()
        assert found is not None
        if not is_reader and (problems := _refusals(*found[:4])):
            raise ConfigError(problems)
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise
    return connection


def _refusals(synchronous_commit: str, fsync: str, encoding: str, version: str) -> list[Problem]:
    problems = []
    if synchronous_commit == "off":
        cure = "ALTER DATABASE … SET synchronous_commit = on, or ALTER ROLE …"
        rule = "commits would not reach the disk: synchronous_commit"
        problems.append(Problem(server.PLACE, rule, synchronous_commit, cure))
    if fsync == "off":
        cure = "set fsync = on in postgresql.conf and reload"
        rule = "commits would not reach the disk: fsync"
        problems.append(Problem(server.PLACE, rule, fsync, cure))
    if encoding != "UTF8":
        cure = "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        problems.append(Problem(server.PLACE, "the database is not in UTF-8", encoding, cure))
    if int(version) < _OLDEST * 10000:
        rule = f"needs PostgreSQL {_OLDEST} or later"
        problems.append(Problem(server.PLACE, rule, version, "upgrade the server"))
    return problems


def _many(connection: Connection, sql: str, many: Sequence[rows.Row]) -> int:
    if not many:
        return 0
    payload = _encode(many)
    if len(payload) > _PAYLOAD_BYTES and len(many) > 1:
        middle = len(many) // 2
        return _many(connection, sql, many[:middle]) + _many(connection, sql, many[middle:])
    return connection.exec_driver_sql(sql, (Jsonb(payload, dumps=bytes),)).rowcount


@cache
def _upsert() -> str:
    insert = postgresql.insert(schema.receipts)
    old, new = schema.receipts.c, insert.excluded
    values = merge_sql.merged(old, new)
    return _compiled(
        insert,
        schema.receipts,
        rows.RECEIPTS,
        lambda insert: insert.on_conflict_do_update(
            index_elements=schema.identity(schema.receipts),
            set_=values | {"updated_at": new["updated_at"]},
            where=merge_sql.changes(old, new),
        ),
    )


@cache
def _append(table: Table, columns: tuple[str, ...]) -> str:
    return _compiled(postgresql.insert(table), table, columns, lambda insert: insert)


@cache
def _insert_new(table: Table, columns: tuple[str, ...]) -> str:
    return _compiled(
        postgresql.insert(table),
        table,
        columns,
        lambda insert: insert.on_conflict_do_nothing(index_elements=schema.identity(table)),
    )


def _compiled(
    insert: postgresql.Insert,
    table: Table,
    columns: Sequence[str],
    finish: Callable[[postgresql.Insert], Insert],
) -> str:
    """Return INSERT INTO table (columns) SELECT … FROM jsonb_array_elements(%s), finished."""
    # JSONB, because JSON is parsed again for each field.
    many = cast(bindparam("many"), postgresql.JSONB)
    row = func.jsonb_array_elements(many).column_valued("new_row")
    values = (_value(row, index, table.c[name]) for index, name in enumerate(columns))
    filled = insert.from_select(list(columns), select(*values), include_defaults=False)
    dialect = postgresql.dialect(paramstyle="format")  # type: ignore[no-untyped-call]
    compiled = finish(filled).compile(dialect=dialect)
    if compiled.positiontup != ["many"]:
        raise ReceiptdError("the statement takes more than the rows")
    return str(compiled)


def _value(row: ColumnElement[Any], index: int, column: ColumnElement[Any]) -> ColumnElement[Any]:
    text = row.op("->>")(literal_column(str(index)))
    kind = column.type
    # A text stays one: an explicit cast to VARCHAR(n) would cut it in silence.
    if isinstance(kind, (Integer, Boolean, UTC)):
        return cast(text, kind)
    return text
