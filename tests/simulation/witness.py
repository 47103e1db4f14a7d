"""An independent look into the database, by a connection of its own, and what should be there."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import create_engine, delete, select, update

from receiptd.model import Origin, Outcome, Receipt, Status
from receiptd.store.journal import body_bytes
from receiptd.store.merge import Key, fold
from receiptd.store.rows import RECEIPTS, receipt_row
from receiptd.store.schema import journal, leases, metadata, receipts
from tests.simulation.exchange import ACCOUNT, PROVIDER, Exchange

# Without created_at and updated_at, which are ours.
_COLUMNS = RECEIPTS[:-2]
_LONG_AGO = datetime.fromisoformat("2020-01-01T00:00:00+00:00")


class Row(msgspec.Struct, frozen=True):
    """A row of `receipts`: what the merge decides, and the plan."""

    merged: tuple[object, ...]  # in the order of RECEIPTS
    next_query_at: datetime | None

    @property
    def key(self) -> Key:
        provider, account, biz_id, phone = (str(value) for value in self.merged[:4])
        return biz_id, phone, provider, account

    @property
    def status(self) -> Status:
        return Status(str(self.merged[RECEIPTS.index("status")]))

    @property
    def submitted_at(self) -> datetime | None:
        value = self.merged[RECEIPTS.index("submitted_at")]
        assert value is None or isinstance(value, datetime)
        return value


class Noted(msgspec.Struct, frozen=True):
    """A row of `journal`."""

    source: str
    envelope_id: str
    body: bytes
    outcome: str
    reason: str | None
    key: Key
    received_at: datetime

    @property
    def is_loss(self) -> bool:
        """Whether it says that a send is lost."""
        return self.reason == "window_closed"


class Witness:
    """See the module."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT")
        self._connection = self._engine.connect()
        self._is_server = not url.startswith("sqlite")

    def clear(self) -> None:
        """Empty all tables, for the next example."""
        for table in metadata.sorted_tables:
            self._connection.execute(delete(table))

    def end_leases(self) -> None:
        """Let the leases of the dead run out: a server counts them by its own clock, which the
        simulation does not turn."""
        if self._is_server:
            self._connection.execute(update(leases).values(until=_LONG_AGO))

    def is_noted(self, envelope_id: str) -> bool:
        """Return whether the journal has an envelope."""
        found = select(journal.c.id).where(journal.c.envelope_id == envelope_id).limit(1)
        return self._connection.execute(found).first() is not None

    def rows(self) -> list[Row]:
        """Return the receipts."""
        found = select(*(receipts.c[name] for name in _COLUMNS), receipts.c.next_query_at)
        return [Row(tuple(one)[:-1], one[-1]) for one in self._connection.execute(found)]

    def journal(self) -> list[Noted]:
        """Return the journal, in the order of its ids."""
        row = journal.c
        found = select(
            row.source, row.envelope_id, row.body, row.encoding, row.outcome, row.reason,
            row.biz_id, row.phone, row.received_at,
        ).order_by(row.id)  # fmt: skip
        return [_noted(*one) for one in self._connection.execute(found)]

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()


def expected(
    exchange: Exchange, booked: Sequence[Receipt], noted: Sequence[Noted]
) -> list[tuple[object, ...]]:
    """Return what the merged columns of all rows should be: the fold of everything that the store
    was given, as the journal has it and as the provider meant it."""
    given = [*booked]
    for one in noted:
        if one.outcome in (Outcome.STORED, Outcome.REPLAYED):
            given += _said(exchange, one)
    return [receipt_row(one, lambda time: time, "")[:-2] for one in fold(given)]


def _said(exchange: Exchange, noted: Noted) -> Sequence[Receipt]:
    if noted.is_loss:
        return [_bare(noted.key, Status.LOST)]
    if noted.reason == "nothing_found":
        return [_bare(noted.key, Status.AWAITED)]
    return exchange.said[noted.body]


def _bare(key: Key, status: Status) -> Receipt:
    biz_id, phone, provider, account = key
    return Receipt(
        provider=provider,
        account=account,
        biz_id=biz_id,
        phone=phone,
        status=status,
        origin=Origin.QUERY,
    )


def _noted(
    source: str,
    envelope_id: str,
    body: str,
    encoding: str,
    outcome: str,
    reason: str | None,
    biz_id: str,
    phone: str,
    received_at: datetime,
) -> Noted:
    return Noted(
        source=source,
        envelope_id=envelope_id,
        body=body_bytes(body, encoding),
        outcome=outcome,
        reason=reason,
        key=(biz_id, phone, PROVIDER, ACCOUNT),
        received_at=received_at,
    )
