"""What the metrics ask of the database, a few times a minute: indexes that are small because only
what is not finished stands in them."""

from collections.abc import Mapping
from datetime import datetime

import msgspec
from sqlalchemy import Connection, case, func, select

from receiptd.store import journal
from receiptd.store.schema import outbox, receipts


class OpenRows(msgspec.Struct, frozen=True):
    """An account's sends whose end is not known: how many, how many of them are due to be asked
    about, and when the oldest was sent."""

    rows: int
    overdue: int
    oldest: datetime | None


class Gauges(msgspec.Struct, frozen=True):
    """The figures as of one moment."""

    open: Mapping[str, OpenRows]  # by account
    quarantined: Mapping[str, int]  # by reason, without its detail
    notify_pending: Mapping[str, int]  # by endpoint


def gauges(connection: Connection, now: datetime) -> Gauges:
    """Return the figures. Takes as long as there are open sends: a second at a million."""
    row = receipts.c
    due = func.sum(case((row.next_query_at <= now, 1), else_=0))
    open_rows = select(row.account, func.count(), due, func.min(row.submitted_at))
    found = connection.execute(
        open_rows.where(row.next_query_at.is_not(None)).group_by(row.account)
    )
    return Gauges(
        open={
            account: OpenRows(rows, int(overdue), oldest)
            for account, rows, overdue, oldest in found
        },
        quarantined=journal.by_reason(connection),
        notify_pending={
            endpoint: count
            for endpoint, count in connection.execute(
                select(outbox.c.endpoint, func.count()).group_by(outbox.c.endpoint)
            )
        },
    )
