"""A gate in front of something that can fail: open while all is well, one careful attempt at a
time while not.

The threads of one source share one gate, and all workers share the gate of the database, so that
the number of attempts during an outage does not grow with the number of threads.
"""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from receiptd.clock import Clock

# 1, 2, 4, 8, 16, 20, 20 ... seconds: at most 8 attempts in the first minute and 4 in each later
# one (the promise is 12), and never more than 25 s (cap and jitter) until a fault's end is
# noticed (the promise is 30).
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 20.0
JITTER = 0.25  # of the pause, either way, so that several processes do not come back in step
# How often a waiting thread looks whether another has opened the gate.
_LOOK_S = 0.25


def do_nothing() -> None:
    """Nothing to do while waiting."""


class Outage(msgspec.Struct, frozen=True):
    """An outage that has ended: how long it took and how many attempts failed."""

    seconds: float
    attempts: int


class Attempt:
    """One pass through the gate; say how it ended with `succeeded` or `failed`, or leave it
    open."""

    def __init__(self, gate: "Gate", *, probe: bool) -> None:
        self._gate = gate
        # True during an outage: nobody else passes the gate until this attempt has ended, so make
        # it short.
        self.probe = probe

    def succeeded(self) -> Outage | None:
        """Report success; returns the outage that this ends, if any."""
        return self._gate._succeed(self)

    def failed(self, *, longest_pause_s: float = LONGEST_PAUSE_S) -> bool:
        """Report failure; returns True if this begins an outage (say so once), False if it goes
        on."""
        return self._gate._fail(self, longest_pause_s)


class Gate:
    """See the module. Thread-safe."""

    def __init__(self, clock: Clock, *, spread: Callable[[], float] = random.random) -> None:
        """`spread` returns the jitter's share, 0 to 1."""
        self._clock = clock
        self._spread = spread
        self._lock = threading.Lock()
        self._failures = 0
        self._began_at = 0.0
        self._not_before = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._failures == 0

    @property
    def closed_s(self) -> float:
        """How many seconds the outage has lasted; 0 if there is none."""
        with self._lock:
            return self._clock.monotonic() - self._began_at if self._failures else 0.0

    def wait_open(
        self, stopping: threading.Event, waiting: Callable[[], None] = do_nothing
    ) -> bool:
        """Block while there is an outage; return False if `stopping` was set meanwhile.

        `waiting` is called a few times a second while it blocks.
        """
        while not self.is_open:
            waiting()
            if self._clock.wait(stopping, _LOOK_S):
                return False
        return not stopping.is_set()

    @contextmanager
    def attempt(
        self, stopping: threading.Event, waiting: Callable[[], None] = do_nothing
    ) -> Iterator[Attempt | None]:
        """Pass at once if the gate is open, else wait for the turn; yields None if `stopping`
        came first.

        `waiting` is called a few times a second while it blocks.
        """
        attempt = self._enter(stopping, waiting)
        try:
            yield attempt
        finally:
            if attempt is not None and attempt.probe:
                self._release(attempt)

    def _enter(self, stopping: threading.Event, waiting: Callable[[], None]) -> Attempt | None:
        while True:
            with self._lock:
                if self._failures == 0:
                    return Attempt(self, probe=False)
                pause = self._not_before - self._clock.monotonic()
                if stopping.is_set():
                    return None
                if pause <= 0 and not self._probing:
                    self._probing = True
                    return Attempt(self, probe=True)
            waiting()
            self._clock.wait(stopping, min(max(pause, 0.01), _LOOK_S))

    def _succeed(self, attempt: Attempt) -> Outage | None:
        with self._lock:
            if not self._failures or not attempt.probe:
                return None  # began before the outage: the probe decides, not the stragglers
            outage = Outage(self._clock.monotonic() - self._began_at, self._failures)
            self._failures = 0
            return outage

    def _fail(self, attempt: Attempt, longest_pause_s: float) -> bool:
        with self._lock:
            if self._failures and not attempt.probe:
                return False
            now = self._clock.monotonic()
            began = not self._failures
            if began:
                self._began_at = now
            pause = min(FIRST_PAUSE_S * 2**self._failures, longest_pause_s)
            self._failures += 1
            self._not_before = now + pause * (1 + JITTER * (2 * self._spread() - 1))
            return began

    def _release(self, attempt: Attempt) -> None:
        with self._lock:
            self._probing = False
            attempt.probe = False
