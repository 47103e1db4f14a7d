"""Aliyun's sends into rows of the ledger: wire-formats 9, seeds S0, S1, S3. Pure."""

import re
from collections.abc import Mapping
from datetime import datetime
from itertools import zip_longest

from receiptd.model import Receipt
from receiptd.providers.base import Context, Refusal, SendReader
from receiptd.providers.fields import (
    BIZ_ID_MAX,
    MESSAGE_MAX,
    OUT_ID_MAX,
    required,
    segments,
    text,
)
from receiptd.providers.refusals import find
from receiptd.providers.sends import (
    SIGN_MAX,
    Sent,
    array,
    numbers,
    request_id,
    told,
)


def refusal(code: str) -> Refusal | None:
    """Return what an error code of the send APIs or of the gateway means (seeds S0, S1;
    wire-formats 8.3), None if it is in neither table."""
    return find("receiptd.providers.aliyun", code)


def send_sms(
    request: Mapping[str, object],
    response: Mapping[str, object],
    context: Context,
    submitted_at: datetime,
) -> list[Receipt]:
    """Return the rows of a SendSms: one BizId for all of `PhoneNumbers` (comma separated, `00`
    before other countries' numbers)."""
    sign = told(request, "SignName", SIGN_MAX)
    sent = Sent(
        request=request,
        context=context,
        send_api="SendSms",
        submitted_at=submitted_at,
        signs=dict.fromkeys(numbers(request, "PhoneNumbers"), sign),
        out_id=text(request, "OutId", OUT_ID_MAX),
        template_code=told(request, "TemplateCode"),
    )
    return _rows(sent, response)


def send_batch_sms(
    request: Mapping[str, object],
    response: Mapping[str, object],
    context: Context,
    submitted_at: datetime,
) -> list[Receipt]:
    """Return the rows of a SendBatchSms: one BizId, JSON arrays of numbers and signatures.

    `OutId` is a parameter of newer releases of the API (the 4.6.0 SDK) and read if it is there.
    """
    phones = numbers(request, "PhoneNumberJson")
    signs: dict[str, str | None] = {}
    for phone, sign in zip_longest(phones, array(request, "SignNameJson")[: len(phones)]):
        # A number that stands twice is one row: the API has one BizId for both.
        signs.setdefault(phone, told({"sign": sign}, "sign", SIGN_MAX))
    sent = Sent(
        request=request,
        context=context,
        send_api="SendBatchSms",
        submitted_at=submitted_at,
        signs=signs,
        out_id=text(request, "OutId", OUT_ID_MAX),
        template_code=told(request, "TemplateCode"),
    )
    return _rows(sent, response)


def send_message_to_globe(
    request: Mapping[str, object],
    response: Mapping[str, object],
    context: Context,
    submitted_at: datetime,
) -> list[Receipt]:
    """Return the row of a SendMessageToGlobe, API version 2018-05-01: one number with its country
    code, `MessageId` as biz_id, `From` as signature, `TaskId` as out_id."""
    sign = told(request, "From", SIGN_MAX)
    sent = Sent(
        request=request,
        context=context,
        send_api="SendMessageToGlobe",
        submitted_at=submitted_at,
        signs=dict.fromkeys(numbers(request, "To", international=True), sign),
        out_id=text(request, "TaskId", OUT_ID_MAX),
    )
    # ResponseCode and ResponseDescription; errors of the gateway say Code and Message, as ever.
    of_gateway = "ResponseCode" not in response
    return _rows(
        sent,
        response,
        code="Code" if of_gateway else "ResponseCode",
        message="Message" if of_gateway else "ResponseDescription",
        biz_id="MessageId",
    )


def _rows(
    sent: Sent,
    response: Mapping[str, object],
    *,
    code: str = "Code",
    message: str = "Message",
    biz_id: str = "BizId",
) -> list[Receipt]:
    if not response:
        return sent.unanswered()
    found = required(response, code)
    if found == "OK":
        return sent.awaited(
            required(response, biz_id, BIZ_ID_MAX), segments=segments(response, "Segments")
        )
    return sent.failed(
        found,
        _without_what_was_signed(told(response, message, MESSAGE_MAX)),
        request_id(response, "RequestId"),
        refusal(found),
    )


def _without_what_was_signed(message: str | None) -> str | None:
    # A wrong signature is answered with the whole string to sign: keys, numbers and contents.
    if message is None:
        return None
    return re.split(r"[;,.:\s]*server string to sign", message, maxsplit=1, flags=re.IGNORECASE)[0]


SEND_READERS: dict[str, SendReader] = {
    "SendSms": send_sms,
    "SendBatchSms": send_batch_sms,
    "SendMessageToGlobe": send_message_to_globe,
}
