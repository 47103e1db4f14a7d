"""One life of a process for the delivery suite: a puller under the real worker, pipeline and store.

Its pauses are skipped, so that an outage takes no time, but deadlines are real. A life ends when
the source is empty, when it is stopped, or when `trace` lets it die; the source outlives it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
from sqlalchemy import ColumnElement, select, true

from receiptd.clock import SystemClock
from receiptd.gate import Gate
from receiptd.model import Committed, Envelope, Origin
from receiptd.pipeline import Pipeline
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context
from receiptd.pullers.base import AckResult, Puller
from receiptd.pulse import Pulse
from receiptd.store import open_store
from receiptd.store.journal import body_bytes
from receiptd.store.schema import journal, receipts
from receiptd.tally import Tally
from receiptd.testing.conformance import Harness
from receiptd.turns import Turns
from receiptd.worker import Pace, Worker, no_trace

BATCH_SIZE = 16
MESSAGE_TYPE = "SmsReport"
CONTEXT = Context(provider=PROVIDER.name, account="conformance", origin=Origin.QUEUE)
# A source that never ends empty ends the life instead, and then the suite's asserts speak.
_PATIENCE_S = 60.0
_EMPTY_PULLS = 3  # in a row and thread, because one slice of a distributed queue may be empty
_MOST_IN_VAIN = 5  # visibility timeouts in a row after which nothing came
_MOMENT_S = 0.004


class Crash(BaseException):
    """The process dies here; no Exception, so that nothing in receiptd can survive it."""


class Stored(msgspec.Struct, frozen=True):
    """What is durable: rows by biz_id and status, and the journal's different bodies by reason, ""
    for what was understood."""

    rows: Counter[tuple[str, str]]
    bodies: dict[str, set[bytes]]


def read_back(url: str) -> Stored:
    """Return what a process that comes later finds."""
    store = open_store(url, SystemClock())
    with store.reading() as connection:
        rows = Counter(
            (biz_id, status)
            for biz_id, status in connection.execute(select(receipts.c.biz_id, receipts.c.status))
        )
        bodies: dict[str, set[bytes]] = {}
        columns = (journal.c.reason, journal.c.body, journal.c.encoding)
        for reason, body, encoding in connection.execute(select(*columns)):
            bodies.setdefault(reason or "", set()).add(body_bytes(body, encoding))
    store.close()
    return Stored(rows, bodies)


class _Hasty(SystemClock):
    """The machine's clock, but a pause is over in a moment."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(min(seconds, _MOMENT_S))


class _Skipping(_Hasty):
    """The same, and after a pause it stands where the pause would have ended: a gate looks."""

    def __init__(self) -> None:
        self._skipped_s = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return super().monotonic() + self._skipped_s

    def wait(self, event: threading.Event, seconds: float) -> bool:
        with self._lock:
            self._skipped_s += seconds
        return super().wait(event, seconds)


class Life:
    """See the module. `published` is how many messages the source was given in all."""

    def __init__(
        self,
        harness: Harness,
        url: str,
        published: int,
        *,
        threads: int = 1,
        batch_size: int = BATCH_SIZE,
        wait_s: float = 0.0,
        trace: Callable[[str], None] = no_trace,
    ) -> None:
        """`trace` is called at each step of the worker and of the store, and may raise."""
        self.early: list[str] = []  # what was acked before another connection could read it
        self._stopping = threading.Event()
        self._harness = harness
        self._published = published
        self._clock = _Hasty()
        self._give_up_at = self._clock.monotonic() + _PATIENCE_S
        self._store = open_store(url, self._clock, trace=trace)
        self._store.upgrade()
        self._second = open_store(url, self._clock)
        self._durable: set[str] = set()  # envelope ids that this one has read
        self._lock = threading.Lock()
        self._busy: set[int] = set()  # threads with a batch in hand
        self._left = published
        self._empty = self._vain = 0
        pace = Pace(batch_size=batch_size, wait_s=wait_s, pace_s=0.0)
        self._workers = self._work(threads, pace, trace)

    def run(self) -> None:
        """Live. Raises Crash if `trace` did."""
        try:
            with ThreadPoolExecutor(len(self._workers)) as pool:
                deaths = [pool.submit(self._live, worker) for worker in self._workers]
            for death in deaths:
                death.result()
        finally:
            self._store.close()
            self._second.close()

    def stop(self) -> None:
        """Do what SIGTERM does. Safe from any thread."""
        self._stopping.set()
        for worker in self._workers:
            worker.cancel()

    def pulled(self, envelopes: Sequence[Envelope]) -> None:
        """Note what came to the calling thread. If nothing comes any more and nobody is busy, end,
        or let what was not acked come again."""
        if envelopes:
            self._look_at_what_is_gone()  # a puller that acks by itself has done so now
        with self._lock:
            if envelopes:
                self._busy.add(threading.get_ident())
                self._empty = 0
                return
            self._empty += 1
            if self._busy or self._empty < _EMPTY_PULLS * len(self._workers):
                return
            self._empty = 0
            left, self._left = self._left, self._harness.depth()
            self._vain = self._vain + 1 if self._left == left else 0
            if self._left == 0 or self._vain > _MOST_IN_VAIN:
                self._stopping.set()
                return
            self._harness.expire()

    def before_ack(self, committed: Sequence[Committed]) -> None:
        """Look whether all of it is durable, and all that the source no longer has."""
        wanted = {one.envelope.envelope_id for one in committed}
        with self._lock:
            self._look_for(journal.c.envelope_id.in_(wanted - self._durable))
            self.early += sorted(wanted - self._durable)
        self._look_at_what_is_gone()

    def _look_at_what_is_gone(self) -> None:
        gone = self._published - self._harness.depth()  # first: the journal only grows
        with self._lock:
            if gone > len(self._durable):
                self._look_for(true())
            if gone > len(self._durable):
                self.early.append(f"{gone} are gone, of which {len(self._durable)} are durable")

    def _look_for(self, which: ColumnElement[bool]) -> None:
        with self._second.reading() as connection:
            self._durable.update(connection.scalars(select(journal.c.envelope_id).where(which)))

    def _live(self, worker: Worker) -> None:
        try:
            worker.run()
        finally:
            self._stopping.set()

    def _begun(self, trace: Callable[[str], None]) -> Callable[[str], None]:
        """Return `trace`, told of a worker's steps; the first of them ends what it did before."""

        def step(at: str) -> None:
            if at == "before_pull":
                with self._lock:
                    self._busy.discard(threading.get_ident())
                if self._clock.monotonic() > self._give_up_at:
                    self._stopping.set()
            trace(at)

        return step

    def _work(self, threads: int, pace: Pace, trace: Callable[[str], None]) -> list[Worker]:
        clock = _Skipping()
        # Half: no jitter.
        source_gate, store_gate = (Gate(clock, spread=lambda: 0.5) for _ in range(2))
        pipeline = Pipeline(
            context=CONTEXT,
            normalize=PROVIDER.normalizers[MESSAGE_TYPE],
            store=self._store,
            clock=self._clock,
        )
        tally = Tally(instance="life", source="life", store=self._store, clock=self._clock)
        return [
            Worker(
                source="life",
                open_puller=lambda: _Watched(self._harness.open(), self),
                pipeline=pipeline,
                pace=pace,
                source_gate=source_gate,
                store_gate=store_gate,
                tally=tally,
                pulse=Pulse(f"life/{number}", self._clock),
                stopping=self._stopping,
                clock=self._clock,
                trace=self._begun(trace),
                turns=Turns(1, _Skipping()),  # its own: nobody ends the pause of another
            )
            for number in range(threads)
        ]


class _Watched:
    """A puller whose calls its life hears of."""

    def __init__(self, puller: Puller, life: Life) -> None:
        self._puller = puller
        self._life = life
        self.cancel = puller.cancel
        self.close = puller.close

    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        envelopes = self._puller.pull(batch_size, wait_s)
        self._life.pulled(envelopes)
        return envelopes

    def ack(self, committed: Sequence[Committed]) -> AckResult:
        self._life.before_ack(committed)
        return self._puller.ack(committed)
