"""From a broker's message to an envelope: the fields that MNS and RocketMQ spell differently but
mean alike."""

import hashlib
from datetime import UTC, datetime

from receiptd.model import Envelope, Reason
from receiptd.pullers.http1 import Answer
from receiptd.pullers.xml import Message

_MAX_MS = 4_102_444_800_000  # the year 2100: beyond it is nonsense, not a time
MAX_HIDDEN_S = 43_200.0  # the longest visibility timeout that can be set


def to_envelope(
    source: str,
    message: Message,
    answer: Answer,
    body: bytes,
    flaw: Reason | None,
    *,
    digest_differs: bool = False,
) -> Envelope:
    """Return the envelope; a field that is missing or nonsense is None, and never an error."""
    return Envelope(
        source=source,
        envelope_id=message.envelope_id,
        body=body if message.damaged is None else message.damaged,
        handle=message.handle,
        pull_count=message.pull_count,
        enqueued_at=_time(message.enqueued_ms),
        visible_until=_visible_until(message.visible_ms, answer),
        flaw=flaw if message.damaged is None else Reason.DAMAGED,
        digest_differs=digest_differs,
    )


def digest_differs(message: Message, *candidates: bytes) -> bool:
    """Whether the broker sent an MD5 and none of `candidates` has it.

    Undocumented over which bytes it is taken, so it decides nothing; a count of it tells of damage.
    """
    stated = message.digest.lower()
    if not stated:
        return False
    for candidate in candidates:
        if hashlib.md5(candidate, usedforsecurity=False).hexdigest() == stated:
            return False
    return True


def _time(milliseconds: int | None) -> datetime | None:
    if milliseconds is None or not 0 < milliseconds < _MAX_MS:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)  # a quarter of a timedelta's cost


def _visible_until(milliseconds: int | None, answer: Answer) -> float | None:
    """Both times are the broker's, so a host clock that is off changes nothing."""
    if milliseconds is None or answer.sent_at_s is None:
        return None
    hidden_s = milliseconds / 1000 - answer.sent_at_s
    return answer.arrived_at + hidden_s if 0 < hidden_s <= MAX_HIDDEN_S else None
