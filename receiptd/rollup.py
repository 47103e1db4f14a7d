"""The keeper of the roll-ups: one thread, in one of all instances, counts the receipts of each hour
for the dashboard, and takes a fifth of the time for it at most."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from receiptd.chore import LeasedChore
from receiptd.clock import Clock
from receiptd.gate import Gate
from receiptd.log import get_logger
from receiptd.pulse import Pulse
from receiptd.store import rollup_blocks, rollups
from receiptd.store.leases import Leases
from receiptd.store.rollup_blocks import Block
from receiptd.store.rollups import Count

LEASE = "rollups"
LOOK_S = 30.0
# A holder that was killed is replaced within its term: its lease runs out one look before.
TERM_S = 150.0
PRUNE_EVERY_S = 3600.0
# After each step as long as four of it, and long enough to let a waiting batch in.
_PAUSE_SHARE = 4.0
_SHORTEST_PAUSE_S = 0.02
# An hour ends a little later than the clock says: a transaction commits what was made before.
_SETTLES_AFTER = timedelta(minutes=1)

# How often a block is counted, by its age and by whether anything in it may still be heard of.
# Receipts come within minutes, nearly all within three days, and none after the providers' 30.
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_YOUNG = 2 * _HOUR
_SCHEDULE: tuple[tuple[timedelta, timedelta, timedelta], ...] = (
    # younger than, every (something open), every (all final)
    (_YOUNG, timedelta(0), timedelta(0)),  # at every look
    (_DAY, timedelta(minutes=10), _HOUR),
    (3 * _DAY, _HOUR, _DAY),
    (32 * _DAY, 6 * _HOUR, _DAY),
)
_WATCHED = _SCHEDULE[-1][0]
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

_T = TypeVar("_T")


class Countable(Protocol):
    """What is needed of the store."""

    def leases(self, instance: str) -> Leases: ...
    def reading(self) -> AbstractContextManager[Connection]: ...
    def writing(self) -> AbstractContextManager[Connection]: ...


def is_due(block: Block, now: datetime) -> bool:
    """Return whether a block is to be counted at `now`; one that never was is."""
    if block.counted_at is None:
        return True
    for younger_than, if_open, if_final in _SCHEDULE:
        if now - block.hour < younger_than:
            # Something is always added to the youngest one.
            every = if_open if block.open or not block.has_end else if_final
            return now - block.counted_at >= every
    return False


class RollupKeeper(LeasedChore):
    """One thread's work."""

    LOOK_S = LOOK_S
    HELD_S = TERM_S - LOOK_S  # a lease runs out one look before its term is over
    RENEW_S = LOOK_S

    def __init__(
        self,
        *,
        store: Countable,
        instance: str,
        store_gate: Gate,
        pulse: Pulse,
        stopping: threading.Event,
        clock: Clock,
        step_rows: int = rollups.STEP_ROWS,
    ) -> None:
        """`instance` names the holder of the lease to whoever looks."""
        super().__init__(
            LEASE,
            store.leases(instance),
            store_gate=store_gate,
            pulse=pulse,
            stopping=stopping,
            clock=clock,
            log=get_logger(thread="rollups"),
        )
        self._store = store
        self._step_rows = step_rows
        self._look_at = 0.0
        self._prune_at = 0.0
        self._filled: int | None = None  # older blocks counted, while that goes on

    def _work(self) -> None:
        """Count what is due, what is young first; then, where there is time, what was there before
        the roll-ups were."""
        while self._takes_lease() and self._count_due() and self._fill():
            continue

    def _tell_failed(self, error: Exception) -> None:
        self._log.warning("rollups.failed", error=str(error))

    def _count_due(self) -> bool:
        """Return whether to go on."""
        if not self._cut():
            return False
        now = self._clock.now()
        known = self._read(partial(rollup_blocks.blocks, since=now - _WATCHED))
        due = [block for block in known if is_due(block, now)]
        young = [block for block in due if now - block.hour < _YOUNG]
        for block in young:
            if not self._count(block):
                return False
        self._write(partial(rollup_blocks.looked, now=self._clock.now()))
        self._look_at = self._clock.monotonic() + LOOK_S
        # The longest not counted first, so that under any load each has its turn.
        for block in sorted(due, key=lambda block: block.counted_at or _LONG_AGO):
            if self._clock.monotonic() >= self._look_at:
                return True  # to the young ones again
            if block not in young and not self._count(block):
                return False
        return self._prune(now)

    def _cut(self) -> bool:
        """Give each hour that has ended its block; return False if another instance is at it."""
        while made := self._read(
            partial(rollup_blocks.block_above, settled=self._clock.now() - _SETTLES_AFTER)
        ):
            closed, block = made
            if not self._write(partial(rollup_blocks.add, closed=closed, block=block)):
                return False
        return True

    def _prune(self, now: datetime) -> bool:
        if self._clock.monotonic() < self._prune_at:
            return True
        while self._write(partial(rollups.prune, now=now)):
            if not self._goes_on():
                return False
        self._prune_at = self._clock.monotonic() + PRUNE_EVERY_S
        return True

    def _fill(self) -> bool:
        """Count older blocks until the next look is due; return whether to look again at once."""
        while self._clock.monotonic() < self._look_at:
            block = self._read(rollup_blocks.uncounted)
            if block is None:
                block = self._read(rollup_blocks.block_below)
                if block is None:
                    self._tell_filled()
                    return False
                if not self._write(partial(rollup_blocks.add, closed=None, block=block)):
                    return False
            if self._filled is None:
                self._filled = 0
                self._log.info("rollups.filling")
            if not self._count(block):
                return False
            self._filled += 1
        return True

    def _tell_filled(self) -> None:
        if self._filled is not None:
            self._log.info("rollups.filled", blocks=self._filled)
        self._filled = None

    def _count(self, block: Block) -> bool:
        """Count a block and write it down; return whether to go on."""
        count = Count(block)
        more = True
        while more:
            began_at = self._clock.monotonic()
            more = self._read(partial(count.step, rows=self._step_rows))
            if not self._goes_on(self._clock.monotonic() - began_at):
                return False
        began_at = self._clock.monotonic()
        self._write(partial(rollups.replace, count=count, now=self._clock.now()))
        return self._goes_on(self._clock.monotonic() - began_at)

    def _goes_on(self, took_s: float = 0.0) -> bool:
        """Make way for the others; return whether to go on after that."""
        if self._rest(max(_SHORTEST_PAUSE_S, _PAUSE_SHARE * took_s)):
            return False
        self._alive()
        return self._store_gate.is_open and self._keeps_lease()

    def _read(self, ask: Callable[[Connection], _T]) -> _T:
        with self._store.reading() as connection:
            return ask(connection)

    def _write(self, do: Callable[[Connection], _T]) -> _T:
        with self._store.writing() as connection:
            return do(connection)
