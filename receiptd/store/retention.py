"""Retention: what is too old is deleted beside live traffic, in many short transactions.

Ids rise with time, so what is old is a prefix of the ids. The last old id is found once; then each
step reads the next 1,000 old ids, without a lock, and deletes their range. Every DELETE still says
what is old: ids of several processes are out of order by a little, and no clock that was wrong may
cost a row. What is behind the prefix for such a reason goes a run later.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import msgspec
from sqlalchemy import (
    ColumnElement,
    Table,
    delete,
    func,
    select,
)

from receiptd.clock import Clock
from receiptd.model import Outcome
from receiptd.store.ids import last_id_before
from receiptd.store.leases import Transaction, read_time
from receiptd.store.schema import NOT_STORED, journal, progress, receipts

# Rows per transaction: some milliseconds of the writer's lock, and no longer log than a batch's.
STEP_ROWS = 1000
# Instances are named after their process, so each restart leaves rows behind.
SILENT_AFTER = timedelta(days=7)
# How far a step looks for rows to delete: past what is kept in between, and no further.
_WINDOW_STEPS = 20
_STEP_INSTANCES = 100  # of some sources each

TableName: TypeAlias = Literal["journal", "receipts", "progress"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What is old. None keeps all."""

    journal: timedelta | None  # since received_at
    # Since updated_at: a receipt that something new is known about begins again.
    receipts: timedelta | None
    # What could not be understood is nowhere else: it stays until an operator replays or drops it.
    include_quarantined: bool = False


class Removed(msgspec.Struct, frozen=True):
    """One step: how many rows of which table."""

    table: TableName
    rows: int


class Retention:
    """One run over the tables. Not thread-safe."""

    def __init__(
        self,
        *,
        read: Transaction,
        write: Transaction,
        clock: Clock,
        limits: Limits,
        dry_run: bool = False,
        step_rows: int = STEP_ROWS,
    ) -> None:
        """With `dry_run`, nothing is deleted, and the steps tell what would be."""
        self._read = read
        self._write = write
        self._clock = clock
        self._limits = limits
        self._dry_run = dry_run
        self._step_rows = step_rows

    def steps(self) -> Iterator[Removed]:
        """Yield after each transaction that deleted something; nothing is locked meanwhile, so the
        caller may pause as long as it likes, or stop.

        Raises StoreUnavailable; what was yielded is gone for good, the rest is for the next run.
        """
        with self._read() as connection:
            now = read_time(connection, self._clock)
        if cutoff := _before(now, self._limits.journal):
            yield from self._old_journal(cutoff)
        if cutoff := _before(now, self._limits.receipts):
            yield from self._old_receipts(cutoff)
        yield from self._silent_progress(now - SILENT_AFTER)

    def undecided(self) -> int:
        """Return how many quarantined rows are old, and stay. Raises StoreUnavailable."""
        with self._read() as connection:
            cutoff = _before(read_time(connection, self._clock), self._limits.journal)
            if cutoff is None or self._limits.include_quarantined:
                return 0
            rows = select(func.count()).where(
                journal.c.outcome == Outcome.QUARANTINED.value,
                NOT_STORED,
                journal.c.received_at < cutoff,
            )
            return connection.execute(rows).scalar_one()

    def _old_journal(self, cutoff: datetime) -> Iterator[Removed]:
        old: ColumnElement[bool] = journal.c.received_at < cutoff
        if not self._limits.include_quarantined:
            old &= journal.c.outcome != Outcome.QUARANTINED.value
        # One probe of the index by time, which is there for replay anyway. Not of the youngest
        # alone, which may have a smaller id than its neighbours. (By id too, for times that are
        # equal: to SQLite and InnoDB that is the index's own order, to PostgreSQL nearly.)
        by_time = journal.c.received_at.desc(), journal.c.id.desc()
        youngest = select(journal.c.id).where(journal.c.received_at < cutoff)
        youngest = youngest.order_by(*by_time).limit(self._step_rows)
        with self._read() as connection:
            last = connection.scalar(select(func.max(youngest.subquery().c.id)))
        yield from self._prefix("journal", journal, old, last)

    def _old_receipts(self, cutoff: datetime) -> Iterator[Removed]:
        # What reconciliation will still ask about is no past: every send is accounted for first.
        old = (receipts.c.updated_at < cutoff) & receipts.c.next_query_at.is_(None)
        with self._read() as connection:
            last = last_id_before(connection, receipts, cutoff)
        yield from self._prefix("receipts", receipts, old, last)

    def _prefix(
        self, name: TableName, table: Table, old: ColumnElement[bool], last: int | None
    ) -> Iterator[Removed]:
        """Delete the old rows up to id `last`, a range of ids a step."""
        after = -1
        while last is not None:
            with self._read() as connection:
                next_id = select(table.c.id).where(table.c.id > after).order_by(table.c.id)
                begin = connection.scalar(next_id.limit(1))
                if begin is None or begin > last:
                    return
                # A window, not the whole prefix: PostgreSQL without statistics would sort that.
                end = min(last, begin + _WINDOW_STEPS * self._step_rows - 1)
                # Found before it is deleted: MySQL has no LIMIT in a subquery of a DELETE.
                ids = select(table.c.id).where(table.c.id.between(begin, end), old)
                found = ids.order_by(table.c.id).limit(self._step_rows).subquery().c.id
                first, final, rows = connection.execute(
                    select(func.min(found), func.max(found), func.count())
                ).one()
            after = final if rows == self._step_rows else end
            if not rows:
                continue
            if not self._dry_run:
                with self._write() as connection:
                    chosen = delete(table).where(table.c.id.between(first, final), old)
                    rows = connection.execute(chosen).rowcount
            yield Removed(name, rows)

    def _silent_progress(self, cutoff: datetime) -> Iterator[Removed]:
        # All of an instance or nothing of it: a source of it that is away for a week is no news.
        silent = select(progress.c.instance).group_by(progress.c.instance)
        silent = silent.having(func.max(progress.c.updated_at) < cutoff)
        after = ""
        while True:
            some = silent.where(progress.c.instance > after).order_by(progress.c.instance)
            with self._read() as connection:
                names = connection.scalars(some.limit(_STEP_INSTANCES)).all()
                if not names:
                    return
                chosen = progress.c.instance.in_(names) & (progress.c.updated_at < cutoff)
                count = select(func.count()).select_from(progress).where(chosen)
                rows = connection.execute(count).scalar_one()
            after = names[-1]
            if not self._dry_run:
                with self._write() as connection:
                    rows = connection.execute(delete(progress).where(chosen)).rowcount
            yield Removed("progress", rows)


def _before(now: datetime, age: timedelta | None) -> datetime | None:
    if age is None:
        return None
    try:
        return now - age
    except OverflowError:  # older than the calendar is as good as for ever
        return None
