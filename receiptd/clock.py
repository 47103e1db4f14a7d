"""Time enters the program only here, so that tests turn it by hand."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is stored, monotonic time for deadlines, and a wait that an event can
    end."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, with no meaning but their difference."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Block until `event` is set or `seconds` have passed; return whether it is set."""
        ...


def utc_text(at: datetime, timespec: str = "milliseconds") -> str:
    """Return an aware time as programs read it: ISO 8601 in UTC, 2026-01-01T00:00:00.000Z."""
    return at.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)


class ManualClock:
    """A clock that stands still until told; waiting on it moves it, so nothing in a test takes
    real time."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        return self._elapsed_s

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.advance(seconds)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Move both times forward by `seconds`."""
        with self._lock:
            self._elapsed_s += seconds
