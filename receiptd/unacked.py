"""What a failed ack has left: durable here and, for all we know, still with the broker.

It is acked again as soon as the broker is asked again. Where the broker had carried out the ack and
only its answer was lost, nothing would come again by which to see that acks work; and what it had
not carried out would come again only when its visibility timeout has passed (RocketMQ: 5 minutes).
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from receiptd.clock import Clock
from receiptd.model import Committed

# What is more than this is not acked again; it comes again by itself.
_MOST = 256
# How long a handle is tried where the broker did not say how long it works: MNS's default.
_UNSAID_S = 30.0


class Unacked:
    """What one source's threads could not ack, until its handles are dead. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: deque[tuple[float, Committed]] = deque(maxlen=_MOST)

    def keep(self, committed: Sequence[Committed]) -> None:
        """Keep these; their ack failed."""
        unsaid = self._clock.monotonic() + _UNSAID_S
        with self._lock:
            for one in committed:
                until = one.envelope.visible_until
                self._kept.append((unsaid if until is None else until, one))

    def settle(self, ack: Callable[[list[Committed]], None]) -> None:
        """Hand all to `ack`, if there is any; where it raises, all is kept on, and it raises."""
        with self._lock:
            self._drop_dead()
            if not self._kept:
                return
            tried, self._kept = self._kept, deque(maxlen=_MOST)
        try:
            ack([one for _until, one in tried])
        except BaseException:
            with self._lock:
                self._kept.extend(tried)
            raise

    def _drop_dead(self) -> None:
        now = self._clock.monotonic()
        if any(until < now for until, _one in self._kept):
            self._kept = deque((kept for kept in self._kept if kept[0] >= now), maxlen=_MOST)
