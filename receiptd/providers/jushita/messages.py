"""Jushita's messages into records: wire-formats 7.2 to 7.4. Pure.

No public source shows how RocketMQ wraps them, so one normalizer reads all: delivery results and
uplinks, bare or in a TMC envelope, and Aliyun's own shapes. The keys decide, never the topic.
"""

from collections.abc import Mapping

from receiptd.errors import InvalidEnvelope
from receiptd.model import Reason, Receipt, Record, Status, Uplink
from receiptd.providers.aliyun.messages import reading, sms_report
from receiptd.providers.base import Context, Normalizer
from receiptd.providers.codes import classify
from receiptd.providers.decode import decode
from receiptd.providers.fields import (
    BIZ_ID_MAX,
    NAME_MAX,
    OUT_ID_MAX,
    TEXT_MAX,
    china_time,
    phone,
    required,
    sequence,
    text,
)

# T1, docId 808 and 738. Any other value is stored as unknown.
_STATES = {"1": Status.DELIVERED, "2": Status.FAILED}


def read(data: Mapping[str, object], context: Context) -> Record:
    """Return the record in a message of any Jushita topic.

    Raises InvalidEnvelope: MISSING_FIELD, BAD_FIELD, UNKNOWN_SHAPE.
    """
    if not _RECEIPT_KEYS.isdisjoint(data):
        return _receipt(data, context)
    # Before the envelope: an uplink's `content` is what a stranger typed, and a stranger who types
    # a receipt must not be able to forge one.
    if not _UPLINK_KEYS.isdisjoint(data):
        return _uplink(data, context)
    inner = _unwrapped(data)
    if inner is None:
        raise InvalidEnvelope(Reason.UNKNOWN_SHAPE)
    return _receipt(inner, context) if "biz_id" in inner else _uplink(inner, context)


_RECEIPT_KEYS = frozenset({"biz_id", "state", "rept_time", "success"})
_UPLINK_KEYS = frozenset({"sms_seq", "sender", "dest_code", "sequence_id"})
_aliyun = reading(sms_report)


def _receipt(data: Mapping[str, object], context: Context) -> Record:
    aliyun_shaped = "success" in data and "state" not in data
    return _aliyun(data, context) if aliyun_shaped else delivery(data, context)


def _uplink(data: Mapping[str, object], context: Context) -> Record:
    aliyun_shaped = "sequence_id" in data and "sms_seq" not in data
    return _aliyun(data, context) if aliyun_shaped else uplink(data, context)


def delivery(data: Mapping[str, object], context: Context) -> Receipt:
    """Return the receipt in a TaFcSmsDR or FcSmsDR: seven fields (T1).

    `state` decides, not `err_code`. A masked receiver (OAID sends) stays as received.
    """
    status = _STATES.get(required(data, "state"), Status.UNKNOWN)
    err_code = text(data, "err_code")
    return Receipt(
        provider=context.provider,
        account=context.account,
        origin=context.origin,
        biz_id=required(data, "biz_id", BIZ_ID_MAX),
        phone=phone(data, "receiver"),
        status=status,
        out_id=text(data, "extend", OUT_ID_MAX),
        err_code=err_code,
        err_class=classify(err_code, delivered=status is Status.DELIVERED),
        sent_at=china_time(data, "send_time"),
        reported_at=china_time(data, "rept_time"),
    )


def uplink(data: Mapping[str, object], context: Context) -> Uplink:
    """Return the reply in an FcSmsUp (T1, docId 820)."""
    return Uplink(
        provider=context.provider,
        account=context.account,
        phone=phone(data, "sender"),
        content=text(data, "content", TEXT_MAX),
        dest_code=text(data, "dest_code"),
        sign_name=text(data, "sign_name", NAME_MAX),
        sequence_id=sequence(data, "sms_seq"),
        sent_at=china_time(data, "sender_time"),
    )


def _unwrapped(data: Mapping[str, object]) -> Mapping[str, object] | None:
    """Return the message in a TMC envelope's `content`, an object or its JSON text; else None."""
    content = data.get("content")
    if isinstance(content, str):
        content = _parsed(content)
    if isinstance(content, Mapping) and ("biz_id" in content or "sms_seq" in content):
        return content
    return None


def _parsed(content: str) -> object:
    try:
        parts = decode(content.encode())
    except (InvalidEnvelope, UnicodeEncodeError):
        return None
    return parts[0].data if len(parts) == 1 else None


# One function: the names only let a configuration say what its topic carries.
NORMALIZERS: dict[str, Normalizer] = {
    "sms": read,
    "TaFcSmsDR": read,
    "FcSmsDR": read,
    "FcSmsUp": read,
}
