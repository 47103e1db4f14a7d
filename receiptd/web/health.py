"""How well the daemon is, judged by what got done: polls that returned, commits, tokens."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from receiptd.clock import Clock
from receiptd.gate import Gate
from receiptd.metrics import Lags, SourceCounts
from receiptd.pulse import Pulse, late

# A source may be away this long before the daemon counts as not ready: brokers have hiccups, and
# whoever takes us out of service for one gains nothing by it.
AWAY_ALLOWANCE_S = 15.0
# Beside its wait: what a pull and the storing of a batch may take, as the worker's pulses have it.
PULL_ALLOWANCE_S = 75.0


class Tallied(Protocol):
    """What is needed of a source's counts."""

    lags: Lags

    def counts(self) -> SourceCounts: ...


class SourceView(msgspec.Struct, frozen=True, kw_only=True):
    """One source, as its HTTP sees it."""

    name: str
    puller: str
    account: str
    wait_s: float
    tally: Tallied
    gate: Gate
    expires_at: Callable[[], datetime | None]  # of its token; None without one

    @property
    def lags(self) -> Lags:
        return self.tally.lags

    @property
    def is_up(self) -> bool:
        return self.gate.is_open

    @property
    def token_expires_at(self) -> datetime | None:
        return self.expires_at()

    def counts(self) -> SourceCounts:
        return self.tally.counts()


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One source, or the database: well, or the reason why not."""

    ready: bool
    reason: str = ""
    last_pull_at: datetime | None = None
    last_commit_at: datetime | None = None
    token_expires_at: datetime | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What /readyz says."""

    ready: bool
    reason: str  # "" if ready
    database: Part
    sources: dict[str, Part]
    stuck: list[str]  # threads that are overdue


class Health:
    """See the module. Thread-safe."""

    def __init__(self, *, clock: Clock, store_gate: Gate, pulses: Sequence[Pulse]) -> None:
        """`pulses` may grow."""
        self._clock = clock
        self._store_gate = store_gate
        self._pulses = pulses
        self.sources: Sequence[SourceView] = ()
        self.is_serving = False  # the schema is up to date, and the workers run
        self.is_stopping = False

    def stuck(self) -> list[str]:
        """Return the names of the threads that are overdue."""
        return late(self._pulses)

    def report(self, refusal: str = "") -> Report:
        """Return how things are. `refusal` is why the database could not be read just now."""
        stuck = self.stuck()
        database = self._database(refusal)
        sources = {one.name: self._source(one, stuck) for one in self.sources}
        reason = ""
        if self.is_stopping:
            reason = "the daemon stops"
        elif not self.is_serving:
            reason = "the daemon starts: it waits for the database"
        elif not database.ready:
            reason = f"database: {database.reason}"
        elif ill := [name for name, part in sources.items() if not part.ready]:
            reason = "; ".join(f"source {name}: {sources[name].reason}" for name in ill)
        elif stuck:
            reason = f"stuck: {', '.join(stuck)}"
        return Report(
            ready=not reason, reason=reason, database=database, sources=sources, stuck=stuck
        )

    def is_database_up(self, refusal: str = "") -> bool | None:
        """Return whether the database takes and gives rows, `refusal` as for `report`; None at the
        start, until it has answered or failed."""
        is_up = self._database(refusal).ready
        return is_up if self.is_serving or not is_up else None

    def _source(self, source: SourceView, stuck: Sequence[str]) -> Part:
        counts = source.counts()
        expires_at = source.token_expires_at
        return Part(
            ready=not (reason := self._ill(source, counts, expires_at, stuck)),
            reason=reason,
            last_pull_at=counts.last_pull_at,
            last_commit_at=counts.last_commit_at,
            token_expires_at=expires_at,
        )

    def _ill(
        self,
        source: SourceView,
        counts: SourceCounts,
        expires_at: datetime | None,
        stuck: Sequence[str],
    ) -> str:
        now = self._clock.now()
        if any(name.rpartition("/")[0] == source.name for name in stuck):
            return "a worker is stuck"
        if expires_at is not None and expires_at <= now:
            return "its token has ended, and there is no new one"
        if counts.last_pull_at is None:
            away = not source.gate.is_open
            return "it does not answer" if away else "no poll has returned yet"
        if (away_s := source.gate.closed_s) > AWAY_ALLOWANCE_S:
            return f"away for {away_s:.0f} s"
        age_s = (now - counts.last_pull_at).total_seconds()
        if age_s > source.wait_s + PULL_ALLOWANCE_S and self._store_gate.is_open:
            return f"no poll has returned for {age_s:.0f} s"
        return ""

    def _database(self, refusal: str) -> Part:
        """Return how the database is: by what the workers met with, and by having asked it."""
        if (away_s := self._store_gate.closed_s) > 0:
            return Part(ready=False, reason=f"away for {away_s:.0f} s: nothing can be stored")
        return Part(ready=not refusal, reason=refusal)
