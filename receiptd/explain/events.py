"""What a timeline is made of. Frozen data; a time is aware UTC, or None where nobody knows it."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

import msgspec

from receiptd.model import Status
from receiptd.store.lookups import JournalRow, Reply, StoredReceipt

Fact: TypeAlias = str | int | float | bool | datetime | None


class What(StrEnum):
    """What happened; a closed list, in the order of a message's life."""

    NOT_RECORDED = "not_recorded"  # a receipt came, but nobody told the ledger of the send
    SENT = "sent"  # api, account, sign_name, template_code, out_id
    UNANSWERED = "unanswered"  # the call of the send API had no answer
    REFUSED = "refused"  # by the send API: err_code, err_msg
    HANDED_OVER = "handed_over"  # by the provider to the carrier
    REPORTED = "reported"  # by the carrier: status, err_code, err_msg
    PULLED = "pulled"  # source, pull_count, enqueued_at, lag_s, says, effect
    QUARANTINED = "quarantined"  # source, reason, journal_id
    ASKED = "asked"  # the provider's query API: says, effect, reason
    WINDOW_CLOSED = "window_closed"  # nobody can be asked any more
    STATUS = "status"  # before, after, origin, source
    UNEXPLAINED = "unexplained"  # the row says more than the journal: before, after, origin
    REPLY = "reply"  # content, after_s
    NEXT_QUERY = "next_query"  # when it will be asked about next
    LOST_AT = "lost_at"  # when nobody will know any more


class Said(StrEnum):
    """What a record did to the row."""

    CHANGED = "changed"  # the status
    UPDATED = "updated"  # the same status, but another time, code or text of it
    FILLED = "filled"  # fields that were empty
    NOTHING_NEW = "nothing_new"
    WEAKER = "weaker"  # what is known ranks higher, or is later
    UNREAD = "unread"  # its body is not understood by what is installed now


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened, or will. `facts` are named beside each What."""

    at: datetime | None
    what: What
    facts: Mapping[str, Fact] = {}


class Meaning(msgspec.Struct, frozen=True):
    """What an err_code means; `cure` is "" where there is nothing that a sender can do."""

    err_class: str
    text: str
    cure: str


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """One SMS to one phone, and its events in the order of time."""

    sms: StoredReceipt
    events: tuple[Event, ...]
    meaning: Meaning | None  # of sms.err_code
    lost_at: datetime | None  # of an open send: when the provider forgets it

    def __repr__(self) -> str:
        return f"Timeline({self.sms!r})"


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of what was asked for; the newest SMS first.

    `total` counts the SMS that were found, also those over the limit; with `is_complete` False, the
    time was up before everything was read.
    """

    found_by: str | None  # biz_id, phone, out_id, sequence_id; None: nothing was found
    searched: tuple[str, ...]
    timelines: tuple[Timeline, ...] = ()
    total: int = 0
    is_complete: bool = True
    quarantined: tuple[JournalRow, ...] = ()  # whose body names what was asked for
    replies: tuple[Reply, ...] = ()  # of no SMS among `timelines`

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is known."""
        return not (self.timelines or self.quarantined or self.replies)


def is_open(sms: StoredReceipt) -> bool:
    """Return whether the SMS may still be heard of."""
    return sms.status in (Status.AWAITED, Status.PENDING)
