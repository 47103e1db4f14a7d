"""Whose turn it is to poll: of a source's threads, as many at a time as find something to do.

An idle source is asked by one long poll however many threads it has, because the vendor bills every
request; a backlog brings in all of them within a few round trips.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from receiptd.clock import Clock
from receiptd.gate import do_nothing

# A long poll answers with the first message: half a batch was there before it was asked for. Not a
# whole one, because a queue is kept in slices, and one call reads one of them.
_BUSY = 0.5
_QUIET = 0.25
# How often a thread that waits for its turn says that it is alive. A stop wakes it at once.
_LOOK_S = 10.0


class Turn:
    """One thread's turn; over when it says so, at the latest when its block ends."""

    def __init__(self, turns: "Turns") -> None:
        self._turns = turns
        self._is_over = False

    def over(self, *, share: float = 0.0, pause_s: float = 0.0) -> None:
        """Let others poll: more or fewer at a time, by the `share` of a batch that came (1 is a
        full one); the next turn begins in `pause_s` seconds at the earliest."""
        if not self._is_over:
            self._is_over = True
            self._turns._give_back(share, pause_s)


class Turns:
    """The turns of one source. Thread-safe."""

    def __init__(self, threads: int, clock: Clock) -> None:
        self._most = threads
        self._clock = clock
        self._lock = threading.Lock()
        self.wanted = 1  # how many may poll at a time
        self._polling = 0
        self._not_before = clock.monotonic()
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def turn(
        self, stopping: threading.Event, waiting: Callable[[], None] = do_nothing
    ) -> Iterator[Turn | None]:
        """Block until it is the caller's turn; yields None if `stopping` was set first.

        `waiting` is called every few seconds while it blocks.
        """
        if not self._await_turn(stopping, waiting):
            yield None  # nobody polls any more, so nothing need be given back
            return
        turn = Turn(self)
        try:
            yield turn
        finally:
            turn.over()

    def wake(self) -> None:
        """Let those who wait see that `stopping` was set."""
        with self._lock:
            for event in self._waiting:
                event.set()

    def _await_turn(self, stopping: threading.Event, waiting: Callable[[], None]) -> bool:
        admitted = threading.Event()
        with self._lock:
            self._waiting.append(admitted)
            self._admit()
        while not (admitted.is_set() or stopping.is_set()):
            waiting()
            self._clock.wait(admitted, _LOOK_S)
        while (pause_s := self._not_before - self._clock.monotonic()) > 0:
            waiting()  # more than once: a pause can be configured to be a minute
            if self._clock.wait(stopping, min(pause_s, _LOOK_S)):
                break
        return not stopping.is_set()

    def _give_back(self, share: float, pause_s: float) -> None:
        with self._lock:
            self._polling -= 1
            if share >= _BUSY:
                self.wanted = min(self.wanted + 1, self._most)
            elif share < _QUIET:
                self.wanted = max(self.wanted - 1, 1)
            self._not_before = self._clock.monotonic() + pause_s
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self._polling < self.wanted:
            self._polling += 1
            self._waiting.popleft().set()
