"""Group commit: one transaction carries all batches that wait at the moment it begins.

There is no writer thread. The first worker to come leads: it takes what waits, commits it, wakes
the others with their results and hands the lead to the first that came meanwhile. So a slow disk
makes the groups larger, and no batch waits for more than the transactions before its own.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import Connection, Engine

from receiptd.clock import Clock
from receiptd.errors import ConfigError, StoreError, StoreUnavailable
from receiptd.model import Entry
from receiptd.store import rows, schema
from receiptd.store.batch import Batch, join, prepare
from receiptd.store.dialects.base import Dialect

# A larger transaction is no faster per row, only slower to answer (performance.md section 2).
GROUP_ENTRIES = 1024


class SaveResult(msgspec.Struct, frozen=True):
    """What became of the records of one `save()`.

    Exact in sum over the batches of a transaction, and for a batch that was alone in its own; the
    batches of one group share its count of changed rows in proportion to their records.
    """

    changed: int  # records that made a row or changed one
    unchanged: int  # records that said nothing new, against the table or each other


class _Ticket:
    """One worker's batch and what became of it."""

    __slots__ = ("batch", "error", "leads", "result", "turn")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.result: SaveResult | None = None
        self.error: Exception | None = None
        self.leads = False
        self.turn = threading.Event()


class Writer:
    """See the module. Thread-safe."""

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        clock: Clock,
        *,
        trace: Callable[[str], None],
        on_commit: Callable[[float, int, int], None],
    ) -> None:
        self._engine = engine
        self._dialect = dialect
        self._clock = clock
        self._trace = trace
        self._on_commit = on_commit
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket] = deque()
        self._led = False

    def save(self, entries: Sequence[Entry]) -> SaveResult:
        """Return once a transaction that holds all of `entries` is durable.

        Raises StoreUnavailable or StoreRejected; then they are to be saved again, though after an
        error of the commit itself they may be there already.
        """
        if not entries:
            return SaveResult(changed=0, unchanged=0)
        # In the worker's own time, so that the transaction has nothing to do but write.
        ticket = _Ticket(self.prepare(entries))
        with self._lock:
            self._waiting.append(ticket)
            if not self._led:
                self._led = ticket.leads = True
        if not ticket.leads:
            ticket.turn.wait()
        if ticket.leads:
            self._lead()
        if ticket.error is not None:
            raise ticket.error
        assert ticket.result is not None
        return ticket.result

    def prepare(self, entries: Sequence[Entry], *, in_journal: bool = True) -> Batch:
        """Return `entries` as rows, see batch.prepare. Raises StoreRejected."""
        return prepare(entries, self._dialect.time, self._now(), in_journal=in_journal)

    def write(self, connection: Connection, batches: Sequence[Batch]) -> int:
        """Write `batches` in a transaction of the caller's; return how many rows are new or
        changed. Raises the driver's errors."""
        return self._write(connection, self._joined(batches))

    def _lead(self) -> None:
        with self._lock:
            group = self._take()
        try:
            self._settle(group)
        finally:
            with self._lock:
                heir = self._waiting[0] if self._waiting else None
                if heir is None:
                    self._led = False
                else:
                    heir.leads = True
            # The next transaction first: its disk need not wait for our wake-up calls.
            if heir is not None:
                heir.turn.set()
            for ticket in group:
                if ticket.result is None and ticket.error is None:
                    ticket.error = StoreUnavailable("the commit was interrupted")
                ticket.turn.set()

    def _take(self) -> list[_Ticket]:
        group = [self._waiting.popleft()]
        size = group[0].batch.entries
        while self._waiting and size + self._waiting[0].batch.entries <= GROUP_ENTRIES:
            ticket = self._waiting.popleft()
            size += ticket.batch.entries
            group.append(ticket)
        return group

    def _settle(self, group: list[_Ticket]) -> None:
        """Give each ticket its result or its error."""
        error = self._attempt(group)
        if error is None:
            return
        if len(group) == 1:
            group[0].error = error
        elif isinstance(error, (StoreUnavailable, ConfigError)):
            # The database's trouble is everyone's, and is not sought once more for each of them.
            _fail(group, error)
        else:
            self._settle_one_by_one(group)

    def _settle_one_by_one(self, group: list[_Ticket]) -> None:
        # Someone's data, or a bug that someone's data brings out: only that one shall pay.
        for position, ticket in enumerate(group):
            self._settle([ticket])
            if isinstance(ticket.error, (StoreUnavailable, ConfigError)):
                _fail(group[position + 1 :], ticket.error)
                return

    def _attempt(self, group: list[_Ticket]) -> Exception | None:
        """Commit the group; return what went wrong. Nothing is reported as stored on any error, not
        even on one after the commit was sent."""
        started = self._clock.monotonic()
        try:
            changed = self._transact_twice(group)
        except (StoreError, ConfigError) as exc:
            error: Exception = exc
        except Exception as exc:
            error = self._dialect.translate(exc) or exc
        else:
            _share_out(group, changed)
            entries = sum(ticket.batch.entries for ticket in group)
            self._on_commit(self._clock.monotonic() - started, len(group), entries)
            return None
        return error

    def _transact_twice(self, group: list[_Ticket]) -> int:
        batch = self._joined([ticket.batch for ticket in group])
        try:
            return self._transact(batch)
        except Exception as exc:
            if not self._dialect.is_deadlock(exc):
                raise
        return self._transact(batch)

    def _transact(self, batch: Batch) -> int:
        with self._engine.connect() as connection:
            try:
                with connection.begin():
                    changed = self._write(connection, batch)
                    self._trace("before_commit")
            except Exception as exc:
                if isinstance(self._dialect.translate(exc) or exc, StoreUnavailable):
                    # It failed once and is not asked again. Only it: whoever waits for a connection
                    # of a pool that was disposed of waits for nothing.
                    connection.invalidate()
                raise
        self._trace("after_commit")
        return changed

    def _write(self, connection: Connection, batch: Batch) -> int:
        database = self._dialect
        if batch.journal:
            database.append(connection, schema.journal, rows.JOURNAL, batch.journal)
        self._trace("in_transaction")
        changed = 0
        if receipts := batch.receipt_rows():
            changed += database.upsert_receipts(connection, receipts)
        if uplinks := batch.uplink_rows():
            changed += database.insert_new(connection, schema.uplinks, rows.UPLINKS, uplinks)
        if notices := batch.notice_rows():
            changed += database.insert_new(connection, schema.notices, rows.NOTICES, notices)
        return changed

    def _joined(self, batches: Sequence[Batch]) -> Batch:
        if len(batches) == 1:
            return batches[0]
        return join(batches, self._dialect.time, self._now())

    def _now(self) -> object:
        return self._dialect.time(self._clock.now())


def _fail(group: Sequence[_Ticket], error: StoreUnavailable | ConfigError) -> None:
    for ticket in group:
        # A copy each: raised in several threads, one exception would mix their tracebacks.
        if isinstance(error, ConfigError):
            ticket.error = ConfigError(error.problems)
        else:
            ticket.error = StoreUnavailable(*error.args)


def _share_out(group: Sequence[_Ticket], changed: int) -> None:
    total = sum(ticket.batch.records for ticket in group)
    before = given = 0
    for ticket in group:
        records = ticket.batch.records
        before += records
        share = changed * before // total - given if total else 0
        given += share
        ticket.result = SaveResult(changed=share, unchanged=records - share)
