"""The journal, read back: what a replay takes from it, what the quarantine holds, and the marks
that both leave.

Everything in steps by id or by time, each a short transaction. The index on outcome and reason
holds only what is not `stored`, and leads to the quarantine however large the journal is.
"""

from base64 import b64decode
from binascii import Error as NotBase64
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
    update,
)

from receiptd.model import Entry, Kind, Notice, Outcome, Receipt
from receiptd.store.schema import NOT_STORED, journal

row = journal.c
_QUARANTINED = and_(row.outcome == Outcome.QUARANTINED.value, NOT_STORED)
_LONGEST_REASON: int = row.reason.type.length  # type: ignore[attr-defined] # a TypeDecorator's own
# Between a reason and what became of it: `bad_field:err_code|dropped:a test message`.
_DROPPED = "|dropped:"
_CHUNK = 500  # parameters of one statement


class JournalRow(msgspec.Struct, frozen=True):
    """One row, its body as it was received. Times are aware."""

    id: int
    source: str
    envelope_id: str
    part: int
    body: bytes
    kind: str
    outcome: str
    reason: str | None
    enqueued_at: datetime | None
    received_at: datetime
    pull_count: int | None

    def __repr__(self) -> str:
        return f"JournalRow(id={self.id!r}, source={self.source!r})"


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are meant; what is None does not matter.

    `reason` with its detail (`bad_field:err_code`), or without for all details. Received in
    [`since`, `until`).
    """

    reason: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Group(msgspec.Struct, frozen=True):
    """The quarantined rows of one reason."""

    reason: str
    rows: int
    newest_id: int


class Replayed(msgspec.Struct, frozen=True):
    """A journal row read once more: its entries, and whether they settle it."""

    row_id: int
    entries: Sequence[Entry]
    settles: bool  # it was quarantined, and all of it is understood


class Mark(msgspec.Struct, frozen=True):
    """What a settled row is known to hold."""

    row_id: int
    kind: Kind
    biz_id: str | None
    phone: str | None


def quarantined_ids(
    connection: Connection, selection: Selection, after_id: int, limit: int
) -> list[int]:
    """Return the ids of quarantined rows above `after_id`, the lowest first, at most `limit`.

    Reads the index entries of the whole quarantine, so `limit` should be large.
    """
    ids = _quarantined(selection, row.id).where(row.id > after_id)
    return list(connection.scalars(ids.order_by(row.id).limit(limit)))


def fetch(connection: Connection, ids: Sequence[int]) -> list[JournalRow]:
    """Return the rows of these ids that are there, in the order of their ids."""
    found = select(*_COLUMNS).where(row.id.in_(ids)).order_by(row.id)
    return [_read(one) for one in connection.execute(found)]


def received(
    connection: Connection,
    selection: Selection,
    limit: int,
    after: tuple[datetime, int] | None = None,
) -> list[JournalRow]:
    """Return rows of any outcome in the order in which they were received, beginning behind the row
    with the time and id of `after`. `selection.reason` plays no part."""
    query = select(*_COLUMNS).where(*_bounds(selection))
    if after is not None:
        at, last_id = after
        # In two, because MySQL reads no range of an index from a pair.
        query = query.where(row.received_at >= at, or_(row.received_at > at, row.id > last_id))
    found = connection.execute(query.order_by(row.received_at, row.id).limit(limit))
    return [_read(one) for one in found]


def count(connection: Connection, selection: Selection, *, quarantined: bool, most: int) -> int:
    """Return how many rows are meant, counted up to `most`."""
    query = select(row.id).where(*_bounds(selection))
    if quarantined:
        query = _quarantined(selection, row.id)
    counted = select(func.count()).select_from(query.limit(most).subquery())
    return connection.execute(counted).scalar_one()


def by_reason(connection: Connection) -> dict[str, int]:
    """Return how many rows wait for a decision, by reason without its detail, the most first."""
    query = select(row.reason, func.count()).where(_QUARANTINED).group_by(row.reason)
    found: Counter[str] = Counter()
    for reason, rows in connection.execute(query):
        found[(reason or "").partition(":")[0]] += rows
    return dict(found.most_common())


def groups(connection: Connection, selection: Selection) -> list[Group]:
    """Return the quarantine by reason, that of the newest row first."""
    newest = func.max(row.id)
    query = _quarantined(selection, row.reason, func.count(), newest).group_by(row.reason)
    found = connection.execute(query.order_by(newest.desc()))
    return [Group(reason or "", rows, last) for reason, rows, last in found]


def newest_of(
    connection: Connection, selection: Selection, reason: str, limit: int
) -> list[JournalRow]:
    """Return the newest quarantined rows of exactly this reason."""
    ids = _quarantined(selection, row.id)
    exact = row.reason == reason if reason else or_(row.reason.is_(None), row.reason == "")
    newest = list(connection.scalars(ids.where(exact).order_by(row.id.desc()).limit(limit)))
    return fetch(connection, newest)[::-1]


def lock_quarantined(connection: Connection, ids: Collection[int]) -> dict[int, str]:
    """Return which of these rows are still quarantined, and why; nobody else decides about them
    until the transaction ends."""
    ordered = sorted(ids)
    found: dict[int, str] = {}
    for start in range(0, len(ordered), _CHUNK):
        # By the primary key alone: to look for an outcome would lock its index's neighbours.
        some = select(row.id, row.outcome, row.reason)
        some = some.where(row.id.in_(ordered[start : start + _CHUNK])).order_by(row.id)
        for row_id, outcome, reason in connection.execute(some.with_for_update()):
            if outcome == Outcome.QUARANTINED:
                found[row_id] = reason or ""
    return found


def undecided(connection: Connection, replayed: Sequence[Replayed]) -> Sequence[Replayed]:
    """Return `replayed` without the rows that it would settle, but somebody else has decided about;
    the others are locked."""
    settled = [one.row_id for one in replayed if one.settles]
    known = lock_quarantined(connection, settled)
    if len(known) == len(settled):
        return replayed
    return [one for one in replayed if not one.settles or one.row_id in known]


def mark_replayed(connection: Connection, marks: Sequence[Mark]) -> None:
    """Say of locked rows that they were replayed, and what they hold; their reasons stay."""
    if not marks:
        return
    change = update(journal).where(row.id == bindparam("row_id"))
    change = change.values(
        outcome=Outcome.REPLAYED.value,
        kind=bindparam("row_kind"),
        biz_id=bindparam("row_biz_id"),
        phone=bindparam("row_phone"),
    )
    values = [
        {
            "row_id": mark.row_id,
            "row_kind": mark.kind.value,
            "row_biz_id": mark.biz_id,
            "row_phone": mark.phone,
        }
        for mark in marks
    ]
    connection.execute(change, values)


def mark_dropped(connection: Connection, ids: Collection[int], because: str) -> int:
    """Drop those of these rows that are quarantined; return how many. `because` is cut to what
    fits behind a row's reason."""
    by_reason: dict[str, list[int]] = {}
    for row_id, reason in lock_quarantined(connection, ids).items():
        by_reason.setdefault(reason, []).append(row_id)
    for reason, some in by_reason.items():
        kept = f"{reason}{_DROPPED}{because}"[:_LONGEST_REASON]
        change = update(journal).where(row.id.in_(some))
        connection.execute(change.values(outcome=Outcome.DROPPED.value, reason=kept))
    return sum(map(len, by_reason.values()))


def split_reason(reason: str | None) -> tuple[str, str]:
    """Return why a row was quarantined, and why it was dropped ("" if it was not)."""
    why, _, because = (reason or "").partition(_DROPPED)
    return why, because


def marks(replayed: Iterable[Replayed]) -> list[Mark]:
    """Return the marks of the rows that are settled."""
    return [_mark(one) for one in replayed if one.settles]


def body_bytes(body: str, encoding: str) -> bytes:
    """Return a body of the journal as it was received. Never raises: base64 that is none was
    written by somebody else, and is returned as it is."""
    if encoding == "base64":
        with suppress(NotBase64):
            return b64decode(body, validate=True)
    return body.encode(errors="replace")


def _mark(replayed: Replayed) -> Mark:
    entry = replayed.entries[0]  # of several, the first stands for all
    record = entry.record
    return Mark(
        row_id=replayed.row_id,
        kind=entry.kind,
        biz_id=record.biz_id if isinstance(record, Receipt) else None,
        phone=None if record is None or isinstance(record, Notice) else record.phone,
    )


_COLUMNS = [
    row[name]
    for name in (
        "id", "source", "envelope_id", "part", "body", "encoding", "kind", "outcome", "reason",
        "enqueued_at", "received_at", "pull_count",
    )
]  # fmt: skip


def _read(one: Any) -> JournalRow:
    # In the order of _COLUMNS: by name, each value would cost as much as reading it.
    row_id, source, envelope_id, part, body, encoding, *rest = one
    return JournalRow(row_id, source, envelope_id, part, body_bytes(body, encoding), *rest)


def _quarantined(selection: Selection, *columns: ColumnElement[Any]) -> Select[Any]:
    return select(*columns).where(_QUARANTINED, *_bounds(selection), *_of_reason(selection.reason))


def _bounds(selection: Selection) -> list[ColumnElement[bool]]:
    bounds: list[ColumnElement[bool]] = []
    if selection.source is not None:
        bounds.append(row.source == selection.source)
    if selection.since is not None:
        bounds.append(row.received_at >= selection.since)
    if selection.until is not None:
        bounds.append(row.received_at < selection.until)
    return bounds


def _of_reason(reason: str | None) -> list[ColumnElement[bool]]:
    if reason is None:
        return []
    # A range, because LIKE uses no index on SQLite; ';' comes next after ':'.
    with_detail = and_(row.reason >= f"{reason}:", row.reason < f"{reason};")
    return [or_(row.reason == reason, with_detail)]
