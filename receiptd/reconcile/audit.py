"""The audit: the provider's counts of a China day against ours, so that what neither a queue nor a
question has told us is at least known to be missing.

A day that differs has its open sends asked about at once. What is then still missing was sent by
somebody who did not tell the ledger, and its receipt never came: the numbers say so.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta

import msgspec
from sqlalchemy import Connection

from receiptd.china import SHANGHAI, china_day
from receiptd.clock import Clock
from receiptd.errors import SourceCancelled, SourceError, SourceUnavailable
from receiptd.log import get_logger
from receiptd.providers.base import DayCounts, QueryApi
from receiptd.store import Store, audits
from receiptd.store.audits import Audit, HeldCounts

# For how long the query APIs answer: an older day cannot be reconciled any more.
OLDEST_DAYS = 30

# Which days the daemon audits, and when: an hour after midnight the carriers have answered for
# nearly all of the day; what comes later is seen on the next two days.
_DAYS = 3
_SETTLED_AFTER = timedelta(hours=1)
_EVERY = timedelta(hours=20)
# How often the table is asked what is to be audited.
_LOOK_S = 600.0
# After a call that failed, then twice as long each time. Counts are not urgent.
_FIRST_PAUSE_S = 60.0
_LONGEST_PAUSE_S = 3600.0
# For somebody who waits in front of a terminal.
_ATTEMPTS = 4
_RETRY_S = 1.0


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """One account and China day, both sides; `made_due` of its open sends are asked about now
    instead of later."""

    audit: Audit
    made_due: int


class Auditor:
    """Audits one account. `provider` and `account` are those of the rows, and of `api`. Not
    thread-safe."""

    def __init__(
        self,
        *,
        provider: str,
        account: str,
        api: QueryApi,
        store: Store,
        throttle: Callable[[], bool],
        clock: Clock,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        """`throttle` is called before each question; it waits for the account's rate, and returns
        False if told to stop. `goes_on` is called some ten times a second while rows are counted,
        which can take minutes in a large table: to show that we live, and to return False if we
        are to stop."""
        self._provider = provider
        self._account = account
        self._api = api
        self._store = store
        self._throttle = throttle
        self._clock = clock
        self._goes_on = goes_on
        self._next_at = clock.monotonic()
        self._pause_s = 0.0  # since the last call that failed; 0 if all is well
        self._is_countless = False
        self._log = get_logger(account=account)

    def run_once(self, stopping: threading.Event) -> None:
        """Audit what is due; to be called often, under the account's lease. Costs nothing where
        nothing is due.

        A provider that does not answer is tried again later. Raises StoreUnavailable,
        StoreRejected.
        """
        if self._is_countless or self._clock.monotonic() < self._next_at:
            return
        for day in self._due():
            if stopping.is_set() or not self._is_audited(day):
                return
        self._next_at = self._clock.monotonic() + _LOOK_S

    def audit(self, day: date) -> Audited | None:
        """Ask for the counts of a China day, store them beside ours, and if they differ, have the
        day's open sends asked about.

        Returns None if told to stop, or if the provider has no counts. Raises
        SourceUnavailable, SourceRefused or SourceCancelled, having stored nothing; StoreUnavailable
        or StoreRejected.
        """
        if not self._throttle():
            return None
        theirs = self._api.statistics(day)
        if theirs is None:
            self._is_countless = True
            return None
        # After theirs: a receipt that comes in between makes us know more, never seem to miss it.
        ours = audits.held(self._reading, self._provider, self._account, day)
        audit = self._compared(day, theirs, ours)
        with self._store.writing() as connection:
            audits.save(connection, audit)
        return Audited(audit=audit, made_due=self._make_due(day) if audit.differs else 0)

    def audit_patiently(self, day: date, stopping: threading.Event) -> Audited | None:
        """`audit`, tried again for some seconds where the provider is away or wants us to slow
        down. Returns and raises the same."""
        pause_s = _RETRY_S
        for _ in range(_ATTEMPTS - 1):
            try:
                return self.audit(day)
            except SourceUnavailable:
                if self._clock.wait(stopping, pause_s):
                    return None
                pause_s *= 2
        return self.audit(day)

    def _due(self) -> Sequence[date]:
        now = self._clock.now()
        days = audit_days(now)
        with self._store.reading() as connection:
            known = audits.latest(connection, days[-1])
        fresh = {
            one.day
            for one in known
            if (one.provider, one.account) == (self._provider, self._account)
            # One that was asked for by hand before the day was over does not count.
            and one.audited_at > max(now - _EVERY, _settled_at(one.day))
        }
        return [day for day in days if day not in fresh]

    def _is_audited(self, day: date) -> bool:
        try:
            audited = self.audit(day)
        except SourceCancelled:
            return False
        except SourceError as exc:
            if not self._pause_s:
                self._log.warning(
                    "audit.failed", error=str(exc), code=exc.code, http=exc.http_status
                )
            self._pause_s = min(self._pause_s * 2 or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
            self._next_at = self._clock.monotonic() + self._pause_s
            return False
        self._pause_s = 0.0
        if audited is not None and audited.audit.differs:
            self._log.warning(
                "audit.differs",
                day=day.isoformat(),
                provider_total=audited.audit.provider_total,
                held_total=audited.audit.held_total,
            )
        return audited is not None

    def _reading(self) -> AbstractContextManager[Connection]:
        if not self._goes_on():
            raise SourceCancelled("cancelled")
        return self._store.reading()

    def _compared(self, day: date, theirs: DayCounts, ours: HeldCounts) -> Audit:
        return Audit(
            provider=self._provider,
            account=self._account,
            day=day,
            provider_total=theirs.sent,
            provider_delivered=theirs.delivered,
            provider_failed=theirs.failed,
            provider_pending=theirs.waiting,
            held_total=ours.total,
            held_delivered=ours.delivered,
            held_failed=ours.failed,
            held_pending=ours.pending,
            audited_at=self._clock.now(),
        )

    def _make_due(self, day: date) -> int:
        now = self._clock.now()
        count, made = 0, audits.STEP_ROWS
        # What is left when told to stop is made due after the next audit.
        while made == audits.STEP_ROWS and self._goes_on():
            with self._store.writing() as connection:
                made = audits.make_due(connection, self._provider, self._account, day, now)
            count += made
        return count


def audit_days(now: datetime) -> list[date]:
    """Return the China days that the daemon audits at `now`, the latest first: the last three that
    were over an hour ago."""
    today = china_day(now - _SETTLED_AFTER)
    return [today - timedelta(days=ago) for ago in range(1, _DAYS + 1)]


def _settled_at(day: date) -> datetime:
    midnight = datetime(day.year, day.month, day.day, tzinfo=SHANGHAI) + timedelta(days=1)
    return midnight + _SETTLED_AFTER
