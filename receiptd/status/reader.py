"""From the database's figures to the status."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection

from receiptd.china import china_day
from receiptd.clock import Clock
from receiptd.config import Settings
from receiptd.model import Status as SmsStatus
from receiptd.status.shape import Account, Counted, Database, Instance, Source, Status
from receiptd.store import audits, figures, journal
from receiptd.store.figures import Planned, Progress, Tally
from receiptd.store.leases import read_time
from receiptd.store.lookups import bounds, ranges
from receiptd.store.schema import receipts

# An instance writes its progress every 5 s, or when a long poll of 30 s has returned.
SILENT_AFTER = timedelta(minutes=2)
# For counting what no index counts: the newest receipts are counted first.
BUDGET_S = 1.1
_NEWEST_ROWS = 2000  # of the journal, for the lag
_STEP_ROWS = 20_000
# What took a while to count is shown for ten times as long.
_KEEP_TIMES = 10


class Readable(Protocol):
    """What is needed of the store."""

    def reading(self) -> AbstractContextManager[Connection]: ...
    def revision(self) -> str | None: ...


class _Tallied(msgspec.Struct, frozen=True):
    found: list[Tally]
    counted: Counted


class _Plans(msgspec.Struct, frozen=True):
    found: list[Planned]
    is_complete: bool


_Value = TypeVar("_Value")


class _Kept(Generic[_Value]):
    """A value that is made anew when that is worth its price."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._value: _Value | None = None
        self._until = 0.0

    def get(self, make: Callable[[], _Value]) -> _Value:
        started = self._clock.monotonic()
        if self._value is None or started >= self._until:
            self._value = make()
            ended = self._clock.monotonic()
            self._until = ended + _KEEP_TIMES * (ended - started)
        return self._value


class StatusReader:
    """Reads the status, as often as it is wanted. Not thread-safe."""

    def __init__(
        self, store: Readable, settings: Settings, clock: Clock, *, budget_s: float = BUDGET_S
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._budget_s = budget_s
        self._tallied: _Kept[_Tallied] = _Kept(clock)
        self._plans: _Kept[_Plans] = _Kept(clock)
        self._database: _Kept[Database] = _Kept(clock)

    def read(self) -> Status:
        """Return the status. Raises StoreUnavailable."""
        with self._store.reading() as connection:
            now = read_time(connection, self._clock)
            progress = figures.progress_rows(connection)
            waits = figures.last_waits(connection, _NEWEST_ROWS)
            quarantine = journal.by_reason(connection)
            differing = audits.differing(connection, china_day(now))
            leases = figures.held_leases(connection, now)
        until = self._clock.monotonic() + self._budget_s
        plans = self._plans.get(lambda: self._plan(now, until))
        tallied = self._tallied.get(lambda: self._tally(now, until))
        counted = tallied.counted
        if not plans.is_complete:
            counted = msgspec.structs.replace(counted, is_complete=False)
        return Status(
            taken_at=now,
            database=self._database.get(self._measure),
            sources=self._sources(progress, waits, now),
            accounts=self._accounts(plans.found, tallied.found, now),
            counted=counted,
            quarantine=quarantine,
            audits=tuple(differing),
            leases=tuple(leases),
        )

    def _plan(self, now: datetime, until: float) -> _Plans:
        sent_before = now - self._settings.reconcile.first_after
        found: list[Planned] = []
        after: datetime | None = None
        while True:
            with self._store.reading() as connection:
                some, after = figures.planned(connection, now, sent_before, after, _STEP_ROWS)
            found += some
            if after is None:
                return _Plans(found, is_complete=True)
            if self._clock.monotonic() >= until:
                return _Plans(found, is_complete=False)

    def _tally(self, now: datetime, until: float) -> _Tallied:
        with self._store.reading() as connection:
            span = bounds(connection, receipts)
        found: list[Tally] = []
        complete = True
        for part in ranges(span, self._clock, newest_first=True) if span else ():
            if self._clock.monotonic() >= until:
                complete = False
                break
            with self._store.reading() as connection:
                found += figures.tallies(connection, part)
        rows = sum(one.count for one in found)
        return _Tallied(found, Counted(at=now, rows=rows, is_complete=complete))

    def _measure(self) -> Database:
        revision = self._store.revision()
        with self._store.reading() as connection:
            sizes = figures.sizes(connection)
            kind = figures.kind(connection)
        tables = {name: size for name, size in sizes.items() if name}
        total = sum(sizes.values())
        return Database(kind=kind, revision=revision, size_bytes=total, tables=tables)

    def _sources(
        self, rows: Sequence[Progress], waits: dict[str, float], now: datetime
    ) -> tuple[Source, ...]:
        configured = list(self._settings.sources)
        others = sorted({row.source for row in rows} - set(configured))
        return tuple(
            _source(
                name,
                [row for row in rows if row.source == name],
                waits.get(name),
                now,
                is_configured=name in self._settings.sources,
            )
            for name in [*configured, *others]
        )

    def _accounts(
        self, plans: Sequence[Planned], tallied: Sequence[Tally], now: datetime
    ) -> tuple[Account, ...]:
        known = {(one.provider, one.account) for one in plans}
        known |= {(one.provider, one.account) for one in tallied}
        for name, account in self._settings.accounts.items():
            # One whose receipts arrive through another has its sends there.
            if not account.receipts_account:
                known.add((account.provider, name))
        window = timedelta(days=self._settings.reconcile.window_days)
        return tuple(
            _account(
                provider,
                name,
                [one for one in plans if (one.provider, one.account) == (provider, name)],
                [one for one in tallied if (one.provider, one.account) == (provider, name)],
                now,
                window,
            )
            for provider, name in sorted(known)
        )


def _source(
    name: str,
    rows: Sequence[Progress],
    lag_s: float | None,
    now: datetime,
    *,
    is_configured: bool,
) -> Source:
    instances = [_instance(row, now) for row in rows]
    last = max(rows, key=lambda row: row.updated_at, default=None)
    live = [row for row, one in zip(rows, instances, strict=True) if not one.is_silent]
    summed = live or ([last] if last is not None else [])
    settled = sum(row.acked + row.ack_expired + row.ack_failed for row in live)
    return Source(
        name=name,
        is_configured=is_configured,
        instances=tuple(sorted(instances, key=lambda one: (one.age_s, one.name))),
        silent_since=last.updated_at if last is not None and not live else None,
        last_pull_at=_latest(row.last_pull_at for row in rows),
        last_commit_at=_latest(row.last_commit_at for row in rows),
        lag_s=None if lag_s is None else round(lag_s, 3),
        in_flight=max(0, sum(row.pulled for row in live) - settled),
        pulled=sum(row.pulled for row in summed),
        redelivered=sum(row.redelivered for row in summed),
        records=sum(row.records for row in summed),
        changed=sum(row.changed for row in summed),
        quarantined=sum(row.quarantined for row in summed),
        acked=sum(row.acked for row in summed),
        ack_expired=sum(row.ack_expired for row in summed),
        ack_failed=sum(row.ack_failed for row in summed),
    )


def _instance(row: Progress, now: datetime) -> Instance:
    age = now - row.updated_at
    return Instance(
        name=row.instance,
        updated_at=row.updated_at,
        # An instance's clock may be ahead of the database's.
        age_s=max(0.0, round(age.total_seconds(), 3)),
        is_silent=age > SILENT_AFTER,
    )


def _account(
    provider: str,
    name: str,
    plans: Sequence[Planned],
    tallied: Sequence[Tally],
    now: datetime,
    window: timedelta,
) -> Account:
    waiting = dict.fromkeys((SmsStatus.AWAITED, SmsStatus.PENDING), 0)
    for plan in plans:
        waiting[plan.status] += plan.count
    for one in tallied:
        # What has a plan is in an index, and counted there.
        if one.status in waiting:
            waiting[one.status] += one.unplanned
    totals = {status: 0 for status in SmsStatus}
    for one in tallied:
        totals[one.status] += one.count
    oldest = min((plan.oldest for plan in plans if plan.oldest is not None), default=None)
    left = None if oldest is None else oldest + window - now
    return Account(
        provider=provider,
        name=name,
        awaited=waiting[SmsStatus.AWAITED],
        pending=waiting[SmsStatus.PENDING],
        overdue=sum(plan.overdue for plan in plans),
        due=sum(plan.due for plan in plans),
        undated=sum(one.undated for one in tallied if one.status in waiting),
        lost=totals[SmsStatus.LOST],
        unknown=totals[SmsStatus.UNKNOWN],
        failed=totals[SmsStatus.FAILED],
        delivered=totals[SmsStatus.DELIVERED],
        oldest_gap_at=oldest,
        hours_to_loss=None if left is None else round(left / timedelta(hours=1), 2),
    )


def _latest(times: Iterable[datetime | None]) -> datetime | None:
    return max((at for at in times if at is not None), default=None)
