"""Roll-ups: how many SMS of each hour ended how, so that a page over months reads little.

The receipts that were created in one hour are a block (rollup_blocks.py). A block is counted anew
as a whole, in short reads, and its rows are replaced in one transaction; nothing is ever added to a
row, so no count can drift, and the way of a receipt into the table knows nothing of this.

Within a block the receipts are counted by the hour of the SMS itself: submitted, else handed to the
carrier, else created. An import of last month, or an outage, does not move what was sent.

Each receipt is counted once in each of three *facets*: `status`, `error` (class and code) and
`template`. Their sum is read, not their product, which is ten times the rows.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from receiptd.model import OPEN, Status
from receiptd.store.rollup_blocks import HOUR, Block
from receiptd.store.schema import receipts, rollup_blocks, rollups

KEPT = timedelta(days=400)  # a year, and a month to compare it with
# What stands for the codes and templates beyond the most frequent ones of a block.
OTHER = "other"
# Rows per read: 6 ms on SQLite, which sorts them in memory. 10,000 took as long per row, and more
# memory: 0.5 MB with the readers' small cache, 1.5 MB with the default one.
STEP_ROWS = 2_500
# Codes and templates by name in one block; fewer where its rows would still be too many (an import
# of months in one hour).
_NAMED = (50, 20, 5, 0)
_MOST_ROWS = 5000
_MOST_KEYS = 40_000  # in memory while a block is counted: 15 MB
_INSERT_ROWS = 500
_PRUNED_BLOCKS = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# What a final receipt is: its row goes only with the retention, never in another way.
_FINAL = frozenset({Status.DELIVERED.value, Status.FAILED.value, Status.UNKNOWN.value})
_OPEN = frozenset(status.value for status in OPEN)

Facet: TypeAlias = Literal["status", "error", "template"]
_NAMES = (
    "provider", "account", "send_api", "status", "err_class", "err_code", "template_code",
)  # fmt: skip
_FACETS: dict[Facet, tuple[str, ...]] = {
    "status": ("provider", "account", "send_api", "status"),
    "error": ("provider", "account", "status", "err_class", "err_code"),
    "template": ("provider", "account", "status", "template_code"),
}
# By facet, hour and the facet's names.
_Sums: TypeAlias = dict[tuple[Any, ...], list[int]]
_SUMS = ("count", "timed", "delivery_ms", "lagged", "lag_ms")


class Total(msgspec.Struct, frozen=True):
    """A sum: `key` holds the values of what was grouped by, in that order."""

    key: tuple[Any, ...]
    count: int
    timed: int = 0  # delivered, with both times known
    delivery_ms: int = 0  # their sum from submitted (or with the carrier) to reported
    lagged: int = 0  # with a time of report
    lag_ms: int = 0  # their sum from reported to stored


# --- counting ---


class Count:
    """The counts of one block, step by step. Not thread-safe; the work is the database's."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.held = self.final = self.open = 0
        self._next_id: int | None = block.first_id
        self._sums: _Sums = {}

    def step(self, connection: Connection, rows: int = STEP_ROWS) -> bool:
        """Count the next `rows` receipts; return whether there are more. Raises the driver's
        errors; then the step can be done again."""
        if self._next_id is None:
            return False
        ids, first, last = receipts.c.id, self._next_id, self.block.last_id
        inside = select(ids).where(ids.between(first, last)).order_by(ids)
        end = connection.scalar(inside.offset(rows - 1).limit(1))
        counted = connection.execute(
            _counted(connection.dialect.name, first, last if end is None else end)
        ).all()
        self._next_id = None if end is None else end + 1
        for row in counted:
            self._take(*row)
        if len(self._sums) > _MOST_KEYS:
            self._sums = _folded(self._sums, _MOST_KEYS // 2)
        return self._next_id is not None

    def rows(self) -> list[dict[str, Any]]:
        """Return the block's rows of `rollups`."""
        sums = _folded(self._sums, _MOST_ROWS)
        empty = dict.fromkeys(_NAMES, "")
        rows = []
        for (facet, hour, *values), one in sums.items():
            told = dict(zip(_FACETS[facet], values, strict=True))
            row = {"block": self.block.first_id, "facet": facet, "hour": hour}
            rows.append(row | empty | told | dict(zip(_SUMS, one, strict=True)))
        return rows

    def _take(self, hours: int | None, *rest: Any) -> None:
        names = dict(zip(_NAMES, (name or "" for name in rest[: len(_NAMES)]), strict=True))
        sums = [int(one or 0) for one in rest[len(_NAMES) :]]
        count, status, hour = sums[0], names["status"], self._hour(hours)
        self.held += count
        self.final += count if status in _FINAL else 0
        self.open += count if status in _OPEN else 0
        for facet, columns in _FACETS.items():
            _add(self._sums, (facet, hour, *(names[name] for name in columns)), sums)

    def _hour(self, hours: int | None) -> datetime:
        # A time in the future, or from before the calendar of any SMS, is no time.
        own = self.block.hour
        try:
            told = own if hours is None else _EPOCH + hours * HOUR
        except OverflowError:
            return own
        return told if own - KEPT < told <= own else own


def _add(into: _Sums, key: tuple[Any, ...], sums: Sequence[int]) -> None:
    held = into.setdefault(key, [0] * len(_SUMS))
    for place, one in enumerate(sums):
        held[place] += one


def _folded(sums: _Sums, most: int) -> _Sums:
    """Return the sums with as many codes and templates by name as `most` keys allow; the others are
    counted together."""
    for named in _NAMED:
        kept = {facet: _most(sums, facet, named) for facet in ("error", "template")}
        folded: _Sums = {}
        for key, one in sums.items():
            names = kept.get(key[0])
            # The last name of a facet is the one that has no bound.
            is_told = names is None or not key[-1] or key[-1] in names
            _add(folded, key if is_told else (*key[:-1], OTHER), one)
        if len(folded) <= most:
            break
    return folded


def _most(sums: _Sums, facet: str, named: int) -> set[str]:
    counts: dict[str, int] = {}
    for key, one in sums.items():
        if key[0] == facet and key[-1] != OTHER:
            counts[key[-1]] = counts.get(key[-1], 0) + one[0]
    return set(sorted(counts, key=lambda name: (-counts[name], name))[:named])


def replace(connection: Connection, count: Count, now: datetime) -> bool:
    """Put the counts of a block in the place of its former ones; return False if those stay.

    They stay once a final receipt is missing: the retention was here, and history is not what is
    left of it. Raises the driver's errors.
    """
    block = rollup_blocks.c
    # First, and by whoever counts: two at once are one after the other.
    touched = update(rollup_blocks).where(block.first_id == count.block.first_id)
    connection.execute(touched.values(counted_at=now))
    known = select(block.final).where(block.first_id == count.block.first_id)
    if count.final < (connection.scalar(known) or 0):
        return False
    connection.execute(touched.values(held=count.held, final=count.final, open=count.open))
    connection.execute(delete(rollups).where(rollups.c.block == count.block.first_id))
    rows = count.rows()
    for start in range(0, len(rows), _INSERT_ROWS):
        connection.execute(insert(rollups), rows[start : start + _INSERT_ROWS])
    return True


def prune(connection: Connection, now: datetime) -> int:
    """Delete the history of some blocks older than KEPT; return of how many. Call until 0. Their
    ids stay theirs. Raises the driver's errors."""
    block = rollup_blocks.c
    old = select(block.first_id).where(block.hour < now - KEPT, block.held > 0)
    ids = connection.scalars(old.order_by(block.first_id).limit(_PRUNED_BLOCKS)).all()
    if ids:
        connection.execute(delete(rollups).where(rollups.c.block.in_(ids)))
        chosen = update(rollup_blocks).where(block.first_id.in_(ids))
        connection.execute(chosen.values(held=0))
    return len(ids)


# --- reading ---


def totals(
    connection: Connection,
    since: datetime,
    until: datetime,
    *,
    by: Sequence[str],
    account: str | None = None,
    statuses: Sequence[str] = (),
    timed: bool = True,
) -> list[Total]:
    """Return the sums of the SMS whose own hour is in [since, until), of one account and of some
    statuses or of all, grouped by `by`: `hour`,
    `provider`, `account`, `status`, and one of `send_api`; `err_class`, `err_code`;
    `template_code`. What is not known is "".

    Without `timed`, times are not summed, which takes half as long. Raises LookupError if what
    stands apart above is mixed.
    """
    fits = [facet for facet, names in _FACETS.items() if set(by) - {"hour"} <= set(names)]
    if not fits:
        raise LookupError(f"no roll-up by {', '.join(by)}")
    column = rollups.c
    keys = [column[name] for name in by]
    sums = [func.sum(column[name]) for name in (_SUMS if timed else _SUMS[:1])]
    query = select(*keys, *sums).where(
        column.facet == fits[0], column.hour >= since, column.hour < until
    )
    if account is not None:
        query = query.where(column.account == account)
    if statuses:
        query = query.where(column.status.in_(statuses))
    rows = connection.execute(query.group_by(*keys) if keys else query)
    width = len(keys)
    return [Total(tuple(row[:width]), *(int(one or 0) for one in row[width:])) for row in rows]


# --- SQL ---


def _counted(dialect: str, first: int, last: int) -> Any:
    hour, delivery, lag = _EXPRESSIONS.get(dialect, _EXPRESSIONS["mysql"])
    names = [receipts.c[name] for name in _NAMES]
    hours: ColumnElement[int] = literal_column(hour).label("hours")
    delivery_ms = _plausible(delivery, "AND status = 'delivered'")
    lag_ms = _plausible(lag, "")
    return (
        select(
            hours,
            *names,
            func.count(),
            func.count(delivery_ms),
            func.sum(delivery_ms),
            func.count(lag_ms),
            func.sum(lag_ms),
        )
        .where(receipts.c.id.between(first, last))
        .group_by(hours, *names)
    )


def _plausible(milliseconds: str, only: str) -> ColumnElement[int]:
    # A clock that was wrong, or a time of another age, would drown all others in the sum.
    month_ms = 31 * 24 * 3600 * 1000
    between = f"BETWEEN 0 AND {month_ms}"
    return literal_column(f"CASE WHEN {milliseconds} {between} {only} THEN {milliseconds} END")


def _expressions(hour: str, difference: str) -> tuple[str, str, str]:
    """Return the SQL of an SMS's hour since 1970, of its way to the phone and of its lag, both in
    milliseconds. Written out, not bound: PostgreSQL groups only by what is the same text."""
    sent = "coalesce(submitted_at, sent_at)"
    return (
        hour.format(time="coalesce(submitted_at, sent_at, created_at)"),
        difference.format(begin=sent, end="reported_at"),
        difference.format(begin="reported_at", end="updated_at"),
    )


_EXPRESSIONS = {
    "sqlite": _expressions(
        "CAST(strftime('%s', {time}) AS INTEGER) / 3600",
        "CAST(round((julianday({end}) - julianday({begin})) * 86400000) AS INTEGER)",
    ),
    "postgresql": _expressions(
        "CAST(floor(extract(epoch FROM {time}) / 3600) AS bigint)",
        "CAST(extract(epoch FROM {end} - {begin}) * 1000 AS bigint)",
    ),
    "mysql": _expressions(
        "TIMESTAMPDIFF(HOUR, '1970-01-01', {time})",
        "TIMESTAMPDIFF(MICROSECOND, {begin}, {end}) DIV 1000",
    ),
}
