"""The last step of a batch: tell the broker what is durable, while it still wants to know."""

from collections.abc import Callable, Sequence

from receiptd.batch_size import BatchSize
from receiptd.clock import Clock
from receiptd.errors import SourceError
from receiptd.log import get_logger
from receiptd.model import Committed
from receiptd.pullers.base import AckResult, Puller
from receiptd.pulse import Pulse
from receiptd.tally import Tally
from receiptd.unacked import Unacked

# For the pulse: a puller's ack is bounded by 10 s.
_ALLOWANCE_S = 20.0


class Acker:
    """Acks for one worker; used by its thread only."""

    def __init__(
        self,
        source: str,
        *,
        at_a_time: int,
        batch_size: BatchSize,
        unacked: Unacked,
        tally: Tally,
        pulse: Pulse,
        clock: Clock,
        trace: Callable[[str], None],
    ) -> None:
        """`at_a_time` is what one call may ack; `batch_size` is told of handles that died, and
        `unacked` of those whose ack failed."""
        self._at_a_time = at_a_time
        self._batch_size = batch_size
        self._unacked = unacked
        self._tally = tally
        self._pulse = pulse
        self._clock = clock
        self._trace = trace
        self._log = get_logger(source=source)

    def ack(self, puller: Puller, committed: Sequence[Committed]) -> int:
        """Ack what can still be acked; return how many handles the broker took.

        Raises SourceError if a call failed; what it did not ack is acked again or comes again.
        """
        self._trace("before_ack")
        acked = expired = 0
        for first in range(0, len(committed), self._at_a_time):
            result = self._call(puller, committed, first)
            acked += result.acked
            expired += result.expired
        self._trace("after_ack")
        # A handle that the broker refuses before its time died of something else than slow work.
        outlived = len(committed) - len(self._alive(committed)) if expired else 0
        self._batch_size.acked(acked=acked, expired=min(expired, outlived))
        return acked

    def ack_again(self, puller: Puller) -> None:
        """Ack what an earlier ack failed for, this thread's or another's of the source.

        Raises SourceError if that fails again. Any answer settles it: a handle of which the broker
        knows nothing any more was acked the first time. Nothing is counted, because it was then.
        """
        self._unacked.settle(lambda committed: self._again(puller, committed))

    def _again(self, puller: Puller, committed: Sequence[Committed]) -> None:
        for first in range(0, len(committed), self._at_a_time):
            self._pulse.beat(_ALLOWANCE_S)
            result = puller.ack(committed[first : first + self._at_a_time])
            if result.error is not None:
                raise result.error
        self._log.info("ack.repeated", count=len(committed))

    def _call(self, puller: Puller, committed: Sequence[Committed], first: int) -> AckResult:
        """Make the call that begins with `first`; if it fails, those behind it are not tried."""
        self._pulse.beat(_ALLOWANCE_S)
        end = min(first + self._at_a_time, len(committed))
        alive = self._alive(committed[first:end])
        late = end - first - len(alive)
        try:
            result = puller.ack(alive)
        except SourceError as exc:
            result = AckResult(failed=len(alive), error=exc)
        expired, failed = result.expired + late, result.failed
        if result.error is not None:
            failed += len(committed) - end
            self._unacked.keep([*alive, *committed[end:]])
            self._log.warning("ack.failed", count=failed, code=result.error.code)
        self._tally.acked(acked=result.acked, expired=expired, failed=failed)
        if result.error is not None:
            raise result.error
        return AckResult(acked=result.acked, expired=expired, failed=failed)

    def _alive(self, committed: Sequence[Committed]) -> list[Committed]:
        """Return those whose time has not passed. The handle of any other is dead; its envelope
        comes again and merges into its row."""
        now = self._clock.monotonic()
        return [
            one
            for one in committed
            if (until := one.envelope.visible_until) is None or until >= now
        ]
