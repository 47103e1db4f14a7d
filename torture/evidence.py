"""What was stored against what was sent, in the words of Jepsen's checkers."""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

# Of one SMS: (biz_id, phone).
Key = tuple[str, str]


class Truth(msgspec.Struct, frozen=True):
    """What the sender of the receipts knows."""

    statuses: Mapping[Key, str]  # what each receipt says
    deliveries: Mapping[str, int]  # how many records were handed out per envelope, all times


class Verdict(msgspec.Struct, frozen=True):
    """The comparison, in numbers of SMS but for `early`, which counts envelopes."""

    sent: int = 0
    lost: int = 0  # no row, or one that does not say what the receipt said
    unexpected: int = 0  # a row that nobody sent
    duplicated: int = 0  # one SMS counted twice, or a journal row that no delivery explains
    early: int = 0  # acked before another connection saw it
    recovered: int = 0  # handed out again after a fault, and there was still one right row

    def __add__(self, other: "Verdict") -> "Verdict":
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Verdict(*(one + another for one, another in zip(mine, theirs, strict=True)))

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.unexpected or self.duplicated or self.early)


class Witness:
    """Sees at the moment of an ack whether the record is there for others. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._engine = engine(url)
        self._lock = threading.Lock()
        self.early: set[str] = set()
        self.acked = 0

    def see(self, envelope_id: str) -> None:
        """Note an ack that comes before its row."""
        query = text("SELECT 1 FROM journal WHERE envelope_id = :id LIMIT 1")
        with self._engine.connect() as connection:
            is_there = connection.execute(query, {"id": envelope_id}).first() is not None
        with self._lock:
            self.acked += 1
            if not is_there:
                self.early.add(envelope_id)

    def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()


def engine(url: str) -> Engine:
    """Return connections that see each commit at once."""
    pool: dict[str, Any] = {}
    if make_url(url).get_backend_name() == "sqlite":
        # One that stays open would do the recovery of the log for the daemon that comes next.
        pool["poolclass"] = NullPool
    return create_engine(url, isolation_level="AUTOCOMMIT", **pool)


def judge(url: str, truth: Truth, early: int, *, retried: bool = False) -> Verdict:
    """Compare the rows with the truth.

    `retried`: a commit that was reported as failed was tried again and may have happened twice, so
    the journal may hold more rows than were handed out.
    """
    source = engine(url)
    with source.connect() as connection:
        found = _receipts(connection)
        journalled = _journal(connection)
    source.dispose()
    rows = Counter(key for key, _ in found)
    right = {key for key, status in found if truth.statuses.get(key) == status}
    twice = sum(count - 1 for count in rows.values())
    if not retried:
        twice += sum(
            max(0, count - truth.deliveries.get(envelope, 0))
            for envelope, (count, _) in journalled.items()
        )
    again = {
        key
        for envelope, (_, keys) in journalled.items()
        if truth.deliveries.get(envelope, 0) > len(keys)
        for key in keys
    }
    return Verdict(
        sent=len(truth.statuses),
        lost=len(truth.statuses.keys() - right),
        unexpected=len(rows.keys() - truth.statuses.keys()),
        duplicated=twice,
        early=early,
        recovered=len(again & right),
    )


def _receipts(connection: Connection) -> list[tuple[Key, str]]:
    query = text("SELECT biz_id, phone, status FROM receipts")
    return [((biz_id, phone), status) for biz_id, phone, status in connection.execute(query)]


def _journal(connection: Connection) -> dict[str, tuple[int, set[Key]]]:
    """Return the rows of each envelope: how many, and of which SMS."""
    query = text("SELECT envelope_id, biz_id, phone FROM journal")
    found: dict[str, tuple[int, set[Key]]] = {}
    for envelope_id, biz_id, phone in connection.execute(query):
        count, keys = found.get(envelope_id, (0, set()))
        found[envelope_id] = count + 1, keys | {(biz_id, phone)}
    return found
