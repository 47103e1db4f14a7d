"""Asking a provider about one send: its days, page by page, each page stored as it comes.

The answers go the way of all records: an envelope, journal entries, the merge. What is special is
that the row's plan moves on in the same transaction, so that a crash repeats one page at most.
"""

import threading
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import TypeAlias

import msgspec
from structlog.typing import FilteringBoundLogger

from receiptd import model
from receiptd.china import china_days, day_text
from receiptd.clock import Clock
from receiptd.errors import SourceCancelled, SourceError, SourceRefused, StoreRejected
from receiptd.gate import Gate
from receiptd.insist import insist
from receiptd.model import (
    OPEN,
    Entry,
    Envelope,
    Kind,
    Origin,
    Outcome,
    Reason,
    Receipt,
    Status,
)
from receiptd.providers.base import Asked, Found, QueryApi, QueryPage
from receiptd.providers.sends import is_synthetic
from receiptd.reconcile.schedule import Schedule
from receiptd.reconcile.throttle import Throttle
from receiptd.store import Store
from receiptd.store.plan import Answer, Due

# What became of a call, for whoever counts them: a closed list, it is a metrics label.
ANSWERED, WAITING, NOTHING, UNDECIDED = "answered", "waiting", "nothing", "undecided"
UNAVAILABLE, REFUSED = "unavailable", "refused"

# No API of ours answers for these: QueryMessage, which does for SendMessageToGlobe, is not spoken.
_UNASKABLE_APIS = frozenset({"SendMessageToGlobe"})

# The China day and the page of it, from 1.
Place: TypeAlias = tuple[date, int]


class Asker:
    """Asks one account's query API. Thread-safe."""

    def __init__(
        self,
        *,
        account: str,
        api: QueryApi,
        store: Store,
        schedule: Schedule,
        throttle: Throttle,
        gate: Gate,
        store_gate: Gate,
        stopping: threading.Event,
        clock: Clock,
        log: FilteringBoundLogger,
        told: Callable[[str], None],
    ) -> None:
        """`gate` is the API's; `told` hears what became of each call."""
        self._source = f"{model.QUERY_SOURCE}{account}"
        self._api = api
        self._store = store
        self._schedule = schedule
        self._throttle = throttle
        self._gate = gate
        self._store_gate = store_gate
        self._stopping = stopping
        self._clock = clock
        self._log = log
        self._told = told

    def ask(self, due: Due) -> bool:
        """Ask about a send and store what is known of it. Return whether that is done: False if the
        provider did not answer, or we are told to stop; then it goes on later where it was."""
        days = china_days(due.submitted_at)
        place: Place | None = _read_place(due.query_place) or (days[0], 1)
        is_doubtful = False
        while place is not None:
            page = self._page(due, place)
            if page is None:
                return False
            is_doubtful |= bool(page.undecided or page.unreadable)
            following = None if page.found else _following(days, place, is_last=page.is_last)
            if following is None and not page.found:
                reason = model.UNDECIDED if is_doubtful else model.NOTHING_FOUND
                entries = [self._nothing(due, place, reason)]
            else:
                entries = self._entries(due, place, page.found)
            if not self._store_page(due, entries, following):
                return False
            place = following
        return True

    def _page(self, due: Due, place: Place) -> QueryPage | None:
        """Return a page; None if there was no answer."""
        asked = Asked(
            biz_id=due.biz_id,
            phone=due.phone,
            submitted_at=due.submitted_at,
            out_id=due.out_id,
        )
        with self._gate.attempt(self._stopping) as attempt:
            if attempt is None or not self._throttle.wait(self._stopping):
                return None
            try:
                page = self._api.page(asked, *place)
            except SourceCancelled:
                return None
            except SourceError as exc:
                is_refused = isinstance(exc, SourceRefused)
                self._told(REFUSED if is_refused else UNAVAILABLE)
                self._throttle.slow_down()
                if attempt.failed():
                    self._log.warning(
                        "query.failed", error=str(exc), code=exc.code, http=exc.http_status
                    )
                return None
            self._told(_word(page))
            self._throttle.speed_up()
            if outage := attempt.succeeded():
                self._log.info(
                    "query.recovered", outage_s=round(outage.seconds, 1), attempts=outage.attempts
                )
            return page

    def _entries(self, due: Due, place: Place, found: Sequence[Found]) -> list[Entry]:
        envelope = self._envelope(due, place)
        return [
            Entry(
                envelope=envelope,
                part=part,
                body=one.body,
                kind=Kind.RECEIPT,
                outcome=Outcome.STORED,
                received_at=self._clock.now(),
                record=one.receipt,
            )
            for part, one in enumerate(found)
        ]

    def _nothing(self, due: Due, place: Place, reason: str) -> Entry:
        return bare_entry(self._envelope(due, place), due, Status.AWAITED, reason, self._clock)

    def _envelope(self, due: Due, place: Place) -> Envelope:
        name = f"{due.biz_id}/{_written(place)}"
        return Envelope(source=self._source, envelope_id=name, body=b"{}", handle="")

    def _store_page(self, due: Due, entries: Sequence[Entry], following: Place | None) -> bool:
        """Store a page and move the plan on, however long the database is away; return False if
        told to stop before that."""
        now = self._clock.now()
        answer = Answer(
            key=due.key,
            entries=entries,
            next_query_at=now if following else self._schedule.after(due.submitted_at, now),
            place=_written(following) if following else None,
        )

        def store() -> bool:
            try:
                self._store.answer([answer])
            except StoreRejected:
                # A value that no table takes: kept raw, as everywhere, and the plan goes on.
                refused = [_refused(entry) for entry in entries]
                self._store.answer([msgspec.structs.replace(answer, entries=refused)])
            return True

        return bool(insist(store, self._store_gate, self._stopping, self._log))


def bare_entry(envelope: Envelope, due: Due, status: Status, reason: str, clock: Clock) -> Entry:
    """Return a journal entry that says of a send no more than `status`, and why."""
    record = Receipt(
        provider=due.provider,
        account=due.account,
        biz_id=due.biz_id,
        phone=due.phone,
        status=status,
        origin=Origin.QUERY,
    )
    return Entry(
        envelope=envelope,
        part=0,
        body=envelope.body,
        kind=Kind.RECEIPT,
        outcome=Outcome.STORED,
        reason=reason,
        received_at=clock.now(),
        record=record,
    )


def is_askable(due: Due) -> bool:
    """Return whether the provider can be asked about a send at all."""
    if due.send_api in _UNASKABLE_APIS:
        return False
    # Without an id of the provider's, the sender's own is all that could tell it from others.
    return bool(due.out_id) or not is_synthetic(due.biz_id)


def _refused(entry: Entry) -> Entry:
    return msgspec.structs.replace(
        entry,
        record=None,
        kind=Kind.UNREADABLE,
        outcome=Outcome.QUARANTINED,
        reason=Reason.STORE_REJECTED,
    )


def _word(page: QueryPage) -> str:
    if page.found:
        is_waiting = all(one.receipt.status in OPEN for one in page.found)
        return WAITING if is_waiting else ANSWERED
    return UNDECIDED if page.undecided or page.unreadable else NOTHING


def _following(days: Sequence[date], place: Place, *, is_last: bool) -> Place | None:
    """Return the page that is asked for after `place`, None if there is no more."""
    day, number = place
    if not is_last:
        return day, number + 1
    later = days[days.index(day) + 1 :] if day in days else ()
    return (later[0], 1) if later else None


def _written(place: Place) -> str:
    day, number = place
    return f"{day_text(day)}/{number}"


def _read_place(text: str | None) -> Place | None:
    day, _, number = (text or "").partition("/")
    try:
        return datetime.strptime(day, "%Y%m%d").date(), int(number)
    except ValueError:
        return None
