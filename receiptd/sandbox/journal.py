"""A bounded record of the requests served, and a way to wait until something has happened."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

_LOOK_AGAIN_S = 0.2  # for predicates over things that ring no bell, such as a real clock


@dataclass(frozen=True, slots=True)
class RequestEvent:
    """One request and what was answered."""

    operation: str  # a key of faults.OPERATIONS
    method: str
    path: str  # path?query as sent
    status: int  # 0: never answered
    at: float  # epoch seconds of the sandbox's clock, just before it was answered
    connection: int
    faults: tuple[str, ...] = ()  # kinds that struck it


class Journal:
    """What was asked. Safe for any thread."""

    def __init__(self, history: int) -> None:
        self.counts: Counter[str] = Counter()
        self._events: deque[RequestEvent] = deque(maxlen=history)
        self._lock = threading.Lock()
        self.connections = 0
        self._condition = threading.Condition()
        self._watchers = 0

    def add(self, event: RequestEvent) -> None:
        """Record a request."""
        with self._lock:
            self._events.append(event)
            self.counts[event.operation] += 1
        self.ring()

    def snapshot(self) -> list[RequestEvent]:
        """Return the latest requests, oldest first."""
        with self._lock:
            return list(self._events)

    def ring(self) -> None:
        """Let everybody in `wait_until` look again; never call this with the world's lock held."""
        if self._watchers:
            with self._condition:
                self._condition.notify_all()

    def wait_until(self, predicate: Callable[[], bool], timeout_s: float) -> bool:
        """Block until `predicate` holds; returns False if it does not within `timeout_s`."""
        ends_at = time.monotonic() + timeout_s
        with self._condition:
            self._watchers += 1
            try:
                while not predicate():
                    left = ends_at - time.monotonic()
                    if left <= 0:
                        return False
                    self._condition.wait(min(left, _LOOK_AGAIN_S))
                return True
            finally:
                self._watchers -= 1
