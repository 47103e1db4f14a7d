"""What happens to a process at a named point of its work."""

from collections.abc import Callable, Mapping, Sequence

from receiptd.clock import ManualClock
from receiptd.errors import SourceRefused, SourceUnavailable, StoreRejected, StoreUnavailable
from tests.fakes import VISIBILITY_S

CRASH, STORE_AWAY, REJECTED, SOURCE_AWAY, REFUSED, EXPIRY, RIVAL = (
    "crash", "store away", "rejected", "source away", "refused", "expiry", "rival",
)  # fmt: skip

# Point -> what can happen there.
Points = Mapping[str, Sequence[str]]

_IN_DATABASE: Points = {
    "in_transaction": (CRASH, STORE_AWAY),
    "before_commit": (CRASH, STORE_AWAY),
    "after_commit": (CRASH, STORE_AWAY),
}
# Where most can go wrong, so it is tried more often.
UNCOMMITTED = ("in_transaction", "before_commit")
WORK: Points = {
    **_IN_DATABASE,
    "in_transaction": (CRASH, STORE_AWAY, REJECTED),
    "before_pull": (CRASH, RIVAL),
    "pulling": (SOURCE_AWAY, REFUSED),
    "pulled": (SOURCE_AWAY,),  # the broker has handed them out, but the answer did not arrive
    "after_pull": (CRASH, EXPIRY, RIVAL),
    "before_ack": (CRASH, EXPIRY, RIVAL),
    "during_ack": (CRASH, EXPIRY, SOURCE_AWAY),
    "after_ack": (CRASH, RIVAL),
}
ASK: Points = {
    "asking": (CRASH, SOURCE_AWAY, REFUSED, EXPIRY, RIVAL),
    "answered": (CRASH, SOURCE_AWAY, EXPIRY, RIVAL),
    "in_transaction": (CRASH, STORE_AWAY),
    "after_answer": (CRASH, STORE_AWAY),
}
LOSE: Points = {
    "in_transaction": (CRASH, STORE_AWAY),
    "after_answer": (CRASH, STORE_AWAY),
}
REPLAY: Points = {
    "in_transaction": (CRASH, STORE_AWAY),
    "after_replay": (CRASH, STORE_AWAY),
}
BOOK: Points = {"after_sends": (CRASH, STORE_AWAY)}


class Crash(BaseException):
    """The process dies here; not an Exception, so that nothing in receiptd can survive it."""


class Faults:
    """At most one kind of thing that happens to a process, some passes of a point from now."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._rival: Callable[[], None] = lambda: None
        self.disarm()

    def arm(self, point: str, deed: str, first: int, times: int, rival: Callable[[], None]) -> None:
        """Let `deed` happen at pass number `first` of `point`, and at the next ones, `times` in
        all. `rival` is what another process does meanwhile."""
        self._point, self._deed, self._rival = point, deed, rival
        self._passes = range(first, first + times)
        self._passed = 0

    def disarm(self) -> None:
        """Let nothing happen."""
        self._point = self._deed = ""
        self._passes = range(0)
        self._passed = 0

    def at(self, point: str) -> None:
        """Be told that the process is at a point."""
        if point != self._point:
            return
        self._passed += 1
        if self._passed in self._passes:
            self._happen(self._deed)

    def _happen(self, deed: str) -> None:
        if deed == CRASH:
            raise Crash
        if deed == STORE_AWAY:
            raise StoreUnavailable("the database is away")
        # A batch, and then its first envelope; what is quarantined for it, no database refuses.
        if deed == REJECTED and self._passed <= 2:
            raise StoreRejected("the database refused the data")
        if deed == SOURCE_AWAY:
            raise SourceUnavailable("timeout")
        if deed == REFUSED:
            raise SourceRefused("AccessDenied", http_status=403)
        if deed == EXPIRY:
            self._clock.advance(VISIBILITY_S + 1)
        elif deed == RIVAL:
            self._rival()
