"""What a broker's answer means when it is not what was asked for: a table, not a chain of ifs."""

import re
from datetime import datetime, timedelta

from receiptd.errors import SourceError, SourceRefused, SourceUnavailable
from receiptd.pullers.failures import CURES
from receiptd.pullers.http1 import Answer
from receiptd.pullers.xml import Refusal

NOTHING_THERE = "MessageNotExist"  # an empty queue, or a handle whose message is gone
# The handle's message is gone or will come again: no error (MNS FAQ, wire-formats.md 5.4).
EXPIRED_HANDLE = frozenset({NOTHING_THERE, "ReceiptHandleError", "MissingReceiptHandle"})

_UNAVAILABLE = {
    "QpsLimitExceeded": "the broker throttles us: fewer threads or replicas, or a higher quota",
    "InternalError": "the broker failed; it will be asked again",
    "InternalServerError": "the broker failed; it will be asked again",
    "ServiceUnavailable": "the broker is overloaded; it will be asked again",
    "TimeExpired": "",  # its cure holds the measured skew
}
_REFUSED = {
    "AccessDenied": "the key may not read this queue; check its rights, message_type and names",
    "InvalidAccessKeyId": "the access key does not exist or is disabled; check access_key_id",
    "SignatureDoesNotMatch": "the secret is wrong; check access_key_secret",
    "QueueNotExist": "no such queue at this endpoint; check queue, region and endpoint",
    "TopicNotExist": "no such topic in this instance; check topic, instance_id and endpoint",
    "InvalidArgument": "the broker does not accept an argument; check names, batch_size and wait_s",
}
_ANY_REFUSAL = "the broker refuses the request; look the code up in its documentation"
# Further off than this the brokers refuse whatever is signed, not always by the same code.
_MOST_SKEW_S = 15 * 60
_AUTH_WORDS = ("Token", "Signature", "AccessKey", "Denied")

# Both go into texts and logs: nothing passes that could be a phone, a key or a sentence.
_CODE = re.compile(r"[A-Za-z][A-Za-z._]{1,63}")
_REQUEST_ID = re.compile(r"[0-9A-Fa-f-]{8,64}")


def is_about_credentials(answer: Answer, refusal: Refusal | None) -> bool:
    """Whether fresh credentials could help: any 401 or 403, and, because the code of an expired
    token is documented nowhere, any 4xx whose code names one."""
    if answer.status in (401, 403):
        return True
    code = refusal.code if refusal else ""
    return 400 <= answer.status < 500 and any(word in code for word in _AUTH_WORDS)


def to_error(answer: Answer, refusal: Refusal | None, now: datetime) -> SourceError:
    """Return the error for an answer that is no success; `now` is for the clock skew."""
    code = refusal.code if refusal and _CODE.fullmatch(refusal.code) else "bad_answer"
    request_id = answer.request_id or (refusal.request_id if refusal else "")
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = ""

    kind: type[SourceError] = SourceUnavailable
    if code == "TimeExpired":
        cure = _skew(answer, now)
    elif code in _UNAVAILABLE:
        cure = _UNAVAILABLE[code]
    elif answer.status >= 500 or answer.status == 429:
        cure = "the broker or a proxy before it failed; it will be asked again"
    elif code in _REFUSED or is_about_credentials(answer, refusal):
        kind, cure = SourceRefused, _REFUSED.get(code, _REFUSED["AccessDenied"])
        if abs(_skew_s(answer, now) or 0.0) > _MOST_SKEW_S:
            cure = _skew(answer, now)
    elif code != "bad_answer" and 400 <= answer.status < 500:
        kind, cure = SourceRefused, _ANY_REFUSAL
    else:
        code, cure = "bad_answer", CURES["bad_answer"]
    return kind(code, http_status=answer.status, request_id=request_id, cure=cure)


def _skew(answer: Answer, now: datetime) -> str:
    skew_s = _skew_s(answer, now)
    if skew_s is None:
        return "the broker takes our time for wrong; set this host's clock"
    theirs = now - timedelta(seconds=skew_s)
    return (
        f"this host's clock is {skew_s:+.0f} s off the broker's ({now:%H:%M:%S} here, "
        f"{theirs:%H:%M:%S} there, UTC); set it, e.g. timedatectl set-ntp true"
    )


def _skew_s(answer: Answer, now: datetime) -> float | None:
    """Return how far this host's clock is ahead; None if the broker's is not known."""
    return None if answer.sent_at_s is None else now.timestamp() - answer.sent_at_s
