"""What a provider is: the contract behind the `receiptd.providers` entry points.

A provider says what its messages mean (`normalizers`), what a send that somebody made means for
the ledger (`send_readers`, `refusal`), and hands out clients of its query and send APIs. What is
read is pure; clients do I/O and are imported by who opens one, so that importing a provider costs
no HTTP library.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.errors import Problem, ReceiptdError
from receiptd.model import CredentialsSource, ErrClass, Kind, Origin, Receipt, Record


class Context(msgspec.Struct, frozen=True):
    """Where a body came from: what a normalizer needs beside the body itself.

    For a send: under which provider and account its rows stand (`Provider.receipts_provider`).
    """

    provider: str
    account: str
    origin: Origin


# One JSON object, as decoded, into one record. Pure. Raises InvalidEnvelope and nothing else,
# whatever the object holds.
Normalizer: TypeAlias = Callable[[Mapping[str, object], Context], Record]

# (request, response, context, submitted_at): a send API's parameters and its answer, both as
# decoded from JSON, and when it was called (aware) into the ledger's rows, one per number, with
# origin `send`. Pure; the same pair always gives the same rows. Raises InvalidEnvelope and nothing
# else. `context.origin` plays no part.
#
# What was accepted is `awaited` under the API's own id. What the API refused is `failed`, with its
# code, and the id `failed:…` (sends.py). An empty response means that none came: the numbers are
# `awaited` under `unanswered:…`, because they may have been sent.
SendReader: TypeAlias = Callable[
    [Mapping[str, object], Mapping[str, object], Context, datetime], list[Receipt]
]


class Refusal(msgspec.Struct, frozen=True):
    """What an error code of a send API means, in the provider's words, and what a sender can do.

    `is_about_credentials` says that who sends was refused, and not what is sent.
    """

    code: str
    err_class: ErrClass
    meaning: str
    cure: str
    is_about_credentials: bool = False


class InvalidSend(ReceiptdError):
    """A send that an API would refuse, held back before anything was sent.

    Every problem at once; a place is the API's parameter (`PhoneNumberJson[3]`). Holds no number.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SendOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be sent, whichever API sends it. `phones` in E.164, or as the API wants them.

    `params` are a template's variables and `sign_names` signatures: one for all numbers, or one
    per number. `extend_codes` go behind the sender's number in replies: none, or likewise.
    """

    phones: Sequence[str]
    params: Sequence[Mapping[str, str]] = ()
    sign_names: Sequence[str] = ()
    template_code: str = ""
    out_id: str = ""
    extend_codes: Sequence[str] = ()

    def __repr__(self) -> str:
        return f"SendOrder({len(self.phones)} numbers)"


class SendApi(Protocol):
    """A client of one send API for one account. Thread-safe."""

    def request(self, order: SendOrder) -> Mapping[str, object]:
        """Return the API's parameters for `order`; no I/O. Raises InvalidSend."""
        ...

    def send(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Send, once, and return the API's answer, a refusal too: both are what its SendReader
        takes.

        Raises InvalidSend for a request over a limit, SourceCancelled, or SourceUnavailable or
        SourceRefused where no answer came: then it may have been sent. Bounded in time.
        """
        ...

    def cancel(self) -> None:
        """End running calls at once and refuse later ones. Safe from any thread."""
        ...

    def close(self) -> None:
        """Release the connections. Nothing may be called afterwards."""
        ...


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The send that is asked about: a row of the ledger. `submitted_at` is aware, `phone` E.164."""

    biz_id: str
    phone: str
    submitted_at: datetime
    out_id: str | None = None

    def __repr__(self) -> str:
        return f"Asked(biz_id={self.biz_id!r})"


class Found(msgspec.Struct, frozen=True):
    """A row of an answer: what it says, and the row itself as JSON, for the journal."""

    receipt: Receipt
    body: bytes


class QueryPage(msgspec.Struct, frozen=True):
    """One page of an answer about one send.

    `found` have the identity that was asked for and origin `query`: `pending` where the provider
    waits. `undecided` counts rows that may be of this send or of another, so that none was taken;
    `unreadable` those that are no row at all.
    """

    found: tuple[Found, ...]
    is_last: bool
    undecided: int = 0
    unreadable: int = 0

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """What the rows say."""
        return tuple(one.receipt for one in self.found)


class DayCounts(msgspec.Struct, frozen=True):
    """What the provider counts for one account and China day."""

    day: date
    sent: int
    delivered: int
    failed: int
    waiting: int


class QueryApi(Protocol):
    """A client of a provider's query API for one account. Thread-safe. Never repeats a call."""

    def page(self, asked: Asked, day: date, page_number: int) -> QueryPage:
        """Return one page, from 1, of what is known of `asked` on the China day `day`.

        One call of the API, bounded in time. Raises SourceUnavailable (throttling and answers
        that make no sense included), SourceRefused or SourceCancelled: then nothing is known. A
        number that the API cannot be asked for (a masked one) is an empty last page, without a
        call.
        """
        ...

    def statistics(self, day: date) -> DayCounts | None:
        """Return the counts of the China day `day`, None if the API has none. Raises as `page`."""
        ...

    def cancel(self) -> None:
        """End running calls at once and refuse later ones. Safe from any thread."""
        ...

    def close(self) -> None:
        """Release the connections. Nothing may be called afterwards."""
        ...


class Provider(Protocol):
    """One entry of the `receiptd.providers` entry points."""

    name: str
    normalizers: Mapping[str, Normalizer]  # message type -> function
    default_message_type: str | None  # for sources that need not name one
    send_readers: Mapping[str, SendReader]  # `receipts.send_api` -> function
    # Under which provider its sends are booked: its own name, or, where receipts arrive through
    # another provider, that one's, and then the account is `receipts_account`.
    receipts_provider: str

    def problems(self, name: str, account: AccountSettings) -> list[Problem]:
        """Return what is wrong with `[accounts.<name>]` for this provider; no I/O."""
        ...

    def credentials(
        self, account: AccountSettings, kind: str, message_type: str, clock: Clock
    ) -> CredentialsSource:
        """Return what signs the pulls of `message_type`, to be shared by all their threads; no I/O.

        `kind` is the source's `credentials`: `token` or `access_key`; that the two suit each
        other, the puller has checked.
        """
        ...

    def refusal(self, code: str) -> Refusal | None:
        """Return what an error code of the send APIs means; None if the documents do not say."""
        ...

    def open_query(self, name: str, account: AccountSettings, clock: Clock) -> QueryApi | None:
        """Return a client of the query API for `[accounts.<name>]`, None if it has none; no I/O."""
        ...

    def open_send(self, api: str, account: AccountSettings, clock: Clock) -> SendApi | None:
        """Return a client of the send API `api`, None if this provider cannot call it; no I/O."""
        ...


def message_type_of(provider: Provider, configured: str) -> str:
    """Return the message type of a source for which `configured` is: that, or if it is "", the
    provider's default; "" if it has none."""
    return configured or provider.default_message_type or ""


@runtime_checkable
class Wordy(Protocol):
    """What a provider may offer besides, if no code tells some refusals of its send APIs."""

    def is_about_credentials(self, message: str) -> bool:
        """Return whether a refusal in these words is one of who sends, and not of what is sent."""
        ...


@runtime_checkable
class Addressed(Protocol):
    """What a provider may offer besides, for `receiptd check --online`."""

    # Message type -> what its messages are; a type of which they may be anything is left out.
    message_kinds: Mapping[str, Kind]

    def service_urls(self, account: AccountSettings) -> Mapping[str, str]:
        """Return use -> URL, without I/O: `query` is what `open_query` calls, `token` what the
        credentials of a source with tokens call, `send` a send API that is at neither."""
        ...
