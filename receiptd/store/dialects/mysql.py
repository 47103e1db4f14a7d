"""MySQL 8 and MariaDB 10.6 or later, by PyMySQL.

Identities are utf8mb4 text in a binary collation that does not pad (types.ByteText) rather than
VARBINARY: the same bytes are compared, lengths count characters as elsewhere, and a person who
reads the table sees text.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache, partial
from typing import Any

import pymysql
from pymysql.constants import CLIENT
from sqlalchemy import URL, Connection, Table, case, event, literal_column
from sqlalchemy.dialects import mysql
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.dml import Insert

from receiptd.errors import ConfigError, Problem, ReceiptdError, StoreError, StoreUnavailable
from receiptd.store import merge_sql, rows, schema
from receiptd.store.dialects import mysql_rows, server
from receiptd.store.dialects.base import BRIEF, Engines, Limits
from receiptd.store.dialects.mysql_errors import DEADLOCKS, meaning
from receiptd.store.merge import VERDICT
from receiptd.store.types import sqlite_time

_OLDEST = {"MySQL": (8, 0, 17), "MariaDB": (10, 6, 0)}  # utf8mb4_0900_bin; JSON and DDL as we do it
_STRICT = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
# Rows per statement. 128, 256, 512 and 1,024 cost the same within 8 %, on both sides together; a
# merge may have to read for each row, within `statement_s`, but appending is one round trip.
_MERGED_ROWS = 256
_APPENDED_ROWS = 1024
_FACTS = (
    "SELECT VERSION(), @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.log_bin,"
    " @@GLOBAL.sync_binlog"
)
_LOCK_NAME = "CONCAT('receiptd:', SHA1(DATABASE()))"  # such names are the whole server's


class MysqlDialect:
    """See base.Dialect."""

    is_local = False
    has_transactional_ddl = False

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    def url_problems(self, url: URL) -> list[Problem]:
        return server.url_problems(url)

    def is_missing(self, url: URL) -> bool:
        return False

    def engines(self, url: URL) -> Engines:
        writer, reader = (
            server.engine(
                url.set(drivername="mysql+pymysql"),
                self._limits,
                partial(_connect, self._limits, is_reader),
                lambda connection: connection._sock.fileno() if connection.open else -1,
            )
            for is_reader in (False, True)
        )
        event.listen(writer, "begin", self._set_lock_patience)
        mysql_rows.listen(writer)
        return Engines(writer, reader)

    def _set_lock_patience(self, connection: Connection) -> None:
        # Of the session, because MySQL has nothing like SET LOCAL.
        is_brief = bool(connection.get_execution_options().get(BRIEF))
        if connection.info.get("is_brief", False) != is_brief:
            seconds = self._limits.brief_lock_s if is_brief else self._limits.lock_s
            connection.exec_driver_sql(f"SET SESSION {_lock_patience(seconds)}")
            connection.info["is_brief"] = is_brief

    @contextmanager
    def migrating(self, connection: Connection) -> Iterator[None]:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, pymysql.Connection)
        patience_s = round(self._limits.upgrade_s)
        before, raw._read_timeout = raw._read_timeout, patience_s
        connection.exec_driver_sql(f"SET SESSION {_statement_patience(raw, patience_s)}")
        try:
            self._lock_migrations(connection)
            yield
        except BaseException:
            connection.invalidate()  # and the lock with it, which no rollback gives back
            raise
        raw.commit()  # before the next in line looks at what has been done
        connection.exec_driver_sql(f"SELECT RELEASE_LOCK({_LOCK_NAME})")
        limit = _statement_patience(raw, self._limits.statement_s)
        connection.exec_driver_sql(f"SET SESSION {limit}")
        raw._read_timeout = before

    def _lock_migrations(self, connection: Connection) -> None:
        wait_s = self._limits.other_upgrade_s
        if connection.exec_driver_sql(f"SELECT GET_LOCK({_LOCK_NAME}, {wait_s})").scalar() != 1:
            raise StoreUnavailable("another process is migrating the schema")

    def time(self, value: datetime) -> object:
        return sqlite_time(value)  # as text, which costs the driver a tenth of a datetime

    def upsert_receipts(self, connection: Connection, rows: Sequence[rows.Row]) -> int:
        return mysql_rows.write(connection, _upsert(), rows, _MERGED_ROWS)

    def append(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[rows.Row],
    ) -> None:
        mysql_rows.write(connection, _append(table, tuple(columns)), rows, _APPENDED_ROWS)

    def insert_new(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[rows.Row],
    ) -> int:
        return mysql_rows.write(connection, _insert_new(table, tuple(columns)), rows, _MERGED_ROWS)

    def translate(self, error: Exception) -> StoreError | None:
        cause = server.cause(error)
        if isinstance(cause, pymysql.Error):
            return meaning(cause)
        return server.translate(cause)

    def is_deadlock(self, error: Exception) -> bool:
        cause = server.cause(error)
        return isinstance(cause, pymysql.Error) and cause.args[:1] in DEADLOCKS

    def durability(self, connection: Connection) -> list[Problem]:
        return _refusals(*connection.exec_driver_sql(_FACTS).one())


def _connect(
    limits: Limits, is_reader: bool, cargs: tuple[Any, ...], cparams: dict[str, Any]
) -> "pymysql.Connection[Any]":
    # FOUND_ROWS would make an equal row look like a new one.
    cparams["client_flag"] = cparams.get("client_flag", 0) & ~CLIENT.FOUND_ROWS
    fixed = {
        "charset": "utf8mb4",
        "connect_timeout": limits.connect_s,
        # A server that accepts and says nothing is not connected to either.
        "read_timeout": limits.connect_s,
        "write_timeout": limits.statement_s,
        "sql_mode": _STRICT,
        "autocommit": False,
    }
    try:
        connection = pymysql.connect(*cargs, **(cparams | fixed))
    except RuntimeError as exc:  # the driver's, about the package `cryptography`
        rule = "the server's password plugin needs a package for RSA"
        problem = Problem(server.PLACE, rule, cure="pip install 'receiptd[mysql]', or use TLS")
        raise ConfigError([problem]) from exc
    try:
        connection._read_timeout = limits.answer_s
        _set_up(connection, limits, is_reader)
    except BaseException:
        connection._force_close()
        raise
    return connection


def _set_up(connection: "pymysql.Connection[Any]", limits: Limits, is_reader: bool) -> None:
    session = [
        "time_zone = '+00:00'",
        "default_storage_engine = InnoDB",
        _lock_patience(limits.lock_s),
        _statement_patience(connection, limits.statement_s),
    ]
    idle_s = round(limits.idle_in_transaction_s)
    if _is_mariadb(connection):
        session.append(f"idle_transaction_timeout = {idle_s}")
    else:  # MySQL knows only one for all connections; a pooled one that is closed is opened again
        session.append(f"wait_timeout = {idle_s}")
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION " + ", ".join(session))
        if is_reader:  # a report is of one moment
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return
        # Not MySQL's REPEATABLE READ: we never read before we write, so it would only add locks on
        # the gaps between keys, where another writer's new keys belong.
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute(_FACTS)
        problems = _refusals(*cursor.fetchone())
    if problems:
        raise ConfigError(problems)


def _refusals(version: str, flush: int, log_bin: int, sync_binlog: int) -> list[Problem]:
    problems = []
    if flush not in (1, 3):  # 3 is MariaDB's, and flushes once more
        cure = "SET GLOBAL innodb_flush_log_at_trx_commit = 1, or the server's parameter group"
        rule = "commits would not reach the disk: innodb_flush_log_at_trx_commit"
        problems.append(Problem(server.PLACE, rule, str(flush), cure))
    if log_bin and sync_binlog != 1:
        # With a binary log, recovery rolls back what the log does not have.
        cure = "SET GLOBAL sync_binlog = 1, or the server's parameter group"
        rule = "commits would not reach the disk: sync_binlog"
        problems.append(Problem(server.PLACE, rule, str(sync_binlog), cure))
    kind = "MariaDB" if "mariadb" in version.lower() else "MySQL"
    oldest = _OLDEST[kind]
    if _version(version) < oldest:
        rule = f"needs {kind} {'.'.join(map(str, oldest))} or later"
        problems.append(Problem(server.PLACE, rule, version, "upgrade the server"))
    return problems


def _version(text: str) -> tuple[int, ...]:
    # MariaDB may call itself 5.5.5-10.11.6-MariaDB, for the sake of old replicas.
    return tuple(map(int, re.findall(r"\d+", text.removeprefix("5.5.5-"))[:3]))


def _is_mariadb(connection: "pymysql.Connection[Any]") -> bool:
    return "mariadb" in connection.get_server_info().lower()


def _lock_patience(seconds: float) -> str:
    whole = max(round(seconds), 1)  # MySQL counts in whole seconds
    return f"innodb_lock_wait_timeout = {whole}, lock_wait_timeout = {whole}"


def _statement_patience(connection: "pymysql.Connection[Any]", seconds: float) -> str:
    if _is_mariadb(connection):
        return f"max_statement_time = {seconds}"
    return f"max_execution_time = {round(seconds * 1000)}"  # of SELECT; the rest is ours to end


@cache
def _upsert() -> mysql_rows.Insert:
    insert = mysql.insert(schema.receipts)
    statement = insert.on_duplicate_key_update(_assignments(insert))
    return _compiled(statement, rows.RECEIPTS)


def _assignments(insert: mysql.Insert) -> list[tuple[str, ColumnElement[Any]]]:
    # MySQL assigns from left to right, and what is read later is already assigned. So whether the
    # new verdict wins is asked once, while the row is still the old one, and kept in a variable;
    # the other columns read only themselves, and `conflict` comes before the status that it reads.
    old, new = schema.receipts.c, insert.inserted
    wins: ColumnElement[bool] = literal_column("@receiptd_wins")
    asked = wins.op(":=")(merge_sql.new_verdict_wins(old, new).self_group())
    values = merge_sql.merged(old, new)
    touched = new["updated_at"]
    changed = case((asked, touched), (merge_sql.fills(old, new), touched), else_=old["updated_at"])
    won = wins == literal_column("1")
    values["next_query_at"] = merge_sql.next_query(old, new, won)
    assignments: list[tuple[str, ColumnElement[Any]]] = [("updated_at", changed)]
    assignments += [(name, value) for name, value in values.items() if name not in VERDICT]
    assignments += [(name, case((won, new[name]), else_=old[name])) for name in VERDICT]
    return assignments


@cache
def _append(table: Table, columns: tuple[str, ...]) -> mysql_rows.Insert:
    return _compiled(mysql.insert(table), columns)


@cache
def _insert_new(table: Table, columns: tuple[str, ...]) -> mysql_rows.Insert:
    # Not INSERT IGNORE, which also swallows data that does not fit.
    statement = mysql.insert(table).on_duplicate_key_update(id=table.c.id)
    return _compiled(statement, columns)


def _compiled(statement: Insert, columns: Sequence[str]) -> mysql_rows.Insert:
    compiled = statement.compile(
        dialect=mysql.dialect(paramstyle="format"), column_keys=list(columns)
    )
    if compiled.positiontup != list(columns):
        raise ReceiptdError("the statement's order is not the rows'")
    return mysql_rows.insert(str(compiled), len(columns))
