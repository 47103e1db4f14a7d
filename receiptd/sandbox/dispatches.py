"""What the providers know of every message sent, found by number and day, counted by day."""

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from receiptd.sandbox.phone_numbers import is_mainland, plain_number
from receiptd.sandbox.receipts import china_day
from receiptd.sandbox.scenario import Fate

KEPT_DAYS = 30  # for the queries; the statistics know older days, too

Provider = Literal["aliyun", "jushita", "polyv"]


class Sent(NamedTuple):
    """One number of one accepted send, and its fate."""

    biz_id: str
    phone: str
    out_id: str
    fate: Fate


class Outcome(NamedTuple):
    """What a carrier reported of a message, and when."""

    at: float
    success: bool
    code: str


class Truth(NamedTuple):
    """What in the end becomes of one message, whoever is told."""

    provider: Provider  # whose API sent it; a receipt of polyv's is Aliyun's
    biz_id: str
    phone: str
    out_id: str  # or extend
    outcome: Literal["delivered", "failed"] | None  # None: the carrier never answers


@dataclass(frozen=True, slots=True)
class Dispatch:
    """All that the provider knows of one sent message, for the query APIs."""

    sent: Sent
    send_api: str
    sign_name: str
    template_code: str
    sent_at: float
    reported_at: float | None  # by a queue; None: never
    outcomes: tuple[Outcome, ...]  # the later one is right
    provider: Provider = "aliyun"
    over_topic: bool = False  # Jushita's: its receipt comes over RocketMQ
    receiver: str = ""  # the number as receipts and rows show it; "": they do not

    @property
    def code(self) -> str:
        """What the carrier said first; "" if it never answers."""
        return self.outcomes[0].code if self.outcomes else ""

    @property
    def truth(self) -> Truth:
        """What becomes of it in the end."""
        outcome: Literal["delivered", "failed"] | None = None
        if self.outcomes:
            outcome = "delivered" if self.outcomes[-1].success else "failed"
        sent = self.sent
        return Truth(self.provider, sent.biz_id, sent.phone, sent.out_id, outcome)

    def known(self, as_of: float) -> Outcome | None:
        """Return the latest outcome that was reported by then."""
        return next((one for one in reversed(self.outcomes) if one.at <= as_of), None)


@dataclass(slots=True)
class DayCount:
    """The messages of one day, one sign name, one side of the border."""

    total: int = 0
    delivered: int = 0
    failed: int = 0


class Dispatches:
    """The last `history` messages and the counts of all days. Thread-safe."""

    def __init__(self, history: int) -> None:
        self.count = 0
        self._history = history
        self._all: deque[Dispatch] = deque()
        # Two levels: a tuple as the key of each of a million rows would cost as much as the row.
        self._found: dict[int, dict[str, list[Dispatch]]] = {}
        self._days: dict[tuple[int, bool, str], DayCount] = {}
        self._changes: list[tuple[float, int, DayCount, int, int]] = []  # a heap, still to come
        self._serial = itertools.count()
        self._lock = threading.Lock()

    def add(self, dispatch: Dispatch, as_of: float) -> None:
        """Note a message; `as_of` is when outcomes that are counted already were reported."""
        phone = plain_number(dispatch.sent.phone)
        day = china_day(dispatch.sent_at)
        with self._lock:
            self.count += 1
            self._all.append(dispatch)
            if day not in self._found:
                for old in [one for one in self._found if one < day - KEPT_DAYS - 1]:
                    del self._found[old]
            self._found.setdefault(day, {}).setdefault(phone, []).append(dispatch)
            if len(self._all) > self._history:
                self._forget(self._all.popleft())
            if dispatch.provider != "jushita":
                self._tally(dispatch, day, abroad=not is_mainland(phone))
                self._settle(as_of)

    def snapshot(self) -> list[Dispatch]:
        """Return the messages still known, oldest first."""
        with self._lock:
            return list(self._all)

    def find(self, phone: str, day: int) -> Sequence[Dispatch]:
        """Return the messages to a number on a China day, oldest first."""
        with self._lock:
            return list(self._found.get(day, {}).get(plain_number(phone), ()))

    def counts(
        self, first: int, last: int, *, abroad: bool, sign_name: str, as_of: float
    ) -> list[tuple[int, DayCount]]:
        """Return the counts of the days on which Aliyun sent something; "": for any sign name."""
        merged: dict[int, DayCount] = {}
        with self._lock:
            self._settle(as_of)
            for (day, outside, sign), count in self._days.items():
                if first <= day <= last and outside == abroad and sign_name in ("", sign):
                    sum_of = merged.setdefault(day, DayCount())
                    sum_of.total += count.total
                    sum_of.delivered += count.delivered
                    sum_of.failed += count.failed
        return sorted(merged.items(), key=lambda item: item[0])

    def _forget(self, dispatch: Dispatch) -> None:
        day, phone = china_day(dispatch.sent_at), plain_number(dispatch.sent.phone)
        rows = self._found.get(day, {}).get(phone)
        if rows and rows[0] is dispatch:  # no number has an older one
            del rows[0]
            if not rows:
                del self._found[day][phone]

    def _tally(self, dispatch: Dispatch, day: int, *, abroad: bool) -> None:
        count = self._days.setdefault((day, abroad, dispatch.sign_name), DayCount())
        count.total += 1
        before = (0, 0)
        for outcome in dispatch.outcomes:
            after = (1, 0) if outcome.success else (0, 1)
            change = (after[0] - before[0], after[1] - before[1])
            heapq.heappush(self._changes, (outcome.at, next(self._serial), count, *change))
            before = after

    def _settle(self, as_of: float) -> None:
        while self._changes and self._changes[0][0] <= as_of:
            _, _, count, delivered, failed = heapq.heappop(self._changes)
            count.delivered += delivered
            count.failed += failed
