"""The replay itself: batch after batch through the pipeline, paced, and stopped between two."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from receiptd import quarantine
from receiptd.clock import Clock
from receiptd.errors import StoreUnavailable
from receiptd.model import Envelope, Outcome
from receiptd.pipeline import Pipeline, Processed
from receiptd.replay.batches import BATCH_ROWS, Batch, Item, Refused
from receiptd.replay.meaning import Meaning
from receiptd.replay.savers import CountingSaver

# Of one batch: beside a busy daemon on SQLite a transaction may not get its lock.
_ATTEMPTS = 5
_RETRY_PAUSE_S = 1.0
# Of a transaction's time, after each: reading the next batch leaves SQLite's one lock free about as
# long as writing held it, and this is for those that sleep between two tries at it.
_PAUSE_SHARE = 0.1


class Result(msgspec.Struct, kw_only=True):
    """What became of it, so far. `position` is where to go on (Batch.position)."""

    records: int = 0  # understood
    changed: int = 0  # rows made or changed
    settled: int = 0  # rows of the quarantine that are replayed now
    refused: int = 0
    reasons: Counter[str] = msgspec.field(default_factory=Counter)  # why refused, without detail
    passed_over: int = 0
    unexplained: Counter[str] = msgspec.field(default_factory=Counter)  # rows by unknown source
    is_complete: bool = False
    position: tuple[str, ...] = ()


class Pace:
    """How long to wait after each batch."""

    def __init__(self, clock: Clock, rate: float | None) -> None:
        """`rate` is records per second; None for a pause after the time that the database took."""
        self._clock = clock
        self._rate = rate
        self._began_at = clock.monotonic()
        self._done = 0

    def pause_s(self, records: int, took_s: float) -> float:
        """Return the pause after a batch of `records` whose transactions took `took_s` seconds."""
        if self._rate is None:
            return took_s * _PAUSE_SHARE
        self._done += records
        return max(0.0, self._began_at + self._done / self._rate - self._clock.monotonic())


class Replayer:
    """One run. Not thread-safe; `stopping` may be set from anywhere."""

    def __init__(
        self,
        saver: CountingSaver,
        *,
        clock: Clock,
        stopping: threading.Event,
        rate: float | None = None,
        on_refused: Callable[[Refused], None],
        on_batch: Callable[[Batch], None],
    ) -> None:
        """`saver` is what the records go into; `on_batch` is told when a batch is durable."""
        self._saver = saver
        self._clock = clock
        self._stopping = stopping
        self._rate = rate
        self._pace = Pace(clock, rate)
        self._on_refused = on_refused
        self._on_batch = on_batch
        self._pipelines: dict[Meaning, Pipeline] = {}
        self.result = Result()

    @property
    def batch_rows(self) -> int:
        """How many records a batch should hold: at a slow rate, those of a second."""
        return BATCH_ROWS if self._rate is None else min(BATCH_ROWS, max(1, int(self._rate)))

    def run(self, batches: Iterable[Batch]) -> Result:
        """Replay all batches, or those until told to stop; each is durable before the next is read.

        Raises StoreUnavailable if the database takes none of five attempts at a batch; `result`
        then tells how far it came.
        """
        for batch in batches:
            records, took_s = self._replay(batch)
            self.result.position = batch.position
            self._on_batch(batch)
            if self._stopping.is_set():
                return self.result
            pause_s = self._pace.pause_s(records, took_s)
            if pause_s > 0 and self._clock.wait(self._stopping, pause_s):
                return self.result
        self.result.is_complete = not self._stopping.is_set()
        return self.result

    def _replay(self, batch: Batch) -> tuple[int, float]:
        """Return of how many envelopes it was, and how long it took to store them."""
        result = self.result
        result.passed_over += batch.passed_over
        result.unexplained += batch.unexplained
        for refused in batch.refused:
            self._refuse(refused, "unreadable")
        took_s = 0.0
        for meaning, items in _by_meaning(batch.items):
            began_at = self._clock.monotonic()
            processed = self._process(meaning, items)
            took_s += self._clock.monotonic() - began_at
            result.records += processed.records
            result.changed += processed.changed
            for entry in processed.refused:
                item = entry.envelope
                assert isinstance(item, Item)
                word = (entry.reason or "").partition(":")[0]
                meant = quarantine.advice(entry.reason).meaning
                self._refuse(Refused(item.place, f"{entry.reason}: {meant}"), word)
        result.settled = self._saver.settled
        return len(batch.items), took_s

    def _process(self, meaning: Meaning, items: Sequence[Envelope]) -> Processed:
        pipeline = self._pipeline(meaning)
        for _ in range(_ATTEMPTS - 1):
            try:
                return pipeline.process(items)
            except StoreUnavailable:
                self._clock.wait(threading.Event(), _RETRY_PAUSE_S)
        return pipeline.process(items)

    def _pipeline(self, meaning: Meaning) -> Pipeline:
        if meaning not in self._pipelines:
            self._pipelines[meaning] = Pipeline(
                context=meaning.context,
                normalize=meaning.normalize,
                store=self._saver,
                clock=self._clock,
                understood=Outcome.REPLAYED,
            )
        return self._pipelines[meaning]

    def _refuse(self, refused: Refused, word: str) -> None:
        self.result.refused += 1
        self.result.reasons[word] += 1
        self._on_refused(refused)


def _by_meaning(items: Sequence[tuple[Meaning, Item]]) -> list[tuple[Meaning, list[Item]]]:
    """Return the items of each meaning: a transaction each, nearly always one."""
    groups: dict[Meaning, list[Item]] = {}
    group: list[Item] = []
    last = None
    for meaning, item in items:
        if meaning is not last:  # most are as their neighbours, and to compare costs as much again
            group = groups.setdefault(meaning, [])
            last = meaning
        group.append(item)
    return list(groups.items())
