"""What a soak left in the database against what was sent, row by row, in the memory of one byte an
SMS; and the eye that sees at the moment of an ack whether the rest can see the row."""

import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, create_engine, text

from torture.evidence import Verdict, engine
from torture.soak_sms import is_delivered, number_of, phone, receipts_of

_ROWS_EACH = 10_000
_MOST = 255  # what a byte holds
_BIZ_ID = re.compile(rb'"biz_id":"(8\d{17}\^0)"')


class Eye:
    """Looks at every n-th ack whether the row of its receipt is there for others. Used by several
    threads, each of which has a connection of its own."""

    def __init__(self, url: str, *, every: int) -> None:
        self._engine = engine(url)
        self._every = every
        self._own = threading.local()
        self._connections: list[Connection] = []
        self._lock = threading.Lock()
        self.acked = 0
        self.looked = 0
        self.early = 0

    def see(self, body: bytes) -> None:
        """Note an ack of an envelope with this body."""
        with self._lock:
            self.acked += 1
            is_looked_at = self.acked % self._every == 0
        # By the receipt: the journal has no index for envelopes, and a million rows.
        if not is_looked_at or (found := _BIZ_ID.search(body)) is None:
            return
        id_of = {"biz_id": found[1].decode()}
        is_there = self._connection().execute(_IS_THERE, id_of).first() is not None
        with self._lock:
            self.looked += 1
            self.early += not is_there

    def close(self) -> None:
        """Release the connections; nobody may be looking any more."""
        for connection in self._connections:
            connection.detach()
            connection.close()
        self._engine.dispose()

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._engine.connect()
            with self._lock:
                self._connections.append(connection)
        return connection


_IS_THERE = text("SELECT 1 FROM receipts WHERE biz_id = :biz_id LIMIT 1")


def judge(
    url: str, sms: int, *, handed_out: int, poisoned: int, answered: int, early: int, retried: bool
) -> Verdict:
    """Compare the rows of the first `sms` SMS with the truth.

    `handed_out` is how many records the broker and the pusher gave, all times; `retried` is as for
    torture.evidence.judge.
    """
    source = create_engine(url)  # in a transaction, as a cursor that streams asks for
    try:
        with source.connect() as connection:
            right, unexpected, twice = _receipts(connection, sms)
            journalled, rows, quarantined = _journal(connection, sms)
            replies = _number(connection, "SELECT count(*) FROM uplinks")
    finally:
        source.dispose()
    lost = recovered = 0
    for number in range(sms):
        copies = receipts_of(number)
        # A receipt that came and left no trace was acked for nothing, whatever the row says.
        if not right[number] or journalled[number] < copies:
            lost += 1
        elif journalled[number] > copies:
            recovered += 1
    return Verdict(
        sent=sms,
        lost=lost + max(0, poisoned - quarantined) + max(0, answered - replies),
        unexpected=unexpected + max(0, quarantined - poisoned) + max(0, replies - answered),
        duplicated=twice + (0 if retried else max(0, rows - handed_out)),
        early=early,
        recovered=recovered,
    )


def _receipts(connection: Connection, sms: int) -> tuple[bytearray, int, int]:
    """Return which SMS have a row that is right, how many rows nobody sent, and how many are one
    too many."""
    right, rows = bytearray(sms), bytearray(sms)
    unexpected = 0
    for biz_id, to, status in _stream(connection, "SELECT biz_id, phone, status FROM receipts"):
        number = number_of(biz_id)
        if number is None or not 0 <= number < sms or to != f"+86{phone(number)}":
            unexpected += 1
            continue
        rows[number] = min(rows[number] + 1, _MOST)
        if status == ("delivered" if is_delivered(number) else "failed"):
            right[number] = 1
    return right, unexpected, sum(count - 1 for count in rows if count > 1)


def _journal(connection: Connection, sms: int) -> tuple[bytearray, int, int]:
    """Return how often each SMS is in the journal, how many rows that has in all, and how many
    different envelopes are in quarantine."""
    found = bytearray(sms)
    count = 0
    quarantined: set[str] = set()
    query = "SELECT envelope_id, part, kind, outcome, biz_id FROM journal"
    for envelope_id, part, kind, outcome, biz_id in _stream(connection, query):
        if not envelope_id:
            continue  # from an answer that is a fault: a message in it that nobody sent
        # Poison was handed out as one, also where it is a list of three.
        count += outcome != "quarantined" or part == 0
        if outcome == "quarantined":
            quarantined.add(envelope_id)
        elif kind == "receipt" and (number := number_of(biz_id)) is not None and number < sms:
            found[number] = min(found[number] + 1, _MOST)
    return found, count, len(quarantined)


def _stream(connection: Connection, query: str) -> Iterator[Sequence[Any]]:
    streaming = connection.execution_options(stream_results=True, yield_per=_ROWS_EACH)
    yield from streaming.execute(text(query))


def _number(connection: Connection, query: str) -> int:
    return int(connection.execute(text(query)).scalar_one())
