"""The broker's queue: what waits to be received, and who waits for it. No socket."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable

import msgspec

from benchmarks import wire

MAX_WAIT_S = 30.0


class Counts(msgspec.Struct, frozen=True):
    """What the broker saw since `reset`; times are of the machine's monotonic clock, seconds."""

    waiting: int  # long polls that wait for a message now
    left: int  # messages that nobody has received yet, or that have still to arrive
    receives: int
    deletes: int
    handed_out: int
    deleted: int
    first_answer_at: float
    first_delete_at: float
    last_delete_at: float


class Queue:
    """What waits to be received, who waits for it, and how often either was asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._next_number = 1
        self._bad_every = 0
        # Messages with their numbers.
        self._prepared: list[tuple[int, bytes]] = []
        self._ready: deque[tuple[int, bytes]] = deque()
        self._handed_out: set[int] = set()  # and not deleted yet
        self._polls: deque[Poll] = deque()
        self._arriving = 0
        self._arrived_at: dict[int, float] = {}
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self._receives = self._deletes = self._received = self._deleted = 0
        self._first_answer_at = self._first_delete_at = self._last_delete_at = 0.0
        self._lags: list[float] = []

    def prepare(self, count: int, bad_every: int = 0) -> None:
        """Render `count` receipts, which nobody sees before `begin`. Each `bad_every`th, if any,
        cannot be understood."""
        self._bad_every = bad_every
        now = time.time()
        for _ in range(count):
            self._prepared.append(self._next(now))

    def begin(self) -> None:
        """Put what was prepared into the queue, all at once."""
        self.reset()
        self._ready.extend(self._prepared)
        self._prepared.clear()
        self._serve_polls()

    def flow(self, per_s: float, count: int, seed: int, bad_every: int = 0) -> None:
        """Let `count` receipts arrive as independent sends do: the gaps are random, with a mean of
        `1 / per_s` seconds. Each `bad_every`th, if any, cannot be understood."""
        self.reset()
        self._bad_every = bad_every
        gaps = random.Random(seed)
        self._arriving = count
        self._arrive(self._loop.time(), lambda: gaps.expovariate(per_s))

    def counts(self) -> Counts:
        """Return the counts as they are now."""
        return Counts(
            waiting=len(self._polls),
            left=len(self._ready) + self._arriving,
            receives=self._receives,
            deletes=self._deletes,
            handed_out=self._received,
            deleted=self._deleted,
            first_answer_at=self._first_answer_at,
            first_delete_at=self._first_delete_at,
            last_delete_at=self._last_delete_at,
        )

    def lags_s(self) -> list[float]:
        """Return, for each receipt that arrived by `flow`, the seconds until its delete came."""
        return self._lags

    def receive(self, poll: "Poll", wait_s: float) -> None:
        """Answer `poll` now, when a message comes, or with "empty" after `wait_s`."""
        self._receives += 1
        if self._ready:
            self._answer(poll)
        elif wait_s > 0:
            poll.expiry = self._loop.call_later(min(wait_s, MAX_WAIT_S), self._expire, poll)
            self._polls.append(poll)
        else:
            poll.answer("404 Not Found", wire.EMPTY)

    def forget(self, poll: "Poll") -> None:
        """Its connection was closed."""
        if poll in self._polls:
            self._polls.remove(poll)
            poll.stop_waiting()

    def delete(self, request: bytes) -> None:
        """Take the handles of a delete back. One that is not out, or not any more, does not
        count."""
        now = self._loop.time()
        numbers = self._handed_out.intersection(wire.handed_back(request))
        self._handed_out -= numbers
        self._deletes += 1
        self._deleted += len(numbers)
        self._first_delete_at = self._first_delete_at or now
        self._last_delete_at = now
        if self._arrived_at:
            for number in numbers:
                self._lags.append(now - self._arrived_at.pop(number))

    def _next(self, now: float) -> tuple[int, bytes]:
        number, self._next_number = self._next_number, self._next_number + 1
        is_bad = self._bad_every and number % self._bad_every == 0
        content = wire.bad(number // self._bad_every) if is_bad else None
        return number, wire.message(number, now, content)

    def _arrive(self, at: float, gap: Callable[[], float]) -> None:
        now = self._loop.time()
        while self._arriving and at <= now:
            number, message = self._next(time.time())
            self._ready.append((number, message))
            self._arrived_at[number] = self._loop.time()
            self._arriving -= 1
            self._serve_polls()
            at += gap()
        if self._arriving:
            self._loop.call_at(at, self._arrive, at, gap)

    def _serve_polls(self) -> None:
        while self._polls and self._ready:
            poll = self._polls.popleft()
            poll.stop_waiting()
            self._answer(poll)

    def _answer(self, poll: "Poll") -> None:
        count = min(poll.count or 1, len(self._ready))
        taken = [self._ready.popleft() for _ in range(count)]
        messages = [message for _, message in taken]
        self._handed_out.update(number for number, _ in taken)
        self._first_answer_at = self._first_answer_at or self._loop.time()
        self._received += count
        poll.answer("200 OK", wire.batch(messages) if poll.count else wire.single(messages[0]))

    def _expire(self, poll: "Poll") -> None:
        self._polls.remove(poll)
        poll.answer("404 Not Found", wire.EMPTY)


class Poll:
    """One receive, for up to `count` messages; 0 if it asked for one without a number."""

    __slots__ = ("answer", "count", "expiry")

    def __init__(self, count: int, answer: Callable[[str, bytes], None]) -> None:
        self.count = count
        self.answer = answer
        self.expiry: asyncio.TimerHandle | None = None

    def stop_waiting(self) -> None:
        """Do not expire any more."""
        if self.expiry is not None:
            self.expiry.cancel()
