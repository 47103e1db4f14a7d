"""The data that flows through receiptd: envelopes in, records and journal entries out. Frozen, no
I/O.

Hot-path types are msgspec structs: the same as frozen dataclasses to read, an eighth of the cost
to make. They hold no cycles, so the collector need not look at them (`gc=False`).
"""

from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeAlias

import msgspec


class Status(StrEnum):
    """What became of an SMS, in rising rank; `failed` and `delivered` share the top rank
    (design.md section 5)."""

    AWAITED = "awaited"
    PENDING = "pending"
    LOST = "lost"
    UNKNOWN = "unknown"
    FAILED = "failed"
    DELIVERED = "delivered"


# A status never goes down this ladder; within the top rank the later `reported_at` decides.
RANK: dict[Status, int] = {
    Status.AWAITED: 0,
    Status.PENDING: 1,
    Status.LOST: 2,
    Status.UNKNOWN: 3,
    Status.FAILED: 4,
    Status.DELIVERED: 4,
}

# What may still be heard of: reconciliation asks about these, and they end as LOST if nobody knows.
OPEN = (Status.AWAITED, Status.PENDING)


class ErrClass(StrEnum):
    """What an err_code means, in ten words."""

    OK = "ok"
    ABSENT = "absent"
    INVALID_NUMBER = "invalid_number"
    BLACKLIST = "blacklist"
    CARRIER = "carrier"
    CONTENT = "content"
    LIMIT = "limit"
    CONFIG = "config"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class Origin(StrEnum):
    """What decided a status."""

    QUEUE = "queue"
    PUSH = "push"
    QUERY = "query"
    REPLAY = "replay"
    SEND = "send"


class Kind(StrEnum):
    """What a journal row holds."""

    RECEIPT = "receipt"
    UPLINK = "uplink"
    NOTICE = "notice"
    UNREADABLE = "unreadable"


class Outcome(StrEnum):
    """What became of a journal row."""

    STORED = "stored"
    QUARANTINED = "quarantined"
    REPLAYED = "replayed"
    DROPPED = "dropped"


class Reason(StrEnum):
    """Why something was quarantined. A closed list: it is a metrics label."""

    NOT_BASE64 = "not_base64"  # an MNS body that is not strict base64
    NO_BODY = "no_body"  # the message had no body, or an empty one
    DAMAGED = "damaged"  # the XML around the body was not well formed; raw bytes kept
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    TOO_DEEP = "too_deep"  # nesting or number beyond what any receipt needs
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_SHAPE = "unknown_shape"  # JSON, but none of the known messages
    MISSING_FIELD = "missing_field"
    BAD_FIELD = "bad_field"
    KILLS_READER = "kills_reader"  # whoever read it died or hung (trial.py); it was not read again
    STORE_REJECTED = "store_rejected"  # the database refused this row's data
    UNEXPECTED_ERROR = "unexpected_error"  # a bug of ours; health turns red


# What begins the ids that receiptd gives a send for which its API gave none (providers/sends.py).
FAILED_ID = "failed:"
UNANSWERED_ID = "unanswered:"

# Sources of journal rows that no broker brought: answers to reconciliation (with the account's name
# behind it), reconciliation's own word, and files that were replayed.
QUERY_SOURCE = "query:"
RECONCILE_SOURCE = "reconcile"
REPLAY_SOURCE = "replay"

# Reasons of such rows. They are answers, and no quarantine.
NOTHING_FOUND = "nothing_found"
UNDECIDED = "undecided"
WINDOW_CLOSED = "window_closed"


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One broker message as pulled.

    `visible_until` is on the clock's *monotonic* scale (the broker's NextVisibleTime minus its
    Date header, so that a skewed host clock changes nothing); None if the broker did not say.
    `handle` is "" if the broker's answer was too damaged to hold one. `flaw` says that the puller
    could not even read the body, `body` is then raw. `digest_differs` says that the broker stated
    an MD5 which the body does not have: no flaw, because nobody documents over which bytes it is.
    """

    source: str
    envelope_id: str
    body: bytes
    handle: str
    pull_count: int | None = None
    enqueued_at: datetime | None = None
    visible_until: float | None = None
    flaw: Reason | None = None
    digest_differs: bool = False

    def __repr__(self) -> str:
        return f"Envelope(source={self.source!r}, envelope_id={self.envelope_id!r})"


class Committed(msgspec.Struct, frozen=True, gc=False):
    """An envelope whose transaction is durable; the only thing that a puller's ack() takes.

    Minted only in pipeline.py, after COMMIT, so that "ack before commit" does not type-check;
    tests/test_layers.py looks for other call sites. (A wrapper, because mypy 2.4 crashes on a
    NewType over a msgspec struct.)
    """

    envelope: Envelope


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one source says about one SMS to one phone. Times are aware UTC, `phone` is E.164
    where readable."""

    provider: str
    account: str
    biz_id: str
    phone: str
    status: Status
    origin: Origin
    out_id: str | None = None
    err_code: str | None = None  # as received
    err_msg: str | None = None  # as received
    err_class: ErrClass | None = None
    segments: int | None = None
    sign_name: str | None = None
    template_code: str | None = None
    send_api: str | None = None
    submitted_at: datetime | None = None
    sent_at: datetime | None = None
    reported_at: datetime | None = None
    conflict: bool = False

    def __repr__(self) -> str:
        return f"Receipt(biz_id={self.biz_id!r}, status={self.status.value!r})"


class Uplink(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An SMS that a phone's user sent to us. `sequence_id` is the provider's identity of it, as
    text."""

    provider: str
    account: str
    phone: str
    content: str | None
    dest_code: str | None
    sign_name: str | None
    sequence_id: str
    sent_at: datetime | None

    def __repr__(self) -> str:
        return f"Uplink(sequence_id={self.sequence_id!r})"


class Notice(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A review result of a signature or a template."""

    provider: str
    account: str
    subject: str  # "sign" or "template"
    name: str  # sign_name, or template_code
    status: str  # as received: approving, approved, rejected
    reason: str | None
    order_id: str | None
    created_at: datetime | None


Record: TypeAlias = Receipt | Uplink | Notice


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One journal row to be, with its record if it was understood."""

    envelope: Envelope
    part: int  # 0..n within the envelope
    body: bytes  # this part as received
    kind: Kind
    outcome: Outcome
    received_at: datetime
    reason: str | None = None
    record: Record | None = None


class Credentials(msgspec.Struct, frozen=True):
    """A key pair, with a session token or "" (never None: both SDKs fail on None)."""

    access_key_id: str
    access_key_secret: str
    security_token: str = ""

    def __repr__(self) -> str:
        return "Credentials(hidden)"


class CredentialsSource(Protocol):
    """Hands out credentials, fresh ones where they expire. Shared by all threads of a source."""

    def current(self) -> Credentials:
        """Return credentials that are valid now; may block on a refresh.

        Raises SourceUnavailable or SourceRefused if there are none to be had.
        """
        ...

    def refused(self, used: Credentials) -> bool:
        """Report that the broker answered 401 or 403 to `used`; return whether trying again at
        once makes sense (fresh credentials were fetched, by this thread or another)."""
        ...

    def cancel(self) -> None:
        """End a running refresh at once and refuse later ones: the daemon stops. Safe from any
        thread."""
        ...
