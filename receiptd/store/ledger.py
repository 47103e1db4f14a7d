"""Sends into the receipts table: the same upsert as a receipt's, without a journal row."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, delete, select

from receiptd.model import Receipt, Status
from receiptd.store import plan, rows
from receiptd.store.dialects.base import Dialect
from receiptd.store.merge import Key, fold, key
from receiptd.store.rows import Row, Timer
from receiptd.store.schema import receipts

# What was found out about a row by its own id stays, whatever its send's answer says.
_OPEN = [status.value for status in (Status.AWAITED, Status.PENDING, Status.LOST)]
_CHUNK = 500  # parameters of one statement


def prepare(sends: Sequence[Receipt], timer: Timer, now: object) -> list[Row]:
    """Return sends as rows in the order of their keys, each key once; `now` is already what the
    database wants. Raises StoreRejected, naming the column, never the value."""
    return [rows.receipt_row(receipt, timer, now) for receipt in fold(sends)]


def plan_queries(connection: Connection, sends: Sequence[Receipt], ask_after: timedelta) -> None:
    """Let reconciliation ask about what waits, `ask_after` the send. A send without a time is never
    asked about: its day is not known. Raises the driver's errors."""
    plan.begin(
        connection,
        (
            (key(one), one.submitted_at + ask_after)
            for one in sends
            if one.status is Status.AWAITED and one.submitted_at is not None
        ),
    )


def record(
    connection: Connection, dialect: Dialect, sends: Sequence[Row], settled: Sequence[Key]
) -> int:
    """Merge `sends` into the table, and delete those rows of `settled` about which nothing is
    known; return how many rows were new or changed. Raises the driver's errors."""
    changed = dialect.upsert_receipts(connection, sends) if sends else 0
    wanted = set(settled)
    biz_ids = sorted({one[0] for one in wanted})
    for start in range(0, len(biz_ids), _CHUNK):
        _settle(connection, biz_ids[start : start + _CHUNK], wanted)
    return changed


def _settle(connection: Connection, biz_ids: Sequence[str], settled: set[Key]) -> None:
    # Nearly always there is nothing: one look at the unique index, and no lock.
    row = receipts.c
    query = select(row.id, row.biz_id, row.phone, row.provider, row.account)
    found = connection.execute(query.where(row.biz_id.in_(biz_ids), row.status.in_(_OPEN)))
    ids = sorted(one.id for one in found if tuple(one)[1:] in settled)
    for start in range(0, len(ids), _CHUNK):
        some = row.id.in_(ids[start : start + _CHUNK])
        connection.execute(delete(receipts).where(some, row.status.in_(_OPEN)))
