"""The merge of merge.py as SQL expressions, for any database's upsert.

`old` is the row in the table, `new` the row on offer. Constants are written into the SQL and not
bound, so that a compiled statement takes nothing but the row's own values.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    and_,
    case,
    func,
    literal_column,
    not_,
    null,
    or_,
    true,
    tuple_,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from receiptd.model import OPEN, RANK, Status
from receiptd.store.merge import EARLIEST, GREATEST, TOP, VERDICT

Columns: TypeAlias = (
    ReadOnlyColumnCollection[str, ColumnElement[Any]] | Mapping[str, ColumnElement[Any]]
)


def merged(old: Columns, new: Columns) -> dict[str, ColumnElement[Any]]:
    """Return what each column of the row becomes.

    The expressions mean the row before any of them is assigned. MySQL assigns one after another, so
    its dialect keeps what the verdict's columns need.
    """
    wins = new_verdict_wins(old, new)
    values: dict[str, ColumnElement[Any]] = {
        "conflict": _conflict(old, new),
        "next_query_at": next_query(old, new, wins),
    }
    for name in GREATEST + EARLIEST:
        values[name] = case((_better(name, old, new), new[name]), else_=old[name])
    for name in reversed(VERDICT):
        values[name] = case((wins, new[name]), else_=old[name])
    return values


def changes(old: Columns, new: Columns) -> ColumnElement[bool]:
    """Return whether the merge differs from the old row: an equal row is not written again."""
    return or_(new_verdict_wins(old, new), fills(old, new))


def fills(old: Columns, new: Columns) -> ColumnElement[bool]:
    """Return whether anything but the verdict differs from the old row after the merge."""
    return or_(
        *(_better(name, old, new) for name in GREATEST + EARLIEST),
        and_(~old["conflict"], _conflict(old, new)),
    )


def new_verdict_wins(old: Columns, new: Columns) -> ColumnElement[bool]:
    """Return whether the new row's verdict is the greater; false if they are equal."""
    filler = new["updated_at"]  # any time that is not null and the same on both sides
    return tuple_(*_verdict(new, filler)) > tuple_(*_verdict(old, filler))


def next_query(old: Columns, new: Columns, wins: ColumnElement[bool]) -> ColumnElement[Any]:
    """Return when the row is asked about next: never again, once its end is known."""
    is_open = or_(*(_is(new, status) for status in OPEN))
    return case((and_(wins, not_(is_open)), null()), else_=old["next_query_at"])


def _verdict(row: Columns, time_filler: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    parts = [
        case(*((_is(row, status), literal_column(str(rank))) for status, rank in RANK.items())),
        _known(row["reported_at"]),
        func.coalesce(row["reported_at"], time_filler),
        case((_is(row, Status.DELIVERED), literal_column("1")), else_=literal_column("0")),
    ]
    for name in VERDICT[2:]:
        parts += [_known(row[name]), func.coalesce(row[name], literal_column("''"))]
    return parts


def _known(column: ColumnElement[Any]) -> ColumnElement[int]:
    # A null is less than every value, the empty text included.
    return case((column.is_(None), literal_column("0")), else_=literal_column("1"))


def _is(row: Columns, status: Status) -> ColumnElement[bool]:
    return row["status"] == literal_column(f"'{status.value}'")


def _better(name: str, old: Columns, new: Columns) -> ColumnElement[bool]:
    wins = new[name] > old[name] if name in GREATEST else new[name] < old[name]
    return or_(wins, and_(old[name].is_(None), new[name].is_not(None)))


def _conflict(old: Columns, new: Columns) -> ColumnElement[bool]:
    ours, theirs = sorted(TOP)
    return or_(
        old["conflict"] == true(),
        new["conflict"] == true(),
        and_(_is(old, ours), _is(new, theirs)),
        and_(_is(old, theirs), _is(new, ours)),
    )
