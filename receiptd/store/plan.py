"""Reconciliation's work list: which sends are due to be asked about, and what that found.

`next_query_at` says when a row is asked about next. The ledger sets it, an answer moves it on, and
the merge clears it as soon as the row's end is known (merge_sql.next_query), whoever brought that.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Update,
    and_,
    bindparam,
    case,
    func,
    null,
    or_,
    select,
    update,
)

from receiptd.model import FAILED_ID, OPEN, UNANSWERED_ID, Entry
from receiptd.store.merge import Key
from receiptd.store.schema import receipts as table
from receiptd.store.types import UTC

row = table.c
# No IN with a list: a statement for many rows takes none.
_IS_OPEN = or_(*(row.status == status.value for status in OPEN))
_PLANNED = and_(_IS_OPEN, row.submitted_at.is_not(None))
_IDENTITY = ("biz_id", "phone", "provider", "account")
_CHUNK = 500  # parameters of one statement
# The one that will be lost first comes first.
_BY_AGE = (row.submitted_at, row.id)

# After the send, where nobody has configured it: nearly all receipts have come by then.
FIRST_AFTER = timedelta(minutes=15)

# How far the clock of whoever sent may be ahead of the daemon's.
_SENDERS_CLOCK = timedelta(hours=1)


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A row that waits to be asked about. Times are aware."""

    biz_id: str
    phone: str
    provider: str
    account: str
    submitted_at: datetime
    out_id: str | None
    send_api: str | None
    sign_name: str | None
    template_code: str | None
    query_count: int
    query_place: str | None

    @property
    def key(self) -> Key:
        """The row's identity, as merge.key has it."""
        return self.biz_id, self.phone, self.provider, self.account

    def __repr__(self) -> str:
        return f"Due(biz_id={self.biz_id!r})"


_DUE = [row[name] for name in Due.__struct_fields__]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one row is given: journal entries with their records, and when it is asked about again.

    `place` is where an unfinished question goes on, and then it is not counted as asked.
    """

    key: Key
    entries: Sequence[Entry]
    next_query_at: datetime | None
    place: str | None = None
    counts: bool = True


class WhoseTurn(msgspec.Struct, frozen=True, kw_only=True):
    """To be asked about: the rows of one account that are due at `now` and were
    sent after `sent_after`."""

    now: datetime
    sent_after: datetime
    provider: str
    account: str


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are meant: those submitted in [since, until), of one account or of all."""

    since: datetime | None = None
    until: datetime | None = None
    provider: str | None = None
    account: str | None = None


class Backlog(msgspec.Struct, frozen=True):
    """How many rows wait, and when the one that waits longest was sent."""

    rows: int
    oldest: datetime | None


def begin(connection: Connection, first: Iterable[tuple[Key, datetime]]) -> None:
    """Plan the first question about each row, unless it has ended, is planned, or was asked about.
    Raises the driver's errors."""
    values = [_named(key) | {"at": at} for key, at in first]
    if values:
        planned = _of_key().where(row.next_query_at.is_(None), row.query_count == 0, _IS_OPEN)
        connection.execute(planned.values(next_query_at=bindparam("at")), values)


def due(connection: Connection, turn: WhoseTurn, limit: int) -> list[Due]:
    """Return rows whose turn it is, the one that will be lost first coming first."""
    mine = select(*_DUE).where(_has_its(turn))
    return _found(connection, mine.order_by(*_BY_AGE).limit(limit))


def is_due(connection: Connection, turn: WhoseTurn) -> bool:
    """Return whether it is any row's turn."""
    # In the index's order, so that the first row that fits ends it.
    mine = select(row.id).where(_has_its(turn)).order_by(row.next_query_at)
    return connection.scalar(mine.limit(1)) is not None


def over(connection: Connection, now: datetime, sent_before: datetime, limit: int) -> list[Due]:
    """Return rows, of any account, that nobody can be asked about any more: due at `now`, and sent
    before `sent_before`."""
    mine = select(*_DUE).where(row.next_query_at <= now, row.submitted_at <= sent_before, _PLANNED)
    return _found(connection, mine.limit(limit))


def backlog(connection: Connection, span: Span, due_at: datetime | None = None) -> Backlog:
    """Return what of `span` waits for an answer: all of it, or what is due at `due_at`."""
    query = select(func.count(), func.min(row.submitted_at)).where(*_within(span, due_at))
    rows, oldest = connection.execute(query).one()
    return Backlog(rows, oldest)


def listed(connection: Connection, span: Span, due_at: datetime | None, limit: int) -> list[Due]:
    """Return the first rows of a backlog, the one that will be lost first coming first."""
    mine = select(*_DUE).where(*_within(span, due_at))
    return _found(connection, mine.order_by(*_BY_AGE).limit(limit))


def hasten(connection: Connection, span: Span, now: datetime) -> int:
    """Make all planned rows of `span` due at `now`; return how many were not yet."""
    later = update(table).where(*_within(span, None), row.next_query_at > now)
    return connection.execute(later.values(next_query_at=now)).rowcount


def put_off(connection: Connection, until: Iterable[tuple[Key, datetime]]) -> None:
    """Ask about each row later, at its time, without having asked."""
    # In the order of the keys, as all writers: two never deadlock.
    values = [_named(key) | {"at": at} for key, at in sorted(until)]
    if values:
        later = _of_key().where(row.next_query_at.is_not(None))
        connection.execute(later.values(next_query_at=bindparam("at")), values)


def answered(connection: Connection, answer: Answer) -> bool:
    """Move a row's plan on; return False if the row is gone, or has ended meanwhile and this is no
    answer of a provider: then nothing of it is to be stored."""
    change = _of_key() if answer.counts or answer.place else _of_key().where(_IS_OPEN)
    change = change.values(
        query_count=row.query_count + int(answer.counts and answer.place is None),
        query_place=answer.place,
        next_query_at=case((_IS_OPEN, bindparam("at", answer.next_query_at, UTC())), else_=null()),
    )
    return _touched(connection, change, answer.key)


def find_sent(connection: Connection, asked: Sequence[Due]) -> dict[Key, str]:
    """Return, for sends that were never answered, the provider's id under which each is known by
    now: a row with the same out_id and phone.

    Reads the rows that came since the oldest of them was sent: the table has no index for this, as
    every receipt would pay for it, and sends without an answer are few.
    """
    found: dict[Key, str] = {}
    for start in range(0, len(asked), _CHUNK):
        some = [one for one in asked[start : start + _CHUNK] if one.out_id]
        if not some:
            continue
        since = min(one.submitted_at for one in some) - _SENDERS_CLOCK
        known = select(*(row[name] for name in _IDENTITY), row.out_id).where(
            row.out_id.in_({one.out_id for one in some}),
            row.phone.in_({one.phone for one in some}),
            row.created_at >= since,
            ~row.biz_id.like(f"{UNANSWERED_ID}%"),
            ~row.biz_id.like(f"{FAILED_ID}%"),
        )
        ids = {
            (one.out_id, one.phone, one.provider, one.account): one.biz_id
            for one in connection.execute(known)
        }
        for one in some:
            biz_id = ids.get((one.out_id, one.phone, one.provider, one.account))
            if biz_id is not None:
                found[one.key] = biz_id
    return found


def _has_its(turn: WhoseTurn) -> ColumnElement[bool]:
    return and_(
        row.next_query_at <= turn.now,
        row.submitted_at > turn.sent_after,
        row.provider == turn.provider,
        row.account == turn.account,
        _PLANNED,
    )


def _found(connection: Connection, query: Select[Any]) -> list[Due]:
    return [Due(**one) for one in connection.execute(query).mappings()]


def _within(span: Span, due_at: datetime | None) -> list[ColumnElement[bool]]:
    planned = row.next_query_at.is_not(None) if due_at is None else row.next_query_at <= due_at
    bounds: list[ColumnElement[bool]] = [planned, _PLANNED]
    if span.since is not None:
        bounds.append(row.submitted_at >= span.since)
    if span.until is not None:
        bounds.append(row.submitted_at < span.until)
    if span.provider is not None:
        bounds.append(row.provider == span.provider)
    if span.account is not None:
        bounds.append(row.account == span.account)
    return bounds


def _of_key() -> Update:
    return update(table).where(*(row[name] == bindparam(f"key_{name}") for name in _IDENTITY))


def _named(key: Key) -> dict[str, object]:
    return {f"key_{name}": value for name, value in zip(_IDENTITY, key, strict=True)}


def _touched(connection: Connection, change: Update, key: Key) -> bool:
    return connection.execute(change, _named(key)).rowcount == 1
