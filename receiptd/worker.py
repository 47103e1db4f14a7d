"""The loop: pull, process, ack, again. One thread per source and `threads` setting."""

import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from receiptd.acker import Acker
from receiptd.batch_size import BatchSize
from receiptd.clock import Clock
from receiptd.errors import SourceCancelled, SourceError, SourceRefused, let_go
from receiptd.gate import Attempt, Gate
from receiptd.insist import insist
from receiptd.log import get_logger
from receiptd.model import Envelope
from receiptd.pipeline import Processed
from receiptd.pullers.base import Puller
from receiptd.pulse import Pulse
from receiptd.tally import Tally
from receiptd.turns import Turn, Turns
from receiptd.unacked import Unacked

# A probe during an outage only asks whether the source answers; a long poll would keep the other
# threads waiting.
_PROBE_WAIT_S = 1.0
# A throttled long poll answers "empty" at once (MNS, BatchReceiveMessage page). It is no outage,
# so it is tried again sooner, but it is billed, so not at once.
_THROTTLED_PAUSE_S = 5.0
# Without long polling every empty answer comes early; this is the pause between two of them.
_SHORT_POLL_PAUSE_S = 1.0
# While full batches come at once there is a backlog, and several of them share a transaction: on
# SQLite it costs as much as thirty rows. No longer than this, which the first of them waits.
_GATHER_S = 0.02
_GATHERED_BATCHES = 8
# So many of them are asked for and acked at once, which a puller may do side by side: after one
# that came full one more, then two, then four, and four to begin with while that goes on.
_MOST_AT_ONCE = 4
# A database that is slower than this gets no larger batches: their handles would be dead.
_QUICK_S = 1.0
# Allowances for the pulse: how long each step may take before the thread counts as stuck. A
# puller promises its wait and 10 s more; the database's own limits are 5 to 10 s a statement.
_PULL_ALLOWANCE_S = 15.0
_STORE_ALLOWANCE_S = 45.0
_SIFT_ALLOWANCE_S = 60.0


class Batches(Protocol):
    """What a worker needs of the pipeline."""

    def process(self, envelopes: list[Envelope]) -> Processed: ...


class Pace(msgspec.Struct, frozen=True):
    """How a worker asks its source."""

    batch_size: int
    wait_s: float
    pace_s: float


def no_trace(point: str) -> None:
    """Do nothing; the crash tests pass a function that dies at a named point instead."""


def all_of_them(envelopes: list[Envelope]) -> list[Envelope]:
    """Return the envelopes: none is suspected of killing whoever reads it."""
    return envelopes


class Worker:
    """One thread's work on one source."""

    def __init__(
        self,
        *,
        source: str,
        open_puller: Callable[[], Puller],
        pipeline: Batches,
        pace: Pace,
        source_gate: Gate,
        store_gate: Gate,
        tally: Tally,
        pulse: Pulse,
        stopping: threading.Event,
        clock: Clock,
        trace: Callable[[str], None] = no_trace,
        batch_size: BatchSize | None = None,
        turns: Turns | None = None,
        unacked: Unacked | None = None,
        sift: Callable[[list[Envelope]], list[Envelope]] = all_of_them,
    ) -> None:
        """`batch_size`, `turns` and `unacked` are the source's threads' in common; `sift` is
        `Trial.sift`."""
        self._open_puller = open_puller
        self._pipeline = pipeline
        self._pace = pace
        self._source_gate = source_gate
        self._store_gate = store_gate
        self._tally = tally
        self._pulse = pulse
        self._stopping = stopping
        self._clock = clock
        self._trace = trace
        self._batch_size = batch_size or BatchSize(source, pace.batch_size)
        self._turns = turns or Turns(1, clock)
        self._sift = sift
        self._acker = Acker(
            source,
            at_a_time=pace.batch_size * _MOST_AT_ONCE,
            batch_size=self._batch_size,
            unacked=Unacked(clock) if unacked is None else unacked,
            tally=tally,
            pulse=pulse,
            clock=clock,
            trace=trace,
        )
        self._puller: Puller | None = None
        self._has_pulled = False
        self._at_once = 1  # batches to ask for where one came full
        self._store_s = 0.0  # what the last batch took to be stored
        self._log = get_logger(source=source)

    def run(self) -> None:
        """Work until stopped. Never raises: a bug is logged, waited out and tried again."""
        self._log.debug("worker.started")
        self._alive()  # from here on, a thread that dies is missed
        self._puller = self._open_puller()
        try:
            while not self._stopping.is_set():
                try:
                    self.run_once()
                except Exception:
                    self._log.error("worker.failed", exc_info=True)
                    self._rest(_THROTTLED_PAUSE_S)
        finally:
            self._puller.close()
            self._pulse.stop()
            self._log.debug("worker.stopped")

    def cancel(self) -> None:
        """End a running long poll; called from the daemon's thread after `stopping` was set."""
        self._turns.wake()
        if self._puller is not None:
            self._puller.cancel()

    def run_once(self) -> None:
        """Take what comes in one turn its whole way, or nothing if the source or the database is
        away."""
        with self._turns.turn(self._stopping, self._alive) as turn:
            # Do not take what cannot be stored: pulled envelopes are hidden from everyone else.
            if turn is None or not self._store_gate.wait_open(self._stopping, self._alive):
                return
            with self._source_gate.attempt(self._stopping, self._alive) as attempt:
                if attempt is None:
                    return
                try:
                    self._take_turn(turn, attempt)
                except SourceCancelled:
                    return
                except SourceError as exc:
                    self._source_failed(attempt, exc)
        if self._store_gate.is_open:
            self._tally.publish()

    def _take_turn(self, turn: Turn, attempt: Attempt) -> None:
        """Ack what is owed, pull, let the next thread pull, process and ack."""
        acks_work = self._ack_again()
        # The first one, too: whether the source answers at all is known at once.
        brief = attempt.probe or not self._has_pulled
        wait_s = min(self._pace.wait_s, _PROBE_WAIT_S) if brief else self._pace.wait_s
        may_gather = not attempt.probe and self._store_s < _QUICK_S
        # In the middle of a backlog there is nothing to wait for.
        is_rush = may_gather and self._at_once == _MOST_AT_ONCE and not self._batch_size.is_shrunk
        batches = _MOST_AT_ONCE if is_rush else 1
        self._trace("before_pull")
        envelopes, took_s = self._pull(batches, 0.0 if is_rush else wait_s)
        share = len(envelopes) / self._batch_size.current
        is_full = share >= batches
        if not is_full:
            self._at_once = 1  # at most as many requests come back empty as did not
        if not envelopes:
            pause_s = 0.0
            if not acks_work:
                attempt.failed()  # that nothing came says nothing about acks
            elif not is_rush:
                pause_s = self._came_empty(attempt, wait_s, took_s)
            turn.over(pause_s=pause_s)
            return
        try:
            if is_full and may_gather:
                is_full = self._gather(envelopes, _GATHERED_BATCHES - batches)
            # Messages that come further apart than the pause have nothing to gain by it.
            paced = not is_full and took_s < self._pace.pace_s
            turn.over(share=share, pause_s=self._pace.pace_s if paced else 0.0)
            self._trace("after_pull")
            self._finish(attempt, envelopes)
        finally:
            self._tally.released(envelopes)

    def _ack_again(self) -> bool:
        """Ack what failed before; return False if that failed again. Raises SourceError if nobody
        answered: a pull would only wait as long again."""
        assert self._puller is not None
        try:
            self._acker.ack_again(self._puller)
        except SourceError as exc:
            if exc.http_status is None:
                raise
            let_go(exc)
            return False
        return True

    def _gather(self, envelopes: list[Envelope], left: int) -> bool:
        """Pull up to `left` batches more into `envelopes` while full ones come at once; return
        whether the last was full."""
        until = self._clock.monotonic() + _GATHER_S
        while left and self._clock.monotonic() < until and not self._batch_size.is_shrunk:
            batches = min(self._at_once, left)
            try:
                more, _took_s = self._pull(batches, 0.0)
            except SourceError as exc:
                let_go(exc)
                return False  # first what did come; if it lasts, the next pull tells
            envelopes += more
            if len(more) < batches * self._batch_size.current:
                self._at_once = 1
                return False
            self._at_once = min(self._at_once * 2, _MOST_AT_ONCE)
            left -= batches
        return True

    def _finish(self, attempt: Attempt, envelopes: list[Envelope]) -> None:
        """Process and ack what was pulled."""
        assert self._puller is not None
        self._pulse.beat(_SIFT_ALLOWANCE_S)
        envelopes = self._sift(envelopes)
        if not envelopes:
            return  # there was no time to try any: not acked, they come again
        processed = self._process(envelopes)
        if processed is None:
            return  # told to stop while the database was away: not acked, it comes again
        try:
            acked = self._acker.ack(self._puller, processed.committed)
        except SourceError as exc:
            self._source_failed(attempt, exc)
            return
        if not acked:
            # The same envelopes will come again. If they come at once (a broker that lies about
            # handles), this is what keeps the loop from spinning.
            if attempt.failed(longest_pause_s=_THROTTLED_PAUSE_S):
                self._log.warning("ack.expired", acked=0, expired=len(envelopes))
            return
        self._source_well(attempt)

    def _pull(self, batches: int, wait_s: float) -> tuple[list[Envelope], float]:
        assert self._puller is not None
        self._pulse.beat(wait_s + _PULL_ALLOWANCE_S)
        began_at = self._clock.monotonic()
        envelopes = self._puller.pull(self._batch_size.current * batches, wait_s)
        self._has_pulled = True
        self._tally.pulled(envelopes)
        return envelopes, self._clock.monotonic() - began_at

    def _process(self, envelopes: list[Envelope]) -> Processed | None:
        """Store the batch, however long the database is away; None if told to stop before that."""

        def store() -> tuple[Processed, float]:
            self._pulse.beat(_STORE_ALLOWANCE_S)
            began_at = self._clock.monotonic()
            processed = self._pipeline.process(envelopes)
            return processed, self._clock.monotonic() - began_at

        stored = insist(store, self._store_gate, self._stopping, self._log, self._alive)
        if stored is None:
            return None
        processed, self._store_s = stored
        self._tally.committed(processed, self._store_s)
        return processed

    def _came_empty(self, attempt: Attempt, wait_s: float, took_s: float) -> float:
        if wait_s > 0 and took_s < wait_s / 2:
            if attempt.failed(longest_pause_s=_THROTTLED_PAUSE_S):
                self._log.warning("source.throttled", took_s=round(took_s, 3), wait_s=wait_s)
            return 0.0
        self._source_well(attempt)
        return 0.0 if wait_s > 0 else _SHORT_POLL_PAUSE_S

    def _source_well(self, attempt: Attempt) -> None:
        if outage := attempt.succeeded():
            self._log.info(
                "source.recovered", outage_s=round(outage.seconds, 1), attempts=outage.attempts
            )

    def _source_failed(self, attempt: Attempt, exc: SourceError) -> None:
        let_go(exc)
        if not attempt.failed():
            return  # the outage has been told; its end will be, too
        if isinstance(exc, SourceRefused):
            self._log.error("source.refused", error=str(exc), code=exc.code, http=exc.http_status)
        else:
            self._log.warning("source.lost", error=str(exc), code=exc.code, http=exc.http_status)

    def _alive(self) -> None:
        self._pulse.beat(_PULL_ALLOWANCE_S)

    def _rest(self, seconds: float) -> None:
        if seconds > 0:
            self._pulse.beat(seconds + _PULL_ALLOWANCE_S)
            self._clock.wait(self._stopping, seconds)
