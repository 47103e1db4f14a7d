"""The pulse of a worker: it says how long its next step may take, and is late if it takes longer.

The watchdog is fed by this and by nothing else, so that a thread that hangs is noticed even
though others run.
"""

import threading
from collections.abc import Iterable

from receiptd.clock import Clock


class Pulse:
    """One thread's promise to be heard of again. Written by its own thread, read by the
    daemon's."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._due_at: float | None = None

    def beat(self, within_s: float) -> None:
        """Promise the next beat within `within_s` seconds."""
        with self._lock:
            self._due_at = self._clock.monotonic() + within_s

    def stop(self) -> None:
        """Expect no more beats: the thread has ended in an orderly way."""
        with self._lock:
            self._due_at = None

    @property
    def is_late(self) -> bool:
        with self._lock:
            return self._due_at is not None and self._clock.monotonic() > self._due_at


def late(pulses: Iterable[Pulse]) -> list[str]:
    """Return the names of the threads that are overdue."""
    return [pulse.name for pulse in pulses if pulse.is_late]
