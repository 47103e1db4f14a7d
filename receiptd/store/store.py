"""The store as the rest of the program sees it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError

from receiptd.clock import Clock
from receiptd.errors import ConfigError, Problem, StoreError, StoreUnavailable
from receiptd.model import Entry, Receipt
from receiptd.store import journal, ledger, migrate, plan, progress
from receiptd.store.batch import Batch
from receiptd.store.dialects import load
from receiptd.store.dialects.base import BRIEF, Dialect
from receiptd.store.journal import Replayed
from receiptd.store.leases import Leases
from receiptd.store.merge import Key
from receiptd.store.plan import FIRST_AFTER, Answer
from receiptd.store.retention import Limits, Removed, Retention
from receiptd.store.writer import SaveResult, Writer

_PLACE = "database.url"


def _ignore_point(point: str) -> None:
    pass


def _ignore_commit(seconds: float, batches: int, entries: int) -> None:
    pass


class Store:
    """One database. Thread-safe; connects when it is first asked."""

    def __init__(
        self,
        url: URL,
        dialect: Dialect,
        clock: Clock,
        *,
        trace: Callable[[str], None],
        on_commit: Callable[[float, int, int], None],
    ) -> None:
        self._url = url
        self._dialect = dialect
        self._clock = clock
        self._engines = dialect.engines(url)
        self._writer = Writer(
            self._engines.writer, dialect, clock, trace=trace, on_commit=on_commit
        )
        self._brief = self._engines.writer.execution_options(**{BRIEF: True})
        self._closed = False

    @property
    def is_local(self) -> bool:
        """Whether the database is a file of ours, so that it may be upgraded without asking."""
        return self._dialect.is_local

    def save(self, entries: Sequence[Entry]) -> SaveResult:
        """Return once all of `entries` are durable, in one transaction with whoever else waits.

        Blocks for the running transaction and its own: at most some seconds, then the database is
        unavailable. Raises StoreUnavailable, StoreRejected (none of `entries` is stored), or
        ConfigError if the database stopped being durable. Any other error is a bug that these
        entries brought out.
        """
        self._refuse_if_closed()
        return self._writer.save(entries)

    def upgrade(self) -> list[str]:
        """Bring the schema up to date; return the revisions applied, oldest first.

        Safe in several processes at once. Raises ConfigError (address, or a schema newer than this
        program) or StoreUnavailable.
        """
        if problems := self._dialect.url_problems(self._url):
            raise ConfigError(problems)
        is_transactional = self._dialect.has_transactional_ddl
        with (
            self._talking(self._engines.writer) as connection,
            self._dialect.migrating(connection),
        ):
            return migrate.upgrade(connection, is_transactional=is_transactional)

    def revision(self) -> str | None:
        """Return the schema's revision, None if there is none. Raises StoreUnavailable."""
        with self._talking(self._engines.reader) as connection:
            return migrate.current(connection)

    def problems(self) -> list[Problem]:
        """Return what an operator must mend before anything is stored: address, durability, schema.

        Raises StoreUnavailable if the database cannot be reached: that may mend itself.
        """
        if problems := self._dialect.url_problems(self._url):
            return problems
        if self._dialect.is_missing(self._url):  # asking must not make it
            return [found] if (found := migrate.problem(None)) else []
        try:
            with self._talking(self._engines.writer) as connection:
                problems = self._dialect.durability(connection)
                problem = migrate.problem(migrate.current(connection))
        except ConfigError as exc:
            return list(exc.problems)
        return [*problems, problem] if problem else problems

    def record_progress(self, instance: str, source: str, counts: progress.ProgressCounts) -> None:
        """Write the progress row of (instance, source). Raises StoreUnavailable, StoreRejected.

        A lock held by another process is waited for half a second only, so that a stop is not held
        up by a database that is away.
        """
        with self._talking(self._brief) as connection:
            progress.record(connection, instance, source, counts, self._clock.now())

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One short read transaction, for the questions of the modules beside this one; it never
        waits for a writer. Raises StoreUnavailable or StoreRejected for whatever fails in it."""
        with self._talking(self._engines.reader) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One short transaction of its own, beside the group commit, durable when the block has
        ended. Raises as `reading`; then nothing is changed."""
        with self._talking(self._engines.writer) as connection:
            yield connection

    def close(self) -> None:
        """Close all connections; what is called later raises StoreUnavailable. The callers' threads
        must have ended."""
        self._closed = True
        self._engines.dispose()

    @contextmanager
    def _talking(self, engine: Engine) -> Iterator[Connection]:
        """One transaction, its errors translated."""
        self._refuse_if_closed()
        error: StoreError
        try:
            with engine.begin() as connection:
                yield connection
            return
        except (StoreError, ConfigError):
            raise
        except Exception as exc:
            translated = self._dialect.translate(exc)
            if translated is None:
                raise
            error = translated
        # Outside the handler: the driver's text may quote a row.
        raise error

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    def leases(self, instance: str) -> Leases:
        """Return the leases as a new holder, shown as `instance`, holds them."""
        return Leases(lambda: self._talking(self._brief), instance, self._clock)

    def prune(self, limits: Limits, *, dry_run: bool = False) -> Iterator[Removed]:
        """Delete what is older than `limits`, a short transaction a step; see Retention.steps."""
        return self._retention(limits, dry_run=dry_run).steps()

    def undecided(self, limits: Limits) -> int:
        """Return how many quarantined journal rows `prune` keeps though they are old. Raises
        StoreUnavailable."""
        return self._retention(limits).undecided()

    def _retention(self, limits: Limits, *, dry_run: bool = False) -> Retention:
        return Retention(
            read=lambda: self._talking(self._engines.reader),
            write=lambda: self._talking(self._brief),
            clock=self._clock,
            limits=limits,
            dry_run=dry_run,
        )

    def record_sends(
        self,
        sends: Sequence[Receipt],
        settled: Sequence[Key] = (),
        *,
        ask_after: timedelta = FIRST_AFTER,
    ) -> SaveResult:
        """Return once all of `sends` are durable, merged as receipts are, in a transaction of their
        own; a send leaves no journal row. What waits is first asked about `ask_after` its send.

        The rows of `settled` are deleted in it, unless something is known of them. Raises
        StoreUnavailable or StoreRejected; then nothing is stored, and all of it can be tried again.
        """
        now = self._dialect.time(self._clock.now())
        rows = ledger.prepare(sends, self._dialect.time, now)
        with self._talking(self._engines.writer) as connection:
            changed = ledger.record(connection, self._dialect, rows, settled)
            ledger.plan_queries(connection, sends, ask_after)
        return SaveResult(changed=changed, unchanged=len(sends) - changed)

    def replay(self, replayed: Sequence[Replayed]) -> SaveResult:
        """Merge the records of journal rows that were read once more, and mark those that this
        settles, in one transaction of their own; no journal row is added.

        A row that is to be settled, but was dropped or replayed meanwhile, is left alone. Raises
        StoreUnavailable or StoreRejected; then nothing is stored, and all of it can be tried again.
        """
        whole = self._prepare_replay(replayed)
        with self._talking(self._engines.writer) as connection:
            chosen = journal.undecided(connection, replayed)
            batch = whole if len(chosen) == len(replayed) else self._prepare_replay(chosen)
            journal.mark_replayed(connection, journal.marks(chosen))
            changed = self._writer.write(connection, [batch])
        return SaveResult(changed=changed, unchanged=batch.records - changed)

    def _prepare_replay(self, replayed: Sequence[Replayed]) -> Batch:
        return self._writer.prepare(
            [entry for one in replayed for entry in one.entries], in_journal=False
        )

    def answer(self, answers: Sequence[Answer]) -> list[Answer]:
        """Store what was found out about planned rows, in one transaction of their own: journal,
        merge and plan. Return those that were stored; the others' rows are gone, or have ended.

        Raises StoreUnavailable or StoreRejected; then nothing is stored.
        """
        answers = sorted(answers, key=lambda one: one.key)  # as all writers: two never deadlock
        prepared = [self._writer.prepare(one.entries) for one in answers]
        with self._talking(self._engines.writer) as connection:
            stored = [plan.answered(connection, one) for one in answers]
            batches = [batch for batch, known in zip(prepared, stored, strict=True) if known]
            if batches:
                self._writer.write(connection, batches)
        return [one for one, known in zip(answers, stored, strict=True) if known]


def open_store(
    url: str,
    clock: Clock,
    *,
    trace: Callable[[str], None] = _ignore_point,
    on_commit: Callable[[float, int, int], None] = _ignore_commit,
) -> Store:
    """Return the store at `url`; does not connect yet.

    `trace` is called in the committing thread with `in_transaction`, `before_commit` and
    `after_commit`; `on_commit` after each transaction, with its seconds, batches and entries.
    Raises ConfigError if the address is of no database that receiptd knows.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None:
        # Not shown: without a structure, nobody knows where its password is.
        problem = Problem(_PLACE, "is no database address", cure="write sqlite:///receiptd.db")
        raise ConfigError([problem])
    dialect = load(parsed.drivername)
    if problems := dialect.url_problems(parsed):
        raise ConfigError(problems)
    return Store(parsed, dialect, clock, trace=trace, on_commit=on_commit)
