"""What a database must supply: the contract that each file beside this one keeps."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

import msgspec
from sqlalchemy import URL, Connection, Engine, Table

from receiptd.errors import Problem, StoreError
from receiptd.store.rows import Row

# An execution option: this transaction is not worth waiting for. Whoever has a lock keeps it.
BRIEF = "receiptd_brief"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long a server may take, in seconds. Shorter ones are for tests.

    `answer_s` is our own patience with a connection on which nothing arrives any more; it is longer
    than `statement_s`, so that a server that is only slow gets to say so.
    """

    connect_s: float = 5.0
    lock_s: float = 3.0
    brief_lock_s: float = 0.5
    statement_s: float = 10.0
    answer_s: float = 12.0
    idle_in_transaction_s: float = 30.0
    pool_s: float = 30.0
    upgrade_s: float = 3600.0  # one statement of a migration, of a large table
    other_upgrade_s: float = 60.0  # until another process has migrated


class Engines(msgspec.Struct, frozen=True):
    """One pool for the transactions that write, one for reads, which never wait for them."""

    writer: Engine
    reader: Engine

    def dispose(self) -> None:
        """Close all connections that are not in use."""
        self.writer.dispose()
        self.reader.dispose()


class Dialect(Protocol):
    """A database. Stateless; used by all threads."""

    is_local: bool  # the database is a file of ours, so that we may upgrade it without asking
    has_transactional_ddl: bool  # a migration that is killed has not happened

    def url_problems(self, url: URL) -> list[Problem]:
        """Return what is wrong with the address itself; no I/O beyond looking at a path."""
        ...

    def is_missing(self, url: URL) -> bool:
        """Return whether connecting would first make the database; no connection is opened."""
        ...

    def engines(self, url: URL) -> Engines:
        """Build the pools; connects lazily. A connection that cannot promise durability is refused
        with ConfigError when it is opened."""
        ...

    def migrating(self, connection: Connection) -> AbstractContextManager[None]:
        """Keep other processes' migrations out, and give statements the time that they need, until
        the block or the transaction ends. Raises the driver's errors."""
        ...

    def time(self, value: datetime) -> object:
        """Return an aware time as the driver takes it in a row. Raises ValueError if naive."""
        ...

    def upsert_receipts(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Merge rows (`rows.RECEIPTS`, sorted by key, each key once) into the table; return how
        many were new or changed. Raises the driver's errors."""
        ...

    def append(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]
    ) -> None:
        """Insert rows of `columns`. Raises the driver's errors."""
        ...

    def insert_new(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]
    ) -> int:
        """Insert rows of `columns` whose unique key is not there yet; return how many. Raises the
        driver's errors, also for refused data."""
        ...

    def translate(self, error: Exception) -> StoreError | None:
        """Return the error that the caller acts on, without any data of a row in its text; None if
        `error` is a bug and no word of the database's."""
        ...

    def is_deadlock(self, error: Exception) -> bool:
        """Return whether the database chose this transaction to die for another: worth one retry at
        once."""
        ...

    def durability(self, connection: Connection) -> list[Problem]:
        """Return what keeps a commit on this connection from being durable."""
        ...
