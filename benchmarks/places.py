"""Databases to measure in: a new one each time, dropped afterwards."""

import os
import secrets
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psycopg
import pymysql
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.pool import NullPool

SQLITE, POSTGRESQL, MARIADB = "sqlite", "postgresql", "mariadb"
KINDS = (SQLITE, POSTGRESQL, MARIADB)

_MARIADB = "mysql+pymysql://root@127.0.0.1:3306/"
# The machine's own server first, with whatever user it lets in; else the tests' own.
_POSTGRESQL = (
    "postgresql+psycopg://postgres@127.0.0.1:5432/postgres",
    "postgresql+psycopg://root@127.0.0.1:5432/postgres",
)


def why_not(kind: str) -> str:
    """Return why there is no database of this kind here, "" if there is."""
    try:
        if kind != SQLITE:
            _server(kind)
    except (psycopg.Error, pymysql.Error, OSError, AssertionError) as exc:
        return f"no {kind} here: {type(exc).__name__}"
    return ""


@contextmanager
def fresh(kind: str) -> Iterator[str]:
    """The address of a new, empty database of this kind."""
    name = f"receiptd_bench_{os.getpid()}_{secrets.token_hex(4)}"
    if kind == SQLITE:
        with tempfile.TemporaryDirectory(prefix="receiptd-bench-") as folder:
            yield f"sqlite:///{folder}/receipts.db"
        return
    server = _server(kind)
    encoding = "ENCODING 'UTF8' TEMPLATE template0" if kind == POSTGRESQL else "CHARSET utf8mb4"
    _administer(server, f"CREATE DATABASE {name} {encoding}")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        force = " WITH (FORCE)" if kind == POSTGRESQL else ""
        _administer(server, f"DROP DATABASE {name}{force}")


def version(kind: str) -> str:
    """Return the version of a database that is here."""
    if kind == SQLITE:
        return sqlite3.sqlite_version
    engine = create_engine(_server(kind), poolclass=NullPool)
    with engine.connect() as connection:
        return str(connection.execute(text("SELECT version()")).scalar_one()).split(",")[0]


def count(url: str, what: str, table: str) -> int:
    """Return `count(what)` of a table, over a connection of its own."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count({what}) FROM {table}")).scalar_one())


@cache
def _server(kind: str) -> URL:
    """Return an administrator's address. Raises the driver's error if there is no server."""
    if kind == MARIADB:
        url = make_url(_MARIADB)
        pymysql.connect(host=url.host, port=url.port, user=url.username, connect_timeout=5).close()
        return url
    for address in _POSTGRESQL:
        url = make_url(address)
        try:
            psycopg.connect(address.replace("+psycopg", ""), connect_timeout=5).close()
        except psycopg.Error:
            continue
        return url
    from tests.databases import postgresql  # starts a server: only where there is none

    return make_url(postgresql().url("postgres"))


def _administer(server: URL, statement: str) -> None:
    engine = create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
