"""Polyv's sends into rows of the ledger: wire-formats 9, seed S2. Pure.

Polyv sends through a user's own account at Aliyun: `serialNo` is Aliyun's BizId, the receipts come
from there, and so the rows stand under that account (`Provider.receipts_provider`).
"""

import re
from collections.abc import Mapping
from datetime import datetime

from receiptd.errors import InvalidEnvelope
from receiptd.model import Reason, Receipt, Status
from receiptd.phone import to_e164
from receiptd.providers.base import Context, Refusal, SendReader
from receiptd.providers.fields import BIZ_ID_MAX, MESSAGE_MAX, PHONE_MAX, required
from receiptd.providers.refusals import find
from receiptd.providers.sends import (
    Sent,
    class_of,
    numbers,
    request_id,
    told,
)

# A number's status: handed to Aliyun. The failures are the rows of errors.csv.
_SUBMITTED = "12"
# Polyv publishes one code of a call that is refused for who sends (in errors.csv); of the others
# only the words are known.
_ABOUT_CREDENTIALS = re.compile(r"\b(signature|timestamp)\b")


def refusal(code: str) -> Refusal | None:
    """Return what an error code of Polyv, or a number's status, means (S2)."""
    return find("receiptd.providers.polyv", code)


def is_about_credentials(message: str) -> bool:
    """Return whether a refusal in these words is one of the key or the clock."""
    return _ABOUT_CREDENTIALS.search(message) is not None


def send(
    request: Mapping[str, object],
    response: Mapping[str, object],
    context: Context,
    submitted_at: datetime,
) -> list[Receipt]:
    """Return the rows of a /live/v4/user/sms/send: an id and a status per number.

    A number that the answer passes over, or that was submitted without a `serialNo`, is awaited as
    if nobody had answered.
    """
    sent = Sent(
        request=request,
        context=context,
        send_api="polyv",
        submitted_at=submitted_at,
        signs=dict.fromkeys(numbers(request, "phoneNumbers")),
    )
    if not response:
        return sent.unanswered()
    code = required(response, "code")
    found = request_id(response, "requestId")
    if code != "200":
        return _refused(sent, code, response.get("error"), found)
    data = response.get("data")
    if not isinstance(data, list):
        raise InvalidEnvelope(Reason.MISSING_FIELD if data is None else Reason.BAD_FIELD, "data")
    rows: dict[str, Receipt] = {}
    for element in data:
        row = _row(sent, element, found)
        if row is not None:
            rows.setdefault(row.phone, row)
    missing = [phone for phone in sent.signs if phone not in rows]
    return [*rows.values(), *(sent.receipt(phone, sent.unanswered_id()) for phone in missing)]


def _refused(sent: Sent, code: str, error: object, request_id: str | None) -> list[Receipt]:
    message = None
    if isinstance(error, Mapping):
        # `code` is HTTP's, the error's own says what is wrong.
        code = told(error, "code") or code
        message = told(error, "desc", MESSAGE_MAX)
    return sent.failed(code, message, request_id, refusal(code))


def _row(sent: Sent, element: object, request_id: str | None) -> Receipt | None:
    """Return the row of one number, None for what cannot be read: its number is then missing."""
    if not isinstance(element, Mapping):
        return None
    number = (told(element, "phoneNumber", PHONE_MAX) or "").strip()
    status = told(element, "status")
    if not number or status is None:
        return None
    phone = to_e164(number)
    serial = told(element, "serialNo", BIZ_ID_MAX)
    if serial is not None:  # only Aliyun gives it, so Aliyun has it, whatever the status says
        return sent.receipt(phone, serial)
    if status == _SUBMITTED:
        return sent.receipt(phone, sent.unanswered_id())
    meaning = refusal(status)
    return sent.receipt(
        phone,
        sent.failed_id(request_id),
        status=Status.FAILED if meaning is not None else Status.UNKNOWN,
        err_code=status,
        err_msg=meaning.meaning if meaning is not None else None,
        err_class=class_of(status, None, meaning),
    )


SEND_READERS: dict[str, SendReader] = {"polyv": send}
