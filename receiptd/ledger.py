"""The ledger: what was sent, as rows that wait for their receipts.

A send and its receipt have the same key, so either may come first: the merge binds them. What an
API refused is a row too, and `failed`; what was never answered is `awaited` under an id of ours
(providers/sends.py), until its answer, or a receipt, is known.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from receiptd.clock import Clock
from receiptd.errors import ConfigError, InvalidEnvelope, Problem, ReceiptdError, StoreUnavailable
from receiptd.model import Origin, Reason, Receipt, Status
from receiptd.phone import to_e164
from receiptd.providers.base import Context, Provider
from receiptd.providers.fields import BIZ_ID_MAX, OUT_ID_MAX, PHONE_MAX, required, text
from receiptd.providers.sends import SIGN_MAX, is_synthetic, told
from receiptd.store import SaveResult
from receiptd.store.merge import Key, key
from receiptd.store.plan import FIRST_AFTER

OWN = "own"  # our own shape, where an API's name is expected
COLUMNS = (
    "provider", "account", "biz_id", "phone", "out_id", "sign_name", "template_code", "send_api",
    "submitted_at",
)  # fmt: skip
COLUMNS_CURE = "the columns are " + ", ".join(COLUMNS)

_SEND_API_MAX = 32
_NUMBER = re.compile(r"[+0-9][0-9* ()-]{2,63}")
_FIRST_PAUSE_S = 0.2  # then twice as long each time


class SendSaver(Protocol):
    """The part of the store that the ledger needs."""

    def record_sends(
        self, sends: Sequence[Receipt], settled: Sequence[Key] = (), *, ask_after: timedelta
    ) -> SaveResult:
        """Return once `sends` are durable and the open rows of `settled` are gone. Raises
        StoreUnavailable or StoreRejected, having stored nothing."""
        ...


class UnreadableSend(ReceiptdError):
    """A send that cannot be booked. Neither text holds a value of it."""

    def __init__(self, rule: str, cure: str) -> None:
        self.rule = rule
        self.cure = cure
        super().__init__(f"{rule}; {cure}")


class Books(msgspec.Struct, frozen=True):
    """Whose sends are read, and under whose name they stand."""

    provider: Provider
    context: Context


def books_of(provider: Provider, name: str, receipts_account: str = "") -> Books:
    """Return the books of the account `name`.

    Where receipts arrive through another provider (Polyv's through Aliyun), its sends stand where
    those receipts will: under that provider and `receipts_account`.
    """
    elsewhere = provider.receipts_provider != provider.name
    account = receipts_account if elsewhere and receipts_account else name
    return Books(provider, Context(provider.receipts_provider, account, Origin.SEND))


def find_books(accounts: Mapping[str, Books], name: str) -> Books:
    """Return the books of the account `name`. Raises ConfigError if there is no such account."""
    books = accounts.get(name)
    if books is None:
        cure = f"configured: {', '.join(sorted(accounts)) or 'none'}"
        raise ConfigError([Problem(f"accounts.{name}", "there is no such account", cure=cure)])
    return books


class Send(msgspec.Struct, frozen=True):
    """One send as rows, one per number; `settled` are the rows that its answer makes obsolete."""

    receipts: Sequence[Receipt]
    settled: Sequence[Key] = ()


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one or more sends. `rows` is the sum of the three below it."""

    rows: int = 0
    accepted: int = 0
    refused: int = 0  # by the API: `failed`, with its code
    unanswered: int = 0  # may have been sent
    changed: int = 0  # rows that are new, or know more than before

    def __add__(self, other: "Recorded") -> "Recorded":
        return Recorded(
            rows=self.rows + other.rows,
            accepted=self.accepted + other.accepted,
            refused=self.refused + other.refused,
            unanswered=self.unanswered + other.unanswered,
            changed=self.changed + other.changed,
        )


class Ledger:
    """Books sends. Thread-safe: it has no state of its own."""

    def __init__(
        self,
        store: SendSaver,
        accounts: Mapping[str, Books],
        clock: Clock,
        *,
        attempts: int = 2,
        ask_after: timedelta = FIRST_AFTER,
    ) -> None:
        """`accounts` by their names; `attempts` is how often a busy database is tried; `ask_after`
        the send, reconciliation first asks about it."""
        self._store = store
        self._accounts = accounts
        self._clock = clock
        self._attempts = attempts
        self._ask_after = ask_after

    def record(
        self,
        api: str,
        account: str,
        request: Mapping[str, object],
        response: Mapping[str, object],
        submitted_at: datetime,
    ) -> Recorded:
        """Book one call of a send API and return once it is durable. Again changes nothing.

        An empty `response` means that none came. Raises UnreadableSend, StoreUnavailable,
        StoreRejected, or ConfigError for an unknown account.
        """
        return self.save([self.read(api, account, request, response, submitted_at)])

    def read(
        self,
        api: str,
        account: str,
        request: Mapping[str, object],
        response: Mapping[str, object],
        submitted_at: datetime,
    ) -> Send:
        """Return the rows of one call; stores nothing. Raises UnreadableSend or ConfigError."""
        if submitted_at.tzinfo is None:
            raise ValueError("submitted_at has no time zone")
        books = self.books(account)
        reader = books.provider.send_readers.get(api)
        if reader is None:
            known = ", ".join(sorted(books.provider.send_readers)) or "none"
            raise UnreadableSend(
                f"the provider {books.provider.name} has no such send API",
                f"for this account: {known}",
            )
        try:
            receipts = reader(request, response, books.context, submitted_at)
            if not response:
                return Send(receipts)
            # The same call may stand there as unanswered. A number that this answer passes over
            # still does.
            unanswered = reader(request, {}, books.context, submitted_at)
        except InvalidEnvelope as exc:
            raise unreadable(exc, f"give request and response as {api} has them") from None
        current = {key(one) for one in receipts}
        return Send(receipts, [one for one in map(key, unanswered) if one not in current])

    def read_own(
        self,
        account: str,
        data: Mapping[str, object],
        submitted_at: datetime | None,
        send_api: str | None = None,
    ) -> Send:
        """Return the row of one number that was accepted, told in our own words (`COLUMNS`);
        stores nothing. `send_api` counts where `data` names none.

        Raises UnreadableSend or ConfigError.
        """
        books = self.books(account)
        try:
            return Send([_own(data, books, submitted_at, send_api)])
        except InvalidEnvelope as exc:
            raise unreadable(exc, COLUMNS_CURE) from None

    def books(self, account: str) -> Books:
        """Return the books of an account. Raises ConfigError if there is no such account."""
        return find_books(self._accounts, account)

    def save(self, sends: Sequence[Send]) -> Recorded:
        """Store sends in one transaction, a busy database a few times; return once it is durable.

        Raises StoreUnavailable or StoreRejected: then none of them is stored.
        """
        receipts = [receipt for send in sends for receipt in send.receipts]
        settled = [one for send in sends for one in send.settled]
        saved = self._save(receipts, settled)
        refused = sum(one.status is not Status.AWAITED for one in receipts)
        unanswered = sum(
            one.status is Status.AWAITED and is_synthetic(one.biz_id) for one in receipts
        )
        return Recorded(
            rows=len(receipts),
            accepted=len(receipts) - refused - unanswered,
            refused=refused,
            unanswered=unanswered,
            changed=saved.changed,
        )

    def _save(self, receipts: Sequence[Receipt], settled: Sequence[Key]) -> SaveResult:
        pause = _FIRST_PAUSE_S
        for _ in range(self._attempts - 1):
            try:
                return self._record(receipts, settled)
            except StoreUnavailable:
                # A daemon that writes all the time, or a deadlock: the next moment is another.
                self._clock.wait(threading.Event(), pause)
                pause *= 2
        return self._record(receipts, settled)

    def _record(self, receipts: Sequence[Receipt], settled: Sequence[Key]) -> SaveResult:
        return self._store.record_sends(receipts, settled, ask_after=self._ask_after)


def _own(
    data: Mapping[str, object], books: Books, submitted_at: datetime | None, send_api: str | None
) -> Receipt:
    provider = told(data, "provider")
    if provider not in (None, books.provider.name, books.context.provider):
        cure = f"the account's provider is {books.provider.name}"
        raise UnreadableSend("provider is another than the account's", cure)
    biz_id = required(data, "biz_id", BIZ_ID_MAX)
    if is_synthetic(biz_id):
        cure = "leave the line out, or give the provider's id"
        raise UnreadableSend("biz_id is an id of receiptd's own, and no provider's", cure)
    phone = required(data, "phone", PHONE_MAX).strip()
    if not _NUMBER.fullmatch(phone):
        # 1.39E+10, from a spreadsheet, is no number any more.
        cure = "write its digits; a spreadsheet needs the column as text"
        raise UnreadableSend("phone is no number", cure)
    return Receipt(
        provider=books.context.provider,
        account=books.context.account,
        biz_id=biz_id,
        phone=to_e164(phone),
        status=Status.AWAITED,
        origin=Origin.SEND,
        out_id=text(data, "out_id", OUT_ID_MAX),
        sign_name=told(data, "sign_name", SIGN_MAX),
        template_code=told(data, "template_code"),
        send_api=told(data, "send_api", _SEND_API_MAX) or send_api,
        submitted_at=submitted_at,
    )


def unreadable(error: InvalidEnvelope, cure: str) -> UnreadableSend:
    """Return what a reader refused in words for whoever wrote the line."""
    if error.reason == Reason.MISSING_FIELD:
        return UnreadableSend(f"{error.detail} is missing", cure)
    if error.reason == Reason.BAD_FIELD:
        return UnreadableSend(f"{error.detail} cannot be read, or is too long", cure)
    return UnreadableSend(f"is no send ({error})", cure)
