"""One page of what the providers know of a number on a day, as odd as the scenario wants it."""

import random
import threading
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from receiptd.sandbox.clock import Clock
from receiptd.sandbox.dispatches import KEPT_DAYS, DayCount, Dispatch, Dispatches, Outcome
from receiptd.sandbox.oddities import Oddities
from receiptd.sandbox.receipts import china_day

_WRONG_BY = (-1, 1, 50)


class TooOld(Exception):
    """The day is longer ago than anything is kept."""


class Throttled(Exception):
    """Too many calls in one second; `code` as the scenario has it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Row:
    """One message as a query shows it."""

    dispatch: Dispatch
    outcome: Outcome | None  # None: waiting
    out_id: str
    received_at: float  # of the outcome


@dataclass(frozen=True, slots=True)
class Page:
    """The rows asked for, and how many there are in all, if one may believe it."""

    rows: list[Row]
    total: int


class Lookup:
    """Answers the query APIs from the dispatches. Thread-safe."""

    def __init__(
        self,
        dispatches: Dispatches,
        clock: Clock,
        oddities: Callable[[], Oddities],
        chance: Callable[[], random.Random],
    ) -> None:
        self._dispatches = dispatches
        self._clock = clock
        self._oddities = oddities
        self._chance = chance
        self._calls: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    @property
    def oddities(self) -> Oddities:
        """What is odd at present."""
        return self._oddities()

    @property
    def today(self) -> int:
        """The day in China, as a number."""
        return china_day(self._clock.now())

    def throttle(self, api: str) -> None:
        """Count a call; raises Throttled if it is one too many in this second of the world."""
        limit = self.oddities.calls_per_s
        if limit is None:
            return
        now = self._clock.now()
        with self._lock:
            calls = self._calls.setdefault(api, deque())
            while calls and calls[0] <= now - 1:
                calls.popleft()
            if len(calls) >= limit:
                raise Throttled(self.oddities.throttle_code)
            calls.append(now)

    def page(
        self,
        phone: str,
        day: int,
        *,
        biz_id: str,
        size: int,
        number: int,
        wanted: Callable[[Dispatch], bool],
    ) -> Page:
        """Return page `number` (from 1) of the messages to `phone` on `day`, the newest first.

        Raises:
            TooOld: the day is not one of the last thirty.
        """
        if day < self.today - KEPT_DAYS:
            raise TooOld
        odd, chance, now = self.oddities, self._chance(), self._clock.now()
        found = [
            one
            for one in reversed(self._dispatches.find(phone, day))
            if wanted(one)
            and (not biz_id or one.sent.biz_id == biz_id)
            and now - one.sent_at < KEPT_DAYS * 86400
            and (not odd.hidden_s or one.sent_at + odd.hidden_s <= now)
        ]
        if odd.shuffled:
            found.sort(key=lambda one: zlib.crc32(repr(one.sent).encode()))
        total = len(found)
        start = (number - 1) * size
        if number > 1 and chance.random() < odd.shifted_pages:
            start += chance.choice((-1, 1))
        shown: Sequence[Dispatch] = found[start : start + size]
        if chance.random() < odd.wrong_totals:
            total = max(0, total + chance.choice(_WRONG_BY))
        if chance.random() < odd.empty_lists:
            shown = ()
        return Page([self._row(one, odd, chance, now) for one in shown], total)

    def counts(
        self, first: int, last: int, *, abroad: bool, sign_name: str
    ) -> list[tuple[int, DayCount]]:
        """Return the counts of each day from `first` to `last` on which something was sent."""
        as_of = self._clock.now() - self.oddities.lag_s
        return self._dispatches.counts(first, last, abroad=abroad, sign_name=sign_name, as_of=as_of)

    @staticmethod
    def _row(one: Dispatch, odd: Oddities, chance: random.Random, now: float) -> Row:
        outcome = one.known(now - odd.lag_s)
        out_id = "" if chance.random() < odd.without_out_id else one.sent.out_id
        received_at = outcome.at + odd.receive_date_off_s if outcome else 0.0
        return Row(one, outcome, out_id, received_at)
