"""decode and every normalizer are total: InvalidEnvelope, or records that a database can hold."""

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from receiptd.errors import InvalidEnvelope
from receiptd.model import Notice, Origin, Reason, Receipt, Record, Uplink
from receiptd.providers.aliyun import PROVIDER as ALIYUN
from receiptd.providers.base import Context
from receiptd.providers.decode import Part, decode
from receiptd.providers.jushita import PROVIDER as JUSHITA

steady = settings(max_examples=2000, deadline=None, derandomize=True, database=None)

KEYS = tuple(
    [
        "phone_number",
        "success",
        "biz_id",
        "out_id",
        "send_time",
        "report_time",
        "err_code",
        "err_msg",
        "sms_size",
        "To",
        "Status",
        "MessageId",
        "SmsSize",
        "SendDate",
        "ReceiveDate",
        "ErrorCode",
        "ErrorDescription",
        "to",
        "status",
        "message_id",
        "send_date",
        "receive_date",
        "error_code",
        "error_description",
        "dest_code",
        "sign_name",
        "sequence_id",
        "content",
        "sign_status",
        "template_code",
        "template_status",
        "reason",
        "create_date",
        "order_id",
        "orderId",
        "receiver",
        "state",
        "rept_time",
        "extend",
        "sender",
        "sender_time",
        "sms_seq",
        "topic",
    ]
)

# One normalizer for each key set that matters; the same function under two names counts once.
NORMALIZERS = [
    (Context(provider.name, "main", Origin.QUEUE), normalize)
    for provider in (ALIYUN, JUSHITA)
    for normalize in dict.fromkeys(provider.normalizers.values())
]

numbers = st.integers() | st.floats() | st.integers(10**18, 10**25)
texts = st.text(st.characters()) | st.sampled_from(
    [
        "1",
        "2",
        "true",
        "13900000001",
        "85291234567",
        "+1",
        "00000000000000",
        "2024-05-06 15:08:09",
        "0001-01-01 00:00:00",
        "Thu, 25 Nov 2021 10:27:00 +0800",
        "Thu, 25 Nov 0001 10:27:00 +9959",
        "a\0b",
        "\ud800",
        '{"biz_id":"1","state":"1","receiver":"1"}',
        "[" * 100,
        "1e999",
        "9" * 200,
    ]
)
leaves = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=4)
    ),
    max_leaves=6,
)
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=8)
# Whole shapes, so that most examples get past the question what they are.
shaped = st.one_of(
    st.fixed_dictionaries(dict.fromkeys(["biz_id", "success", "phone_number"], leaves)),
    st.fixed_dictionaries(dict.fromkeys(["MessageId", "Status", "To"], leaves)),
    st.fixed_dictionaries(dict.fromkeys(["message_id", "status", "to"], leaves)),
    st.fixed_dictionaries(dict.fromkeys(["phone_number", "sequence_id", "content"], leaves)),
    st.fixed_dictionaries(dict.fromkeys(["sign_name", "sign_status"], leaves)),
    st.fixed_dictionaries(dict.fromkeys(["template_code", "template_status"], leaves)),
    st.fixed_dictionaries(dict.fromkeys(["biz_id", "state", "receiver"], leaves)),
    st.fixed_dictionaries(dict.fromkeys(["sender", "sms_seq", "content"], leaves)),
)
messages = st.builds(lambda base, more: {**more, **base}, shaped, objects) | objects


def _hold(data: dict[str, object]) -> None:
    for context, normalize in NORMALIZERS:
        try:
            record = normalize(data, context)
        except InvalidEnvelope as error:
            refusal = error
        else:
            _can_be_stored(record)
            continue
        _is_clean(refusal)


def _hold_body(body: bytes) -> None:
    try:
        parts = decode(body)
    except InvalidEnvelope as error:
        refusal = error
    else:
        _are_parts(parts, body)
        return
    _is_clean(refusal)


def _are_parts(parts: list[Part], body: bytes) -> None:
    assert parts
    assert [part.index for part in parts] == list(range(len(parts)))
    for part in parts:
        assert part.body in body
        if isinstance(part.data, InvalidEnvelope):
            _is_clean(part.data)
        else:
            _hold(part.data)


def _is_clean(refusal: InvalidEnvelope) -> None:
    assert refusal.reason in set(Reason)
    assert refusal.__context__ is None


def _can_be_stored(record: Record) -> None:
    assert isinstance(record, Receipt | Uplink | Notice)
    for field in msgspec.structs.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, str):
            assert b"\0" not in value.encode()
    msgspec.json.encode(record)


@steady
@given(st.binary())
def test_any_bytes_are_records_or_refusals(body: bytes) -> None:
    _hold_body(body)


@steady
@given(messages)
def test_any_object_is_a_record_or_a_refusal(data: dict[str, object]) -> None:
    _hold(data)


@steady
@given(
    messages | st.lists(messages | values, max_size=3), st.integers(0, 400), st.binary(max_size=3)
)
def test_any_json_with_any_wound_is_records_or_refusals(
    message: object, at: int, wound: bytes
) -> None:
    body = json.dumps(message).encode()

    _hold_body(body)
    _hold_body(body[:at] + wound + body[at + len(wound) :])
