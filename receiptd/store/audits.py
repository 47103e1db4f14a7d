"""Audits: what a provider counts of one China day beside what we hold of it.

An SMS belongs to the day on which the provider handed it to the carrier, or, where that is not
known, on which it was submitted. What an API refused was never counted by the provider; a send
without an answer was, if the provider knew something of it.
"""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from receiptd.china import OFFSET
from receiptd.model import FAILED_ID, OPEN, UNANSWERED_ID, Status
from receiptd.store.ids import last_id_before
from receiptd.store.pages import Reading
from receiptd.store.schema import audits, receipts

# Ids of one statement: some 50 ms on each database.
STEP_IDS = 50_000
# Rows that are made due in one transaction: some milliseconds of the writer's lock.
STEP_ROWS = 1000

_DAY = timedelta(days=1)
# For how long a difference is shown: the daemon audits three days, and nobody may look for some.
_SHOWN = timedelta(days=7)
# How long before its hand-over to the carrier an SMS may have been booked here: the provider may
# hold it back over night.
_HELD_BACK = timedelta(days=2)

_row = receipts.c
_moment: ColumnElement[datetime] = func.coalesce(_row.sent_at, _row.submitted_at)
# About an unanswered send the first two are our own words, all others a provider's.
_UNTOLD = (Status.AWAITED.value, Status.LOST.value)
_COUNTED = and_(
    ~_row.biz_id.like(f"{FAILED_ID}%"),
    or_(~_row.biz_id.like(f"{UNANSWERED_ID}%"), _row.status.not_in(_UNTOLD)),
)


class HeldCounts(msgspec.Struct, frozen=True):
    """Our rows of one account and day; `pending` are those whose end we do not know (awaited,
    pending, lost, unknown)."""

    total: int
    delivered: int
    failed: int
    pending: int


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `audits`: one account and China day, both sides, and when they were asked."""

    provider: str
    account: str
    day: date
    provider_total: int
    provider_delivered: int
    provider_failed: int
    provider_pending: int
    held_total: int
    held_delivered: int
    held_failed: int
    held_pending: int
    audited_at: datetime

    @property
    def theirs(self) -> dict[str, int]:
        """The provider's counts: total, delivered, failed, pending."""
        return {name: getattr(self, f"provider_{name}") for name in HeldCounts.__struct_fields__}

    @property
    def ours(self) -> dict[str, int]:
        """Our counts, as `theirs`."""
        return {name: getattr(self, f"held_{name}") for name in HeldCounts.__struct_fields__}

    @property
    def differs(self) -> bool:
        """Whether the two sides do not agree on what was sent, delivered or failed.

        What is pending is the rest: with these three equal it is, too, unless the provider's own
        counts do not add up, and no question to it would mend that.
        """
        theirs = self.provider_total, self.provider_delivered, self.provider_failed
        return theirs != (self.held_total, self.held_delivered, self.held_failed)


def held(reading: Reading, provider: str, account: str, day: date) -> HeldCounts:
    """Return what we hold of a China day, counted in short reads of STEP_IDS ids.

    Costs a read of all rows created since two days before it, about a second per million of them:
    the table has no index by time, which every receipt would pay for. Rows that change meanwhile
    are counted as they were or as they are. Raises StoreUnavailable.
    """
    begin, end = _bounds(day)
    mine = and_(_row.provider == provider, _row.account == account, _COUNTED)
    of_day = and_(mine, _moment >= begin, _moment < end)
    with reading() as connection:
        after = last_id_before(connection, receipts, begin - _HELD_BACK)
        last = connection.scalar(select(func.max(_row.id)))
    counts: dict[str, int] = {}
    while last is not None and after < last:
        with reading() as connection:
            first: int | None = connection.scalar(_next_id(after))  # past ids that were deleted
            if first is None:
                break
            after = min(last, first + STEP_IDS - 1)
            some = select(_row.status, func.count()).where(_row.id.between(first, after), of_day)
            for status, count in connection.execute(some.group_by(_row.status)):
                counts[status] = counts.get(status, 0) + count
    total = sum(counts.values())
    delivered = counts.get(Status.DELIVERED, 0)
    failed = counts.get(Status.FAILED, 0)
    return HeldCounts(total, delivered, failed, total - delivered - failed)


def save(connection: Connection, audit: Audit) -> None:
    """Write the one row of (day, provider, account), also if another process does at this moment;
    the later one stays. Raises the driver's errors."""
    values = msgspec.structs.asdict(audit)
    key = and_(*(audits.c[name] == values[name] for name in ("day", "provider", "account")))
    change = update(audits).where(key).values(values)
    # Looked for, because MySQL does not count a row that was the same already.
    if connection.scalar(select(audits.c.id).where(key)) is None:
        # If somebody was faster, theirs is committed by now. Within a savepoint, because on
        # PostgreSQL an error ends the whole transaction.
        with suppress(IntegrityError), connection.begin_nested():
            connection.execute(insert(audits).values(values))
            return
    connection.execute(change)


def latest(connection: Connection, since: date) -> list[Audit]:
    """Return the audits of the China day `since` and later ones, of all accounts, the latest day
    first. Raises the driver's errors."""
    columns = [audits.c[name] for name in Audit.__struct_fields__]
    query = select(*columns).where(audits.c.day >= since)
    order = (audits.c.day.desc(), audits.c.provider, audits.c.account)
    return [Audit(**one) for one in connection.execute(query.order_by(*order)).mappings()]


def differing(connection: Connection, today: date) -> list[Audit]:
    """Return the audits that differ, of the China day `today` and the seven before it, in the order
    of `latest`. Raises the driver's errors."""
    return [one for one in latest(connection, today - _SHOWN) if one.differs]


def make_due(connection: Connection, provider: str, account: str, day: date, now: datetime) -> int:
    """Let reconciliation ask at `now` about rows of a day that it would ask about later; return how
    many. STEP_ROWS at most: call again, in a transaction of its own, until there are fewer. Raises
    the driver's errors."""
    begin, end = _bounds(day)
    planned = and_(
        # By its index, as each row that was made due is out of it.
        _row.next_query_at > now,
        _row.status.in_([status.value for status in OPEN]),
        _row.submitted_at.is_not(None),
        _row.provider == provider,
        _row.account == account,
        _moment >= begin,
        _moment < end,
    )
    # Found before they are changed: MySQL has no LIMIT in a subquery of an UPDATE.
    ids = connection.scalars(select(_row.id).where(planned).limit(STEP_ROWS)).all()
    if not ids:
        return 0
    chosen = update(receipts).where(_row.id.in_(sorted(ids)), planned)
    return connection.execute(chosen.values(next_query_at=now)).rowcount


def _bounds(day: date) -> tuple[datetime, datetime]:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC) - OFFSET
    return begin, begin + _DAY


def _next_id(after: int) -> Select[Any]:
    return select(_row.id).where(_row.id > after).order_by(_row.id).limit(1)
