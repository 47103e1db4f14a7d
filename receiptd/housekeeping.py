"""The daemon's housekeeping: one thread, in one of all instances, deletes once an hour what is too
old, and takes a fifth of the time for it at most."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

from receiptd.chore import LeasedChore
from receiptd.clock import Clock
from receiptd.errors import StoreUnavailable
from receiptd.gate import Gate
from receiptd.log import get_logger
from receiptd.pulse import Pulse
from receiptd.store.leases import Leases
from receiptd.store.retention import Limits, Removed

LEASE = "housekeeping"
# A holder that was killed is replaced within its term: its lease runs out one look before.
TERM_S = 300.0
LOOK_S = 60.0
EVERY_S = 3600.0
# After each step as long as four of it, and long enough to let a waiting batch in.
_PAUSE_SHARE = 4.0
_SHORTEST_PAUSE_S = 0.05
_ATTEMPTS = 5
_RETRY_PAUSE_S = 1.0


class Prunable(Protocol):
    """What is needed of the store."""

    def leases(self, instance: str) -> Leases: ...
    def prune(self, limits: Limits, *, dry_run: bool = False) -> Iterator[Removed]: ...


def prune_now(
    store: Prunable,
    limits: Limits,
    *,
    clock: Clock,
    dry_run: bool = False,
    told: Callable[[Removed], None],
) -> Counter[str]:
    """Clean up once, by hand; return the rows deleted by table. `told` is called after each step.

    Needs no lease: what two delete at once is deleted once. Pauses as long as it works. Raises
    StoreUnavailable if the database takes none of five attempts in a row.
    """
    removed: Counter[str] = Counter()
    nobody = threading.Event()
    failures = 0
    while True:
        step_at = clock.monotonic()
        try:
            for step in store.prune(limits, dry_run=dry_run):
                failures = 0
                removed[step.table] += step.rows
                told(step)
                if not dry_run:
                    clock.wait(nobody, clock.monotonic() - step_at)
                step_at = clock.monotonic()
            return removed
        except StoreUnavailable:
            # Beside a busy daemon on SQLite a step may not get its lock. What was counted only
            # would be counted twice.
            failures += 1
            if dry_run or failures == _ATTEMPTS:
                raise
        clock.wait(nobody, _RETRY_PAUSE_S)


class Housekeeping(LeasedChore):
    """One thread's work."""

    LOOK_S = LOOK_S
    # A step is two statements, and the first searches the ids before it: some limits of 10 s.
    ALLOWANCE_S = 60.0
    HELD_S = TERM_S - LOOK_S  # a lease runs out one look before its term is over
    RENEW_S = LOOK_S

    def __init__(
        self,
        *,
        store: Prunable,
        limits: Limits,
        instance: str,
        store_gate: Gate,
        pulse: Pulse,
        stopping: threading.Event,
        clock: Clock,
    ) -> None:
        """`instance` names the holder of the lease to whoever looks."""
        super().__init__(
            LEASE,
            store.leases(instance),
            store_gate=store_gate,
            pulse=pulse,
            stopping=stopping,
            clock=clock,
            log=get_logger(thread="housekeeping"),
        )
        self._store = store
        self._limits = limits
        self._due_at = clock.monotonic()
        self._removed: Counter[str] = Counter()  # since the last line that told

    def _work(self) -> None:
        if not self._takes_lease():
            self._due_at = self._clock.monotonic()  # whoever takes over begins at once
        elif self._clock.monotonic() >= self._due_at:
            self._clean()

    def _tell_failed(self, error: Exception) -> None:
        self._log.warning("housekeeping.failed", error=str(error))

    def _clean(self) -> None:
        began_at = step_at = self._clock.monotonic()
        for removed in self._store.prune(self._limits):
            self._removed[removed.table] += removed.rows
            took_s = self._clock.monotonic() - step_at
            if self._rest(max(_SHORTEST_PAUSE_S, _PAUSE_SHARE * took_s)):
                break
            if not (self._store_gate.is_open and self._keeps_lease()):
                return  # goes on in a minute, here or elsewhere
            self._alive()
            step_at = self._clock.monotonic()
        else:
            self._due_at = self._clock.monotonic() + EVERY_S
        self._log.info(
            "housekeeping.finished",
            journal=self._removed["journal"],
            receipts=self._removed["receipts"],
            progress=self._removed["progress"],
            complete=not self._stopping.is_set(),
            took_s=round(self._clock.monotonic() - began_at, 1),
        )
        self._removed.clear()
