"""What the dashboard shows beside the roll-ups: a few reads, each of an index or a small table."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from receiptd.model import OPEN
from receiptd.store import journal, rollups
from receiptd.store.schema import progress, receipts

# Open sends that are looked at one by one: 50 ms. Beyond, their hours are told from the roll-ups.
GAPS_EXACT = 5000
_MOST_REASONS = 20
_HOUR = timedelta(hours=1)


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A source as its instances tell of it; counts since their start."""

    source: str
    instances: int  # that have told of themselves since `alive_since`
    told_at: datetime  # the last word of any
    last_pull_at: datetime | None
    last_commit_at: datetime | None
    pulled: int
    changed: int
    quarantined: int
    ack_failed: int


class Gaps(msgspec.Struct, frozen=True):
    """Open sends by account and by the hour (or the time) they were submitted; oldest first."""

    rows: list[tuple[str, datetime, int]]  # account, submitted_at, how many
    is_exact: bool  # else as of when their hours were last counted


def sources(connection: Connection, alive_since: datetime) -> list[Progress]:
    """Return one row per source, by name. Counts are those of the instances that are alive, of all
    if none is."""
    known: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(select(progress)):
        known.setdefault(row.source, []).append(row)
    return [_progress(name, known[name], alive_since) for name in sorted(known)]


def gaps(connection: Connection, now: datetime, window: timedelta) -> Gaps:
    """Return the sends whose end is not known yet; bounded, however many there are."""
    planned: ColumnElement[bool] = receipts.c.next_query_at.is_not(None)

    # In the index's order and with a limit, or PostgreSQL without statistics reads the whole table.
    def first(*columns: ColumnElement[Any]) -> Select[Any]:
        listed = select(*columns).where(planned).order_by(receipts.c.next_query_at)
        return listed.limit(GAPS_EXACT + 1)

    # The index alone tells how many there are, at least.
    some = first(receipts.c.next_query_at).subquery()
    if (connection.scalar(select(func.count()).select_from(some)) or 0) <= GAPS_EXACT:
        sent_at = func.coalesce(receipts.c.submitted_at, receipts.c.created_at)
        found = connection.execute(first(receipts.c.account, sent_at)).all()
        return Gaps(sorted(((account, at, 1) for account, at in found), key=_by_time), True)
    since = now - window - _HOUR
    totals = rollups.totals(
        connection,
        since,
        now + _HOUR,
        by=("account", "hour"),
        statuses=[status.value for status in OPEN],
        timed=False,
    )
    rows = [(*one.key, one.count) for one in totals]
    return Gaps(sorted(rows, key=_by_time), False)


def quarantine(connection: Connection) -> list[tuple[str, int]]:
    """Return how many rows wait for a decision, by reason without its detail, most first."""
    counts = journal.by_reason(connection)
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:_MOST_REASONS]


def _progress(source: str, rows: Sequence[Row[Any]], alive_since: datetime) -> Progress:
    alive = [row for row in rows if row.updated_at >= alive_since]
    sums = ("pulled", "changed", "quarantined", "ack_failed")
    return Progress(
        source=source,
        instances=len(alive),
        told_at=max(row.updated_at for row in rows),
        last_pull_at=_latest(row.last_pull_at for row in rows),
        last_commit_at=_latest(row.last_commit_at for row in rows),
        **{name: sum(getattr(row, name) for row in alive or rows) for name in sums},
    )


def _latest(times: Iterable[datetime | None]) -> datetime | None:
    return max((time for time in times if time is not None), default=None)


def _by_time(row: tuple[str, datetime, int]) -> datetime:
    return row[1]
