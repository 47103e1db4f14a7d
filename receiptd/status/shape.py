"""What `status` says: frozen data. Times are aware UTC, by the database's clock."""

from datetime import datetime

import msgspec

from receiptd.store.audits import Audit
from receiptd.store.figures import Lease


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One process that works, or worked, on a source."""

    name: str
    updated_at: datetime
    age_s: float
    is_silent: bool


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One source over all instances: counts since the start of each, of those that are not silent;
    of the last that spoke, if all are."""

    name: str
    is_configured: bool
    instances: tuple[Instance, ...]
    silent_since: datetime | None
    last_pull_at: datetime | None
    last_commit_at: datetime | None
    lag_s: float | None  # for how long the newest envelope had been in the queue
    in_flight: int
    pulled: int
    redelivered: int
    records: int
    changed: int
    quarantined: int
    acked: int
    ack_expired: int
    ack_failed: int


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The sends of one account. `oldest_gap_at` is when the oldest overdue one was sent, and
    `hours_to_loss` is the time until nobody can be asked about it."""

    provider: str
    name: str
    awaited: int
    pending: int
    overdue: int
    due: int  # to be asked about at once
    undated: int  # open, but nobody can be asked: the time of the send is not known
    lost: int
    unknown: int
    failed: int
    delivered: int
    oldest_gap_at: datetime | None
    hours_to_loss: float | None


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """How the accounts' figures were made: `rows` receipts were counted, the newest ones if not all
    of them, at `at`."""

    at: datetime
    rows: int
    is_complete: bool


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """The database itself. `tables` is empty on SQLite, which knows its file's size only."""

    kind: str
    revision: str | None
    size_bytes: int
    tables: dict[str, int]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at one moment, by the database's clock."""

    taken_at: datetime
    database: Database
    sources: tuple[Source, ...]
    accounts: tuple[Account, ...]
    counted: Counted
    quarantine: dict[str, int]
    audits: tuple[Audit, ...]  # those of the last days in which the two sides differ
    leases: tuple[Lease, ...]
