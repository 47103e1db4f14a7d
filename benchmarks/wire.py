"""Receipts as MNS sends them: pre-rendered, so that the broker has nothing to do but to hand them
out."""

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta, timezone

NAMESPACE = "http://mns.aliyuncs.com/doc/v1/"
_PROLOG = b'<?xml version="1.0" encoding="UTF-8"?>\n'
# Longer than any run: what was handed out once does not come again, so that a run measures the way
# of a receipt and not the queue's patience. MNS takes up to 12 hours.
_HIDDEN = timedelta(hours=2)
_CHINA = timezone(timedelta(hours=8))  # receipts' times carry no zone (wire formats, section 1.3)
ON_THE_WAY = timedelta(seconds=5)  # from the carrier's taking an SMS to its receipt
_FIRST_BIZ_ID = 900_000_000_000_000_000

# The number of a message is the end of its handle: 20 digits of no other meaning.
_NUMBER = re.compile(rb"-(\d{12})==")

EMPTY = (
    _PROLOG
    + f'<Error xmlns="{NAMESPACE}"><Code>MessageNotExist</Code>'
    "<Message>Message not exist.</Message><RequestId>5F290C926D472878</RequestId>"
    "<HostId>http://127.0.0.1</HostId></Error>".encode()
)


def biz_id(number: int) -> str:
    """Return the id of the `number`th send: ids rise with time, as the provider's do."""
    return f"{_FIRST_BIZ_ID + number * 137}^0"


def phone(number: int) -> str:
    """Return the phone of the `number`th send: spread as phones are, so that nothing but the key's
    order helps."""
    return f"139{number * 7_654_321 % 100_000_000:08d}"


def body(number: int, at: datetime) -> bytes:
    """Return the SmsReport of a send (wire formats, section 1.1), reported `at` an aware time."""
    china = at.astimezone(_CHINA)
    return (
        f'{{"send_time":"{china - ON_THE_WAY:%F %T}","report_time":"{china:%F %T}",'
        '"success":true,"err_msg":"用户接收成功","err_code":"DELIVERED",'
        f'"phone_number":"{phone(number)}","sms_size":"1","biz_id":"{biz_id(number)}",'
        f'"out_id":"order-{number}"}}'
    ).encode()


def message(number: int, enqueued_at_s: float, content: bytes | None = None) -> bytes:
    """Return the `<Message>` of a receipt that came into the queue at this epoch time. `content` is
    the text of another body."""
    at = datetime.fromtimestamp(enqueued_at_s, UTC)
    text = base64.b64encode(body(number, at)) if content is None else content
    digest = hashlib.md5(text, usedforsecurity=False).hexdigest().upper().encode()
    enqueued_ms = int(enqueued_at_s * 1000)
    visible_ms = enqueued_ms + _HIDDEN // timedelta(milliseconds=1)
    return (
        b"<Message><MessageId>5F290C926D472878-2-14D9529A8FA-%012d</MessageId>"
        b"<ReceiptHandle>1-ODU4OTkzNDU5My0xNDMyNzI3ODI3LTItOA-%012d==</ReceiptHandle>"
        b"<MessageBodyMD5>%s</MessageBodyMD5><MessageBody>%s</MessageBody>"
        b"<EnqueueTime>%d</EnqueueTime><NextVisibleTime>%d</NextVisibleTime>"
        b"<FirstDequeueTime>%d</FirstDequeueTime><DequeueCount>1</DequeueCount>"
        b"<Priority>8</Priority></Message>"
    ) % (number, number, digest, text, enqueued_ms, visible_ms, enqueued_ms)


# What a consumer meets sooner or later: no base64, no UTF-8, no JSON, no object, no known message.
_BAD = (
    b"not base64 at all",
    base64.b64encode(b"\xff\xfe\xfd"),
    base64.b64encode(b'{"biz_id":'),
    base64.b64encode(b"42"),
    base64.b64encode(b'{"hello":"world"}'),
    base64.b64encode(b'{"biz_id":"1^0","success":"perhaps"}'),
)


def bad(number: int) -> bytes:
    """Return the `number`th body that cannot be understood."""
    return _BAD[number % len(_BAD)]


def batch(messages: list[bytes]) -> bytes:
    """Return the answer to a batch receive."""
    opening = f'<Messages xmlns="{NAMESPACE}">'.encode()
    return b"".join((_PROLOG, opening, *messages, b"</Messages>"))


def single(message: bytes) -> bytes:
    """Return the answer to a receive without a number: the message is the root."""
    root = f'<Message xmlns="{NAMESPACE}">'.encode()
    return _PROLOG + message.replace(b"<Message>", root, 1)


def handed_back(request: bytes) -> list[int]:
    """Return the numbers of the messages whose handles a delete names, in its body or its query."""
    return [int(number) for number in _NUMBER.findall(request)]
