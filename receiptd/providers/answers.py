"""What may be repeated of an API's answer in an error: its code and request id, never our own
words. Pure."""

import re
from collections.abc import Collection
from datetime import datetime

from receiptd.errors import SourceUnavailable
from receiptd.providers.http import Answer

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
# Shorter parameters, a page number say, stand in many a request id by chance and tell nothing.
_TELLING = 6


def shown_code(value: object, hidden: Collection[str]) -> str:
    """Return an error code if it looks like one and repeats nothing that we sent, else ""."""
    return _shown(value, _CODE, hidden)


def shown_request_id(value: object, hidden: Collection[str]) -> str:
    """Return a request id if it looks like one and repeats nothing that we sent, else ""."""
    return _shown(value, _REQUEST_ID, hidden)


def bad_answer(http_status: int) -> SourceUnavailable:
    """Return the error for a proxy's page, a captive portal, a redirect or a torn answer: no word
    of it is repeated."""
    cure = "the endpoint did not answer as the API does"
    return SourceUnavailable("bad_answer", http_status=http_status, cure=cure)


def unreadable_list(place: str) -> SourceUnavailable:
    """Return the error for an answer that is good but for a list that is none."""
    return SourceUnavailable("bad_answer", cure=f"{place} is not what the API documents")


def clock_skew(answer: Answer, now: datetime) -> str:
    """Return how far the host's clock is off, as the end of a sentence; "" if nobody told."""
    if answer.date is None:
        return ""
    skew_s = round((now - answer.date).total_seconds())
    return f", which is {abs(skew_s)} s {'ahead' if skew_s > 0 else 'behind'}"


def _shown(value: object, form: re.Pattern[str], hidden: Collection[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        return ""
    return "" if any(len(sent) >= _TELLING and sent in value for sent in hidden) else value
