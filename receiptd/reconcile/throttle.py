"""How fast an account's query API is asked: evenly, without bursts, and slower while it refuses."""

import threading

from receiptd.clock import Clock

# After a failure the pace is half of what it was, after each answer a little more again: whoever
# else uses the account's quota, it settles below what is left of it.
_SLOWER = 2.0
_FASTER = 0.95
_SLOWEST_S = 10.0


class Throttle:
    """A bucket of one token: each call has a slot of its own. Thread-safe."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        # No burst: the providers count by the second, and a call may be a little late on its way.
        self._least_s = self._interval_s = 1.0 / per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._next_at = clock.monotonic()

    def wait(self, stopping: threading.Event) -> bool:
        """Wait for the next slot; return False if `stopping` came first."""
        with self._lock:
            now = self._clock.monotonic()
            at = max(self._next_at, now)
            self._next_at = at + self._interval_s
        if at > now:
            return not self._clock.wait(stopping, at - now)
        return not stopping.is_set()

    def slow_down(self) -> None:
        """A call has failed."""
        with self._lock:
            self._interval_s = max(self._least_s, min(self._interval_s * _SLOWER, _SLOWEST_S))

    def speed_up(self) -> None:
        """A call was answered."""
        with self._lock:
            self._interval_s = max(self._least_s, self._interval_s * _FASTER)
