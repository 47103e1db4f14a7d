"""Aliyun's messages into records: wire-formats 1 and 2. Pure.

The keys of a message decide what it is, its configured type is a hint: the international site has
another shape under the name SmsReport (D10), and a queue may be configured with a wrong type.
"""

from collections.abc import Mapping, Set

from receiptd.errors import InvalidEnvelope
from receiptd.model import ErrClass, Kind, Notice, Reason, Receipt, Record, Status, Uplink
from receiptd.providers.base import Context, Normalizer
from receiptd.providers.codes import classify
from receiptd.providers.fields import (
    BIZ_ID_MAX,
    NAME_MAX,
    OUT_ID_MAX,
    TEXT_MAX,
    boolean,
    china_time,
    message,
    phone,
    required,
    segments,
    sequence,
    text,
)


def sms_report(data: Mapping[str, object], context: Context) -> Receipt:
    """Return the receipt in an SmsReport or a DypnsSmsVerifyReport: nine fields (D1, D8)."""
    delivered = boolean(data, "success")
    err_code = text(data, "err_code")
    err_msg = message(data, "err_msg")
    return Receipt(
        provider=context.provider,
        account=context.account,
        origin=context.origin,
        biz_id=required(data, "biz_id", BIZ_ID_MAX),  # verbatim: samples lack the ^ (1.2)
        phone=phone(data, "phone_number"),
        status=Status.DELIVERED if delivered else Status.FAILED,
        out_id=text(data, "out_id", OUT_ID_MAX),
        err_code=err_code,
        err_msg=err_msg,
        err_class=classify(err_code, delivered=delivered, err_msg=err_msg),
        segments=segments(data, "sms_size"),
        sent_at=china_time(data, "send_time"),
        reported_at=china_time(data, "report_time"),
    )


# Of both international shapes: D9, D10. Any other value is stored as unknown.
_STATUSES = {
    "1": Status.DELIVERED,
    "2": Status.FAILED,
    "6": Status.FAILED,  # expired; the international site only
}


def international_report(data: Mapping[str, object], context: Context) -> Receipt:
    """Return the receipt in an SmsReport of the international site (D10); its key is MessageId."""
    return _by_message_id(
        data,
        context,
        key="MessageId",
        to="To",
        status="Status",
        size="SmsSize",
        sent="SendDate",
        reported="ReceiveDate",
        code="ErrorCode",
        description="ErrorDescription",
    )


def globe_report(data: Mapping[str, object], context: Context) -> Receipt:
    """Return the receipt in a GlobeSmsReport (D9); its key is message_id, stored as biz_id."""
    return _by_message_id(
        data,
        context,
        key="message_id",
        to="to",
        status="status",
        size="sms_size",  # in no table of this shape; read if it comes
        sent="send_date",
        reported="receive_date",
        code="error_code",
        description="error_description",
    )


def _by_message_id(
    data: Mapping[str, object],
    context: Context,
    *,
    key: str,
    to: str,
    status: str,
    size: str,
    sent: str,
    reported: str,
    code: str,
    description: str,
) -> Receipt:
    raw_status = required(data, status)
    found = _STATUSES.get(raw_status, Status.UNKNOWN)
    err_code = text(data, code)
    err_msg = message(data, description)
    err_class = classify(err_code, delivered=found is Status.DELIVERED, err_msg=err_msg)
    return Receipt(
        provider=context.provider,
        account=context.account,
        origin=context.origin,
        biz_id=required(data, key, BIZ_ID_MAX),
        phone=phone(data, to, international=True),
        status=found,
        err_code=err_code,
        err_msg=err_msg,
        err_class=ErrClass.EXPIRED if raw_status == "6" else err_class,
        segments=segments(data, size),
        sent_at=china_time(data, sent),
        reported_at=china_time(data, reported),
    )


def sms_up(data: Mapping[str, object], context: Context) -> Uplink:
    """Return the reply in an SmsUp (D2). `sign_name` may hold its brackets 【】, as received."""
    return Uplink(
        provider=context.provider,
        account=context.account,
        phone=phone(data, "phone_number"),
        content=text(data, "content", TEXT_MAX),
        dest_code=text(data, "dest_code"),
        sign_name=text(data, "sign_name", NAME_MAX),
        sequence_id=sequence(data, "sequence_id"),
        sent_at=china_time(data, "send_time"),
    )


def sign_report(data: Mapping[str, object], context: Context) -> Notice:
    """Return the notice in a SignSmsReport (D14)."""
    name = required(data, "sign_name", NAME_MAX)
    return _notice(data, context, "sign", name, required(data, "sign_status"))


def template_report(data: Mapping[str, object], context: Context) -> Notice:
    """Return the notice in a TemplateSmsReport (D15), named by its template_code."""
    name = required(data, "template_code", NAME_MAX)
    return _notice(data, context, "template", name, required(data, "template_status"))


def _notice(
    data: Mapping[str, object], context: Context, subject: str, name: str, status: str
) -> Notice:
    # HTTP pages spell it orderId, MNS pages order_id: wire-formats 2.2.
    order_id = text(data, "order_id", BIZ_ID_MAX) or text(data, "orderId", BIZ_ID_MAX)
    return Notice(
        provider=context.provider,
        account=context.account,
        subject=subject,
        name=name,
        status=status,
        reason=text(data, "reason", TEXT_MAX),
        order_id=order_id,
        created_at=china_time(data, "create_date"),
    )


# Reader -> the keys that together mark its shape, and all keys that no other shape has.
_SHAPES: dict[Normalizer, tuple[frozenset[str], frozenset[str]]] = {
    sms_report: (
        frozenset({"biz_id", "success"}),
        frozenset({"biz_id", "success", "report_time", "err_code", "sms_size"}),
    ),
    international_report: (
        frozenset({"MessageId", "Status"}),
        frozenset({"MessageId", "Status", "To", "ReceiveDate"}),
    ),
    globe_report: (
        frozenset({"message_id", "status", "to"}),
        frozenset({"message_id", "status", "to", "receive_date"}),
    ),
    sms_up: (
        frozenset({"phone_number", "sequence_id"}),
        frozenset({"sequence_id", "dest_code", "content"}),
    ),
    sign_report: (
        frozenset({"sign_name", "sign_status"}),
        frozenset({"sign_status", "sign_source", "sign_scene"}),
    ),
    template_report: (
        frozenset({"template_code", "template_status"}),
        frozenset({"template_status", "template_content", "template_type"}),
    ),
}


def reading(expected: Normalizer) -> Normalizer:
    """Return a normalizer that reads any of Aliyun's shapes, `expected` before all others.

    A message that bears the marks of exactly one shape is of that shape. One that bears none in
    full is read as `expected` if it has any key of it, else as the one shape that it has keys of,
    so that the refusal names the missing field; what is left is UNKNOWN_SHAPE.
    """
    marks = _SHAPES[expected][0]

    def read(data: Mapping[str, object], context: Context) -> Record:
        keys = data.keys()
        if marks <= keys:
            return expected(data, context)
        return _shape(keys, expected)(data, context)

    return read


def _shape(keys: Set[str], expected: Normalizer) -> Normalizer:
    marked = [shape for shape, (marks, _) in _SHAPES.items() if marks <= keys]
    if len(marked) == 1:
        return marked[0]
    if not marked:
        if not _SHAPES[expected][1].isdisjoint(keys):
            return expected
        alike = [shape for shape, (_, own) in _SHAPES.items() if not own.isdisjoint(keys)]
        if len(alike) == 1:
            return alike[0]
    raise InvalidEnvelope(Reason.UNKNOWN_SHAPE)


# MnsCardVender, VoiceReport and the like (wire-formats 2.2) are of other products.
NORMALIZERS: dict[str, Normalizer] = {
    "SmsReport": reading(sms_report),
    "DypnsSmsVerifyReport": reading(sms_report),
    "GlobeSmsReport": reading(globe_report),
    "SmsUp": reading(sms_up),
    "SignSmsReport": reading(sign_report),
    "TemplateSmsReport": reading(template_report),
}

KINDS: dict[str, Kind] = {
    "SmsReport": Kind.RECEIPT,
    "DypnsSmsVerifyReport": Kind.RECEIPT,
    "GlobeSmsReport": Kind.RECEIPT,
    "SmsUp": Kind.UPLINK,
    "SignSmsReport": Kind.NOTICE,
    "TemplateSmsReport": Kind.NOTICE,
}
