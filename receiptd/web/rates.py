"""How often one address may ask, and how often one that is wrong may."""

from collections import OrderedDict

from receiptd.clock import Clock

REQUESTS_PER_S = 100.0
REQUESTS_AT_ONCE = 200.0
# Wrong tokens: a person mistypes, a program guesses.
FAILURES_PER_S = 10 / 60
FAILURES_AT_ONCE = 10.0
_TOLD_EVERY_S = 10.0
# Addresses that are remembered; who was not heard of for longest is forgotten.
_MOST_ADDRESSES = 1024


class Rates:
    """Counts by address of the peer. Belongs to the event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._requests = _Buckets(REQUESTS_PER_S, REQUESTS_AT_ONCE)
        self._failures = _Buckets(FAILURES_PER_S, FAILURES_AT_ONCE)
        self._tell_at = 0.0

    def admit(self, remote: str) -> bool:
        """Count a request; return whether it is within the limit."""
        return self._requests.take(remote, self._clock.monotonic())

    def admit_failure(self, remote: str) -> bool:
        """Count a wrong token; return whether it is within the limit."""
        return self._failures.take(remote, self._clock.monotonic())

    def tell_refusal(self) -> bool:
        """Return whether a refusal is worth a line in the log: one in ten seconds."""
        now = self._clock.monotonic()
        if now < self._tell_at:
            return False
        self._tell_at = now + _TOLD_EVERY_S
        return True


class _Buckets:
    """A token bucket for each address."""

    def __init__(self, per_s: float, most: float) -> None:
        self._per_s = per_s
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, remote: str, now: float) -> bool:
        level, at = self._levels.pop(remote, (self._most, now))
        level = min(self._most, level + (now - at) * self._per_s)
        taken = level >= 1
        self._levels[remote] = (level - 1 if taken else level, now)
        if len(self._levels) > _MOST_ADDRESSES:
            self._levels.popitem(last=False)
        return taken
