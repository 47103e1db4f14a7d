"""Receipts and replies in pages, the newest first, for the API.

A page ends at an id, and the next one begins below it: rows that come meanwhile have higher ids, so
whoever turns the pages sees each row that was there at the beginning once. No filter but biz_id has
an index, because every receipt would pay for it: rows are sought in windows of ids.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, func, select

from receiptd.store.schema import receipts, uplinks

# What one statement looks through at most, whatever it finds: some milliseconds.
WINDOW_IDS = 20_000
# How far ids may be out of the order of time: what several processes commit at one moment.
_DISORDER = 1000
# Of one send: a batch has 1,000 numbers at most.
_MOST_OF_ONE = 10_000

_RECEIPT = (
    "provider", "account", "biz_id", "phone", "out_id", "status", "err_code", "err_msg",
    "err_class", "segments", "sign_name", "template_code", "send_api", "submitted_at", "sent_at",
    "reported_at", "origin", "conflict", "created_at", "updated_at",
)  # fmt: skip
_UPLINK = (
    "provider", "account", "phone", "content", "dest_code", "sign_name", "sequence_id", "sent_at",
    "biz_id", "created_at",
)  # fmt: skip


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows: equal to each of `values` by column, and created in [since, until)."""

    values: dict[str, str]
    since: datetime | None = None
    until: datetime | None = None


class Found(msgspec.Struct, frozen=True):
    """Rows by descending id, and the id below which the next ones are; None if there are none."""

    rows: Sequence[dict[str, Any]]
    before: int | None


def receipts_of(connection: Connection, wanted: Wanted, before: int | None, limit: int) -> Found:
    """Return rows of one biz_id, which must be among the wanted values: by the unique key."""
    # The ids first, and sorted here: for an ORDER BY, a database may prefer the primary key.
    ids = select(receipts.c.id).where(*_matches(receipts, wanted)).limit(_MOST_OF_ONE)
    below = sorted(
        (one for one in connection.scalars(ids) if before is None or one < before), reverse=True
    )
    chosen = below[:limit]
    rows = _rows(connection, receipts, _RECEIPT, [receipts.c.id.in_(chosen)], limit)
    return Found(rows, chosen[-1] if len(below) > limit else None)


def top(connection: Connection, table: Table, until: datetime | None) -> int | None:
    """Return the id below which all rows are that were created before `until` (by default: all);
    None if the table is empty."""
    # Two statements, because SQLite reads the whole table for both at once.
    first: int | None = connection.scalar(select(func.min(table.c.id)))
    last: int | None = connection.scalar(select(func.max(table.c.id)))
    if first is None or last is None:
        return None
    if until is None:
        return last + 1
    about = _first_since(connection, table, until, first, last)
    return min(about + _DISORDER, last + 1)


def bottom(connection: Connection, table: Table, since: datetime | None) -> int:
    """Return an id below which no row is that was created at or after `since`."""
    first: int | None = connection.scalar(select(func.min(table.c.id)))
    if since is None or first is None:
        return first or 0
    last: int | None = connection.scalar(select(func.max(table.c.id)))
    return max(_first_since(connection, table, since, first, last or first) - _DISORDER, first)


def window(
    connection: Connection, table: Table, wanted: Wanted, before: int, bottom: int, limit: int
) -> Found:
    """Return what the next window of ids below `before` holds; `before` of the answer is None once
    `bottom` is reached."""
    ids = table.c.id
    # Past ids that were deleted.
    last = connection.scalar(select(ids).where(ids < before).order_by(ids.desc()).limit(1))
    if last is None or last < bottom:
        return Found([], None)
    matches = _matches(table, wanted)
    first = max(bottom, last - WINDOW_IDS + 1) if matches else bottom
    columns = _RECEIPT if table is receipts else _UPLINK
    rows = _rows(connection, table, columns, [ids.between(first, last), *matches], limit)
    if len(rows) == limit:
        return Found(rows, rows[-1]["id"])
    return Found(rows, first if first > bottom else None)


def _rows(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    conditions: Sequence[ColumnElement[bool]],
    limit: int,
) -> list[dict[str, Any]]:
    query = select(table.c.id, *(table.c[name] for name in columns)).where(*conditions)
    found = connection.execute(query.order_by(table.c.id.desc()).limit(limit))
    return [dict(row) for row in found.mappings()]


def _matches(table: Table, wanted: Wanted) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [
        table.c[name] == value for name, value in wanted.values.items()
    ]
    if wanted.since is not None:
        found.append(table.c.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(table.c.created_at < wanted.until)
    return found


def _first_since(
    connection: Connection, table: Table, moment: datetime, low: int, high: int
) -> int:
    """Return about the id of the first row created at or after `moment`; halves the ids, some 24
    probes of the primary key at ten million rows."""
    ids = table.c.id
    while low <= high:
        middle = (low + high) // 2
        probe = select(ids, table.c.created_at).where(ids >= middle).order_by(ids).limit(1)
        found = connection.execute(probe).first()
        if found is None or found.created_at >= moment:
            high = middle - 1
        else:
            low = int(found.id) + 1
    return low


RECEIPTS, UPLINKS = receipts, uplinks
