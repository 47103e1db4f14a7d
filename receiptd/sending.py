"""Sends SMS, and leaves none of them without a row: booked before the call, completed after it.

An order is checked against every limit, booked as unanswered, and only then sent. Whatever ends the
call, a kill -9 or a timeout too, what may have been sent is in the ledger, under an out_id by which
reconciliation finds it.
"""

import secrets
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from enum import StrEnum

import msgspec

from receiptd.clock import Clock
from receiptd.config import Settings
from receiptd.errors import ConfigError, Problem, SourceError, StoreError, StoreUnavailable
from receiptd.ledger import Ledger, Send, UnreadableSend
from receiptd.model import OPEN, Receipt, Status
from receiptd.providers.base import InvalidSend, Provider, Refusal, SendApi, SendOrder, Wordy
from receiptd.providers.sends import is_synthetic
from receiptd.store import Store, following
from receiptd.store.following import SentRow
from receiptd.store.merge import Key, key

OUT_ID_PREFIX = "receiptd-"

_WAIT_CURE = (
    "do not send it again: what became of it is asked for by its out_id, or comes by itself"
)
_LOOK_S = 0.2  # between two looks at rows that are waited for
# Codes of SourceError for a call that ended before a byte of it was written.
_BEFORE_WRITING = frozenset({"unreachable", "untrusted_certificate"})


class Outcome(StrEnum):
    """What became of a call: the first of these that is true of any of its numbers."""

    REFUSED = "refused"  # by the API: `failed`
    UNANSWERED = "unanswered"  # may have been sent: `awaited`
    ACCEPTED = "accepted"
    NOT_SENT = "not_sent"  # the service was not reached; nothing is booked


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome and, unless all was accepted, why, and what can be done about it.

    `code` is the API's own for the first number that was refused, or ours for a call that nobody
    answered.
    """

    outcome: Outcome
    code: str = ""
    meaning: str = ""
    cure: str = ""
    is_about_credentials: bool = False


class Took(msgspec.Struct, frozen=True):
    """How long each leg of a send took, in seconds."""

    booked_s: float  # into the ledger, before the call
    called_s: float
    completed_s: float  # into the ledger, after it


class SendResult(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a send API. `rows` are what the ledger holds of it, one per number."""

    api: str
    account: str
    out_id: str | None
    submitted_at: datetime
    rows: tuple[Receipt, ...]
    verdict: Verdict
    took: Took
    is_complete: bool  # False: the database went away after the call, and holds `unanswered:` rows

    @property
    def biz_ids(self) -> list[str]:
        """The provider's ids, each once."""
        return list(dict.fromkeys(one.biz_id for one in self.of(Outcome.ACCEPTED)))

    def of(self, outcome: Outcome) -> list[Receipt]:
        """Return the rows with this outcome."""
        return [one for one in self.rows if _outcome(one) is outcome]


class Sender:
    """Sends through one API of one account. Thread-safe. Owns `client`: `close` closes it."""

    def __init__(
        self, *, account: str, api: str, client: SendApi, ledger: Ledger, clock: Clock
    ) -> None:
        """Raises ConfigError if the ledger knows no such account."""
        self.account = account
        self.api = api
        self._provider = ledger.books(account).provider
        self._client = client
        self._ledger = ledger
        self._clock = clock

    def request(self, order: SendOrder) -> Mapping[str, object]:
        """Return the API's parameters for `order`, all limits checked; no I/O. Raises InvalidSend.

        An order without an out_id gets a fresh one, if the API has a place for it.
        """
        if order.out_id:
            return self._client.request(order)
        named = msgspec.structs.replace(order, out_id=OUT_ID_PREFIX + secrets.token_hex(10))
        try:
            return self._client.request(named)
        except InvalidSend:
            return self._client.request(order)

    def send(self, order: SendOrder) -> SendResult:
        """Book `order`, send it, once, and complete the ledger with the answer.

        Raises InvalidSend, StoreUnavailable or StoreRejected before anything was sent. What happens
        after that is told in the result.
        """
        request = self.request(order)
        submitted_at = self._clock.now()
        began_at = self._clock.monotonic()
        try:
            booked = self._ledger.read(self.api, self.account, request, {}, submitted_at)
        except UnreadableSend as exc:  # what cannot be booked is not sent
            raise InvalidSend([Problem(self.api, exc.rule, cure=exc.cure)]) from None
        self._ledger.save([booked])
        booked_at = self._clock.monotonic()
        answer: Mapping[str, object] = {}
        error: SourceError | None = None
        try:
            answer = self._client.send(request)
        except SourceError as exc:
            error = exc
        called_at = self._clock.monotonic()
        if error is not None:
            send, verdict = _without_answer(booked, error)
        else:
            send, verdict = self._with_answer(booked, request, answer, submitted_at)
        is_complete = send is booked or self._complete(send)
        return SendResult(
            api=self.api,
            account=self.account,
            out_id=booked.receipts[0].out_id,
            submitted_at=submitted_at,
            rows=tuple(send.receipts),
            verdict=verdict,
            took=Took(
                booked_at - began_at,
                called_at - booked_at,
                self._clock.monotonic() - called_at,
            ),
            is_complete=is_complete,
        )

    def cancel(self) -> None:
        """End running calls at once and refuse later ones. Safe from any thread."""
        self._client.cancel()

    def close(self) -> None:
        """Release the connections. Nothing may be called afterwards."""
        self._client.close()

    def _with_answer(
        self,
        booked: Send,
        request: Mapping[str, object],
        answer: Mapping[str, object],
        submitted_at: datetime,
    ) -> tuple[Send, Verdict]:
        try:
            send = self._ledger.read(self.api, self.account, request, answer, submitted_at)
        except UnreadableSend as exc:
            return booked, Verdict(
                outcome=Outcome.UNANSWERED, code="bad_answer", meaning=exc.rule, cure=_WAIT_CURE
            )
        outcomes = {_outcome(one) for one in send.receipts}
        if Outcome.REFUSED in outcomes:
            return send, self._refusal(send.receipts)
        if Outcome.UNANSWERED in outcomes:
            meaning = "the answer passes over some numbers; they may have been sent to"
            verdict = Verdict(
                outcome=Outcome.UNANSWERED, code="bad_answer", meaning=meaning, cure=_WAIT_CURE
            )
            return send, verdict
        return send, Verdict(outcome=Outcome.ACCEPTED)

    def _refusal(self, rows: Sequence[Receipt]) -> Verdict:
        first = next(one for one in rows if _outcome(one) is Outcome.REFUSED)
        code = first.err_code or ""
        known = self._provider.refusal(code)
        return Verdict(
            outcome=Outcome.REFUSED,
            code=code,
            # Never the API's own words: those of a wrong signature repeat all that was signed.
            meaning=known.meaning if known else "",
            cure=known.cure if known else "look the code up in the provider's documents",
            is_about_credentials=self._is_about_credentials(known, first.err_msg or ""),
        )

    def _is_about_credentials(self, known: Refusal | None, message: str) -> bool:
        if known is not None and known.is_about_credentials:
            return True
        provider = self._provider
        return isinstance(provider, Wordy) and provider.is_about_credentials(message)

    def _complete(self, send: Send) -> bool:
        try:
            self._ledger.save([send])
        except StoreError:
            return False  # what was booked before the call stays, and is asked about
        return True


def open_sender(
    settings: Settings, account: str, ledger: Ledger, clock: Clock, api: str = ""
) -> Sender:
    """Return a sender through `api` of `[accounts.<account>]`, or through its provider's usual one;
    no I/O. Raises ConfigError."""
    provider = ledger.books(account).provider
    own = settings.accounts[account]
    if problems := provider.problems(account, own):
        raise ConfigError(problems)
    wanted = api or usual_api(provider)
    client = provider.open_send(wanted, own, clock) if wanted else None
    if client is None:
        rule = f"cannot send through {wanted or 'any API'}"
        cure = f"give it the keys of that API, or take another one of {', '.join(apis(provider))}"
        raise ConfigError([Problem(f"accounts.{account}", rule, cure=cure)])
    return Sender(account=account, api=wanted, client=client, ledger=ledger, clock=clock)


def apis(provider: Provider) -> list[str]:
    """Return the names of a provider's send APIs, the usual one first."""
    return list(provider.send_readers)


def usual_api(provider: Provider) -> str:
    """Return the API that a provider names first; "" if it has none."""
    return next(iter(provider.send_readers), "")


def follow(
    store: Store, rows: Sequence[Receipt], clock: Clock, timeout_s: float
) -> dict[Key, SentRow]:
    """Wait until all of `rows` have ended, at most `timeout_s`; return them as they are then.

    A row that is not there is left out. A database that is away meanwhile is asked again.
    """
    waiting = {key(one) for one in rows}
    found: dict[Key, SentRow] = {}
    ends_at = clock.monotonic() + timeout_s
    while True:
        # In an outage, what was seen before still holds.
        with suppress(StoreUnavailable), store.reading() as connection:
            found |= following.find(connection, waiting)
        waiting = {one for one in waiting if one not in found or found[one].status in OPEN}
        left_s = ends_at - clock.monotonic()
        if not waiting or left_s <= 0:
            return found
        clock.wait(threading.Event(), min(_LOOK_S, left_s))


def _without_answer(booked: Send, error: SourceError) -> tuple[Send, Verdict]:
    if error.code in _BEFORE_WRITING:
        # Nothing to wait for: the rows would be asked about for 30 days, and end as lost.
        withdrawn = Send([], [key(one) for one in booked.receipts])
        verdict = Verdict(
            outcome=Outcome.NOT_SENT,
            code=error.code,
            meaning="the service was not reached; nothing was sent",
            cure=error.cure,
        )
        return withdrawn, verdict
    meaning = f"no answer ({error.code}); it may have been sent"
    return booked, Verdict(
        outcome=Outcome.UNANSWERED, code=error.code, meaning=meaning, cure=_WAIT_CURE
    )


def _outcome(row: Receipt) -> Outcome:
    if row.status is not Status.AWAITED:
        return Outcome.REFUSED
    return Outcome.UNANSWERED if is_synthetic(row.biz_id) else Outcome.ACCEPTED
