"""The sandbox's own time: real by default, or turned by hand so that days pass in a test."""

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Epoch seconds, and how long to really wait until one of them."""

    def now(self) -> float:
        """Return the present, in epoch seconds."""
        ...

    def seconds_until(self, at: float) -> float | None:
        """Return the real seconds until `at`, or None if only a hand on the clock brings it."""
        ...

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once; RuntimeError if this clock cannot."""
        ...


class RealClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return the present, in epoch seconds."""
        return time.time()

    def seconds_until(self, at: float) -> float | None:
        """Return the real seconds until `at`."""
        return max(0.0, at - self.now())

    def advance(self, seconds: float) -> None:
        """Refuse: real time passes by itself."""
        raise RuntimeError("the clock is real: start the sandbox with virtual time to turn it")


class ManualClock:
    """A clock that stands still until `advance` is called; safe to turn from any thread."""

    def __init__(self, start: float | None = None) -> None:
        self._now = time.time() if start is None else start
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> float:
        """Return the present, in epoch seconds."""
        return self._now

    def seconds_until(self, at: float) -> float | None:
        """Return 0 if `at` has come, else None: this clock does not run by itself."""
        return 0.0 if at <= self._now else None

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once, then tell whoever waits for a time to come."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        with self._lock:
            self._now += seconds
        for listener in self._listeners:
            listener()

    def on_advance(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each `advance`."""
        self._listeners.append(listener)
