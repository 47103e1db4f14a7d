"""Figures for `status`: each function is one short read.

What has an index is counted whole. The rest is counted by ranges of ids (lookups.ranges), so that
the caller may stop when its time is up.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    case,
    func,
    null,
    select,
    text,
)

from receiptd.model import OPEN, Status
from receiptd.store.lookups import Span
from receiptd.store.schema import journal, leases, metadata, progress, receipts
from receiptd.store.types import UTC

_row = receipts.c
_IS_OPEN = _row.status.in_([status.value for status in OPEN])


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `progress`. Times are aware UTC, counts since the instance's start."""

    instance: str
    source: str
    last_pull_at: datetime | None
    last_commit_at: datetime | None
    pulled: int
    redelivered: int
    records: int
    changed: int
    quarantined: int
    acked: int
    ack_expired: int
    ack_failed: int
    updated_at: datetime


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """Sends of one account and status that reconciliation will ask about.

    `overdue` of them should have been heard of by now, the oldest of which was sent at `oldest`;
    `due` would be asked about at once.
    """

    provider: str
    account: str
    status: Status
    count: int
    overdue: int
    due: int
    oldest: datetime | None


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Receipts of one account and status: all of them, those without a plan, those without the time
    of their send."""

    provider: str
    account: str
    status: Status
    count: int
    unplanned: int
    undated: int


class Lease(msgspec.Struct, frozen=True):
    """Who may do what, and until when."""

    name: str
    holder: str
    until: datetime


def progress_rows(connection: Connection) -> list[Progress]:
    """Return what each instance last said about its sources."""
    names = Progress.__struct_fields__
    query = select(*(progress.c[name] for name in names))
    found = connection.execute(query.order_by(progress.c.source, progress.c.instance))
    return [Progress(**dict(zip(names, one, strict=True))) for one in found]


def last_waits(connection: Connection, rows: int) -> dict[str, float]:
    """Return for how many seconds the newest envelope of each source had been in its queue, of
    those sources that are among the newest `rows` rows of the journal."""
    row = journal.c
    last = connection.scalar(select(func.max(row.id)))
    if last is None:
        return {}
    query = select(row.source, row.enqueued_at, row.received_at).where(row.id > last - rows)
    waits: dict[str, tuple[datetime, float]] = {}
    for source, enqueued_at, received_at in connection.execute(query):
        known = waits.get(source)
        if enqueued_at is not None and (known is None or known[0] <= received_at):
            waits[source] = received_at, (received_at - enqueued_at).total_seconds()
    return {source: seconds for source, (_, seconds) in waits.items()}


def planned(
    connection: Connection,
    now: datetime,
    sent_before: datetime,
    after: datetime | None,
    rows: int,
) -> tuple[list[Planned], datetime | None]:
    """Return figures of the next `rows` or so planned sends whose turn is after `after`, and up to
    what turn: None if these were the last. What was sent before `sent_before` is overdue."""
    turn = _row.next_query_at
    ahead = turn.is_not(None) if after is None else turn > after
    last = connection.scalar(select(turn).where(ahead).order_by(turn).offset(rows - 1).limit(1))
    mine = [ahead, _IS_OPEN] if last is None else [ahead, turn <= last, _IS_OPEN]
    is_overdue = _row.submitted_at <= sent_before
    group = (_row.provider, _row.account, _row.status)
    query = select(
        *group,
        func.count(),
        _how_many(is_overdue),
        _how_many(turn <= now),
        func.min(case((is_overdue, _row.submitted_at), else_=null()), type_=UTC()),
    ).where(*mine)
    found = [
        Planned(
            provider=provider,
            account=account,
            status=Status(status),
            count=count,
            overdue=int(overdue),
            due=int(due),
            oldest=oldest,
        )
        for provider, account, status, count, overdue, due, oldest in connection.execute(
            query.group_by(*group)
        )
    ]
    return found, last


def tallies(connection: Connection, span: Span) -> list[Tally]:
    """Return figures of the receipts with ids within `span`."""
    group = (_row.provider, _row.account, _row.status)
    query = select(
        *group,
        func.count(),
        _how_many(_row.next_query_at.is_(None)),
        _how_many(_row.submitted_at.is_(None)),
    ).where(_row.id.between(*span))
    return [
        Tally(
            provider=provider,
            account=account,
            status=Status(status),
            count=count,
            unplanned=int(unplanned),
            undated=int(undated),
        )
        for provider, account, status, count, unplanned, undated in connection.execute(
            query.group_by(*group)
        )
    ]


def held_leases(connection: Connection, now: datetime) -> list[Lease]:
    """Return the leases that somebody holds at `now`."""
    row = leases.c
    query = select(row.name, row.holder, row.until).where(row.until > now).order_by(row.name)
    return [Lease(*one) for one in connection.execute(query)]


def kind(connection: Connection) -> str:
    """Return `sqlite`, `postgresql`, `mysql` or `mariadb`."""
    if getattr(connection.dialect, "is_mariadb", False):
        return "mariadb"
    return connection.dialect.name


def sizes(connection: Connection) -> dict[str, int]:
    """Return the bytes of each of our tables with its indexes, as the server estimates them; for
    SQLite those of the file, under ""."""
    names = sorted(metadata.tables)
    if connection.dialect.name == "sqlite":
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        return {"": pages * connection.execute(text("PRAGMA page_size")).scalar_one()}
    if connection.dialect.name == "postgresql":
        query = text(
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
            " WHERE relkind IN ('r', 'p') AND pg_table_is_visible(oid)"
        )
    else:
        query = text(
            "SELECT table_name, data_length + index_length FROM information_schema.tables"
            " WHERE table_schema = DATABASE()"
        )
    return _ours(names, connection.execute(query).all())


def _ours(names: Sequence[str], found: Iterable[Sequence[object]]) -> dict[str, int]:
    sizes = {str(name): int(str(size or 0)) for name, size in found}
    return {name: sizes[name] for name in names if name in sizes}


def _how_many(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))
