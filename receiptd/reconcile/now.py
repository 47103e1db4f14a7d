"""Reconciliation by hand: what is due, or what was sent in a span of time, is asked about now."""

from collections import Counter
from collections.abc import Callable

import msgspec

from receiptd.providers.base import QueryApi
from receiptd.pulse import Pulse
from receiptd.reconcile.asking import REFUSED, UNAVAILABLE
from receiptd.reconcile.part import Part
from receiptd.reconcile.runner import PUT_OFF, Reconciler
from receiptd.store import plan
from receiptd.store.plan import Span

# So many calls in a row without an answer: whoever waits at a terminal is told.
_FAILURES = 5
# Where a daemon is at work already, its work is followed, as long as it makes progress.
_LOOK_S = 1.0
_PATIENCE_S = 60.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one account's questions."""

    account: str
    wanted: int  # sends that were to be asked about
    left: int  # of these, sends that still are
    calls: dict[str, int]  # ours, by what became of them
    elsewhere: bool  # another process had the account's lease

    @property
    def failure(self) -> str | None:
        """Return the word of the failure that ended it early, None if nothing did."""
        if not (self.left or PUT_OFF in self.calls):
            return None
        return next((word for word in (REFUSED, UNAVAILABLE) if word in self.calls), None)


def reconcile_now(
    part: Part,
    span: Span,
    *,
    provider: str,
    account: str,
    api: QueryApi,
    all_of_it: bool,
    advanced: Callable[[int, int], None],
) -> Outcome:
    """Ask about what is due of an account, and with `all_of_it` about the rest of `span` too, and
    return when nothing of it is left, the provider is away, or `part.stopping` is set.

    Safe beside daemons: where one has the account's lease, its work is followed, at its pace.
    `advanced` hears how many sends there were and how many are left. Raises StoreUnavailable.
    """
    clock, store = part.clock, part.store
    began_at = clock.now()
    span = msgspec.structs.replace(span, provider=provider, account=account)
    if all_of_it:
        with store.writing() as connection:
            plan.hasten(connection, span, began_at)
    calls = _Calls(part)
    own = msgspec.structs.replace(part, told=calls.note)
    pulse = Pulse(account, clock)
    reconciler = Reconciler(own, provider=provider, account=account, api=api, pulse=pulse)
    wanted = left = _left(part, span)
    moved_at = clock.monotonic()
    elsewhere = False
    while left:
        reconciler.run_once()
        before, left = left, _left(part, span)
        advanced(wanted, left)
        if part.stopping.is_set() or not left:
            break
        elsewhere |= not calls.counts
        if left < before:
            moved_at = clock.monotonic()
        if clock.monotonic() - moved_at > _PATIENCE_S or clock.wait(part.stopping, _LOOK_S):
            break
    return Outcome(
        account=account, wanted=wanted, left=left, calls=dict(calls.counts), elsewhere=elsewhere
    )


class _Calls:
    """Counts calls, and ends the work when too many fail in a row."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._in_a_row = 0
        self.counts: Counter[str] = Counter()

    def note(self, account: str, word: str) -> None:
        self.counts[word] += 1
        self._in_a_row = self._in_a_row + 1 if word in (REFUSED, UNAVAILABLE) else 0
        if self._in_a_row >= _FAILURES:
            self._part.stopping.set()


def _left(part: Part, span: Span) -> int:
    with part.store.reading() as connection:
        return plan.backlog(connection, span, part.clock.now()).rows
