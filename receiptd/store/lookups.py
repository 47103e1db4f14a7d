"""The rows behind one SMS, for `explain`.

biz_id and sequence_id lead unique keys. Nothing else that a person asks by has an index, because
every receipt would pay for it: such rows are sought in ranges of ids, a short transaction each. The
same statements use an index that an operator has made on receipts(phone), receipts(out_id),
uplinks(phone) or journal(biz_id).
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    func,
    or_,
    select,
)

from receiptd.clock import Clock
from receiptd.model import ErrClass, Kind, Origin, Outcome, Status
from receiptd.store.schema import NOT_STORED, journal, receipts, uplinks

Span: TypeAlias = tuple[int, int]  # ids, both included

# A range is read in about this time, so that no reader keeps an old state of the database alive.
_STEP_S = 0.3
_FIRST_STEP = 20_000
_LARGEST_STEP = 5_000_000  # in an index of an operator's own, a range costs one probe
# How far ids may be out of the order of time: what several processes commit at one moment.
_DISORDER = 1000
_QUARANTINE_MOST = 2_000  # bodies looked into: reading one costs a probe of the primary key
_CHUNK = 500  # parameters of one statement


class StoredReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `receipts`. Times are aware UTC."""

    id: int
    provider: str
    account: str
    biz_id: str
    phone: str
    out_id: str | None
    status: Status
    err_code: str | None
    err_msg: str | None
    err_class: ErrClass | None
    segments: int | None
    sign_name: str | None
    template_code: str | None
    send_api: str | None
    submitted_at: datetime | None
    sent_at: datetime | None
    reported_at: datetime | None
    origin: Origin
    conflict: bool
    next_query_at: datetime | None
    query_count: int
    created_at: datetime
    updated_at: datetime

    def __repr__(self) -> str:
        return f"StoredReceipt(biz_id={self.biz_id!r}, status={self.status.value!r})"


class JournalRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `journal`. Times are aware UTC."""

    id: int
    source: str
    envelope_id: str
    part: int
    body: str
    encoding: str
    kind: Kind
    outcome: Outcome
    reason: str | None
    biz_id: str | None
    phone: str | None
    enqueued_at: datetime | None
    received_at: datetime
    pull_count: int | None

    def __repr__(self) -> str:
        return f"JournalRow(id={self.id}, outcome={self.outcome.value!r})"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `uplinks`. Times are aware UTC."""

    id: int
    provider: str
    account: str
    phone: str
    content: str | None
    dest_code: str | None
    sign_name: str | None
    sequence_id: str
    sent_at: datetime | None
    biz_id: str | None
    created_at: datetime

    def __repr__(self) -> str:
        return f"Reply(sequence_id={self.sequence_id!r})"


_Row = TypeVar("_Row", StoredReceipt, JournalRow, Reply)


def bounds(connection: Connection, table: Table) -> Span | None:
    """Return the first and the last id of a table, None if it is empty."""
    # Two statements, because SQLite reads the whole table for both at once.
    first = connection.scalar(select(func.min(table.c.id)))
    last = connection.scalar(select(func.max(table.c.id)))
    return None if first is None or last is None else (first, last)


def ranges(
    span: Span, clock: Clock, *, newest_first: bool, step: int = _FIRST_STEP
) -> Iterator[Span]:
    """Yield ranges that cover `span`, larger while the caller is quick with them, smaller while it
    is slow."""
    first, last = span
    while first <= last:
        size = min(step, last - first + 1)
        begin = last - size + 1 if newest_first else first
        started = clock.monotonic()
        yield begin, begin + size - 1
        took = clock.monotonic() - started
        if newest_first:
            last -= size
        else:
            first += size
        if took < _STEP_S / 2:
            step = min(step * 2, _LARGEST_STEP)
        elif took > _STEP_S:
            step = max(step // 2, _FIRST_STEP)


def receipts_of(
    connection: Connection, biz_id: str, account: str | None, limit: int
) -> tuple[list[StoredReceipt], int]:
    """Return the rows with this biz_id, at most `limit` and the newest first, and how many there
    are."""
    mine = _within(receipts.c.biz_id == biz_id, account)
    rows = _query(receipts, StoredReceipt).where(*mine).order_by(receipts.c.id.desc()).limit(limit)
    found = _read(connection, rows, StoredReceipt)
    if len(found) < limit:
        return found, len(found)
    count = select(func.count()).select_from(receipts).where(*mine)
    return found, connection.execute(count).scalar_one()


def ids_of(
    connection: Connection,
    column: Literal["phone", "out_id"],
    values: Iterable[str],
    account: str | None,
    span: Span,
) -> list[int]:
    """Return the ids within `span` of receipts that have one of `values`, the newest first."""
    mine = _within(receipts.c[column].in_(sorted(values)), account)
    query = select(receipts.c.id).where(receipts.c.id.between(*span), *mine)
    # Sorted here: for an ORDER BY, a database may prefer the primary key to a better index.
    return sorted(connection.scalars(query), reverse=True)


def receipts_by_id(connection: Connection, ids: Sequence[int]) -> list[StoredReceipt]:
    """Return the rows of `ids`, the newest first."""
    found: list[StoredReceipt] = []
    for start in range(0, len(ids), _CHUNK):
        some = receipts.c.id.in_(ids[start : start + _CHUNK])
        found += _read(connection, _query(receipts, StoredReceipt).where(some), StoredReceipt)
    return sorted(found, key=lambda one: one.id, reverse=True)


def journal_since(connection: Connection, since: datetime) -> Span | None:
    """Return ids that hold every journal row received at or after `since`, None if none is."""
    # Not the id of the first alone: its neighbours may have come with smaller ones.
    first = select(journal.c.id).where(journal.c.received_at >= since)
    first = first.order_by(journal.c.received_at, journal.c.id).limit(_DISORDER)
    begin = connection.scalar(select(func.min(first.subquery().c.id)))
    if begin is None:
        return None
    last = connection.scalar(select(func.max(journal.c.id)))
    return begin, max(begin, last or begin)


def journal_of(
    connection: Connection,
    biz_ids: Iterable[str],
    phones: Iterable[str],
    span: Span,
    limit: int,
) -> list[JournalRow]:
    """Return the rows within `span` about these SMS, the first received first."""
    query = _query(journal, JournalRow).where(
        journal.c.id.between(*span),
        journal.c.biz_id.in_(sorted(biz_ids)),
        journal.c.phone.in_(sorted(phones)),
    )
    return sorted(_read(connection, query.limit(limit), JournalRow), key=lambda one: one.id)


def quarantined_with(
    connection: Connection,
    text: str,
    limit: int,
    *,
    biz_ids: Iterable[str] = (),
    phones: Iterable[str] = (),
) -> list[JournalRow]:
    """Return rows that were quarantined, whatever became of them, in whose body `text` stands, or
    which are understood by now and of one of `biz_ids` and `phones`: these may be older than the
    SMS' own rows. The first received first.

    Looks into the newest 2,000 bodies at most: a quarantine that is larger is another matter.
    """
    some = select(journal.c.id).where(NOT_STORED).order_by(journal.c.id.desc())
    newest = some.limit(_QUARANTINE_MOST).subquery()
    known = and_(journal.c.biz_id.in_(sorted(biz_ids)), journal.c.phone.in_(sorted(phones)))
    mine = or_(journal.c.body.contains(text, autoescape=True), known)
    query = _query(journal, JournalRow).where(journal.c.id.in_(select(newest.c.id)), mine)
    return sorted(_read(connection, query.limit(limit), JournalRow), key=lambda one: one.id)


def replies_with(connection: Connection, sequence_id: str, limit: int) -> list[Reply]:
    """Return the replies that their provider calls `sequence_id`."""
    query = _query(uplinks, Reply).where(uplinks.c.sequence_id == sequence_id)
    return _read(connection, query.limit(limit), Reply)


def replies_from(
    connection: Connection, phones: Iterable[str], span: Span, limit: int
) -> list[Reply]:
    """Return replies within `span` of ids from these phones, at most `limit`, the newest first."""
    mine = uplinks.c.phone.in_(sorted(phones))
    query = _query(uplinks, Reply).where(uplinks.c.id.between(*span), mine)
    newest = query.order_by(uplinks.c.id.desc()).limit(limit)
    return _read(connection, newest, Reply)


def _within(mine: ColumnElement[bool], account: str | None) -> list[ColumnElement[bool]]:
    return [mine] if account is None else [mine, receipts.c.account == account]


def _query(table: Table, kind: type[msgspec.Struct]) -> Select[Any]:
    return select(*(table.c[name] for name in kind.__struct_fields__))


def _read(connection: Connection, query: Select[Any], kind: type[_Row]) -> list[_Row]:
    names = kind.__struct_fields__
    found = connection.execute(query)
    # Not strict: the columns' text becomes the enums, and the rest is of its type already.
    return [
        msgspec.convert(dict(zip(names, one, strict=True)), kind, strict=False) for one in found
    ]
