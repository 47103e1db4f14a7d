"""What a database must supply: the contract that each file beside this one keeps."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec
from sqlalchemy import URL, Connection, Engine, Table

from receiptd.errors import Problem, StoreError
from receiptd.store.rows import Row

# An execution option: this transaction is not worth waiting for. Whoever has a lock keeps it.
BRIEF = "receiptd_brief"


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
