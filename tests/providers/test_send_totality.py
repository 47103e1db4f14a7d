"""Every send reader and every query reader is total: rows that a database can hold, or a typed
refusal."""

import copy
from datetime import UTC, datetime

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from receiptd.errors import InvalidEnvelope, SourceUnavailable
from receiptd.model import Origin, Reason, Receipt
from receiptd.providers.aliyun import PROVIDER as ALIYUN
from receiptd.providers.aliyun.query import read_page as read_details
from receiptd.providers.base import Asked, Context
from receiptd.providers.jushita import PROVIDER as JUSHITA
from receiptd.providers.jushita.query import read_page
from receiptd.providers.polyv import PROVIDER as POLYV

steady = settings(max_examples=600, deadline=None, derandomize=True, database=None)
AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
LIMITS = {"biz_id": 128, "phone": 64, "out_id": 256, "err_code": 64, "err_msg": 1024}
LIMITS |= {"sign_name": 128, "template_code": 64, "send_api": 32}

texts = st.text(st.characters(), max_size=20) | st.sampled_from(
    [
        *("OK", "isv.X", "13900000001", "13900000001,0085291234567", "a\0b", "\ud800", "[" * 100),
        *('["13900000001"]', "[1,null]", "[13900000001", "{}", "12", "-1", "2024-05-06 15:08:09"),
        *("x" * 2000, "200", "123456^0", "failed:x", "2", "3"),
    ]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
KEYS = st.sampled_from(
    [
        *("PhoneNumbers", "PhoneNumberJson", "SignNameJson", "SignName", "TemplateCode", "OutId"),
        *("To", "From", "TaskId", "Code", "Message", "RequestId", "BizId", "ResponseCode"),
        *("MessageId", "Segments", "rec_num", "sign_name", "sms_template_code", "extend"),
        *("extra_data", "error_response", "jst_sms_message_direct_batchsend_response", "module"),
        *("code", "sub_code", "msg", "sub_msg", "request_id", "phoneNumbers", "data", "error"),
        *("status", "serialNo", "phoneNumber", "requestId", "desc"),
        *("SmsSendDetailDTOs", "SmsSendDetailDTO", "PhoneNum", "SendStatus", "ErrCode"),
        *("SendDate", "ReceiveDate", "values", "fc_partner_sms_detail_dto", "sms_status"),
        *("result_code", "sms_send_time", "sms_receiver_time"),
    ]
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | texts, inner, max_size=4),
    max_leaves=8,
)
objects = st.dictionaries(KEYS, values, max_size=8)
rows = st.dictionaries(KEYS, leaves, max_size=8) | values
# Whole shapes, so that most examples get past the question what they are.
requests = st.builds(
    lambda base, more: {**base, **more},
    st.fixed_dictionaries(
        dict.fromkeys(["PhoneNumbers", "PhoneNumberJson", "To", "rec_num", "phoneNumbers"], texts)
    ),
    objects,
)
responses = st.one_of(
    objects,
    st.fixed_dictionaries({"Code": texts, "BizId": texts, "MessageId": texts, "RequestId": texts}),
    st.fixed_dictionaries({"error_response": objects | values}),
    st.fixed_dictionaries({"code": st.sampled_from([200, 400]), "data": st.lists(rows)}),
)
READERS = [
    (reader, Context(provider.receipts_provider, "main", Origin.SEND))
    for provider in (ALIYUN, JUSHITA, POLYV)
    for reader in provider.send_readers.values()
]


def can_be_stored(row: Receipt) -> None:
    assert isinstance(row, Receipt)
    for field, limit in LIMITS.items():
        value = getattr(row, field)
        if value is not None:
            assert 0 < len(value) <= limit, field
            assert b"\0" not in value.encode()
    msgspec.json.encode(row)


@steady
@given(requests | objects, responses)
def test_any_pair_is_rows_or_a_refusal(
    request: dict[str, object], response: dict[str, object]
) -> None:
    before = copy.deepcopy((request, response))

    for read, context in READERS:
        try:
            found = read(request, response, context, AT)
        except InvalidEnvelope as error:
            refusal = error
        else:
            assert found
            assert len({(row.biz_id, row.phone) for row in found}) == len(found)
            for row in found:
                can_be_stored(row)
            continue
        assert refusal.reason in set(Reason)
        assert refusal.__context__ is None

    assert repr((request, response)) == repr(before)


details = st.one_of(
    objects,
    st.fixed_dictionaries(
        {"SmsSendDetailDTOs": st.fixed_dictionaries({"SmsSendDetailDTO": st.lists(rows)})}
    ),
    st.fixed_dictionaries(
        {"values": st.fixed_dictionaries({"fc_partner_sms_detail_dto": st.lists(rows)})}
    ),
)


@steady
@given(details, st.none() | texts, st.booleans(), st.integers(1, 30))
def test_any_answer_is_a_page_or_a_bad_answer(
    data: dict[str, object], out_id: str | None, answered: bool, page_number: int
) -> None:
    biz_id = "123456^0" if answered else "unanswered:0"
    asked = Asked(biz_id=biz_id, phone="+8613900000001", submitted_at=AT, out_id=out_id)

    for provider, read in (("aliyun", read_details), ("jushita", read_page)):
        page = error = None
        try:
            page = read(data, asked, Context(provider, "main", Origin.QUERY), page_number)
        except SourceUnavailable as refusal:
            error = refusal
        if page is None:
            assert error is not None
            assert error.code == "bad_answer"
            continue
        for row in page.receipts:
            can_be_stored(row)
            assert (row.biz_id, row.phone) == (asked.biz_id, asked.phone)


def test_what_is_shown_of_a_question_holds_no_number() -> None:
    asked = Asked(biz_id="1^0", phone="+8613900000001", submitted_at=AT)

    assert "139" not in repr(asked)
