"""Taobao's gateway: its signs and its strictness, sending through Jushita, and its queries."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from receiptd.sandbox import Sandbox, Scenario
from receiptd.sandbox.signature import sign_top
from tests.sandbox.clients import (
    BATCH_SEND,
    BEIJING,
    FORM,
    TA_QUERY,
    china_date,
    http_call,
    top_call,
    top_params,
    top_rows,
)
from tests.sandbox.wire import Wire

PHONE = "13900000001"
FC_QUERY = "alibaba.aliqin.fc.sms.num.query"
Wires = Callable[[Sandbox], Wire]

SEND = {
    "sign_name": "示例",
    "sms_template_code": "SMS_1",
    "rec_num": '["13900000001","13900000002"]',
    "sms_content": '[{"code":"1"},{"code":"2"}]',
    "extend_num": '["001","002"]',
    "task_sign": "task-1",
    "extra_data": '{"extend":"order-42"}',
}


def send(sandbox: Sandbox, **change: str) -> Any:
    return top_call(sandbox, top_params(BATCH_SEND, **(SEND | change)))


def sub_code(answer: Any) -> str:
    """Return the code of the service behind the platform."""
    error = answer["error_response"]
    assert (error["code"], error["msg"]) == (15, "Remote service error")
    assert {"sub_msg", "request_id"} < error.keys()
    return str(error["sub_code"])


def platform_code(answer: Any) -> int:
    return int(answer["error_response"]["code"])


def consumed(client: Wire, sandbox: Sandbox) -> list[Any]:
    texts = client.consume(sandbox.topic).all("MessageBody")
    return [json.loads(text.replace("&quot;", '"')) for text in texts]


@pytest.mark.parametrize("http_method", ["POST", "GET"])
@pytest.mark.parametrize("sign_method", ["md5", "hmac", "hmac-sha256"])
def test_a_batch_is_sent_and_reported_over_the_topic(
    sandbox: Sandbox, wire: Wires, sign_method: str, http_method: str
) -> None:
    params = top_params(BATCH_SEND, sign_method=sign_method, **SEND)

    answer = top_call(sandbox, params, http_method)["jst_sms_message_direct_batchsend_response"]

    reports = consumed(wire(sandbox), sandbox)
    assert answer.keys() == {"module", "request_id"}
    assert [(one["receiver"], one["state"], one["extend"]) for one in reports] == [
        ("13900000001", "1", "order-42"),
        ("13900000002", "1", "order-42"),
    ]
    assert {one["biz_id"] for one in reports} == {answer["module"]}
    assert sandbox.truth() == [
        ("jushita", answer["module"], "13900000001", "order-42", "delivered"),
        ("jushita", answer["module"], "13900000002", "order-42", "delivered"),
    ]


def test_the_echoed_text_may_be_a_parameter_of_its_own(sandbox: Sandbox) -> None:
    send(sandbox, extend="order-43", extra_data="")

    assert [sent.out_id for sent in sandbox.sends] == ["order-43", "order-43"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"rec_num": "13900000001,13900000002"}, "isv.INVALID_JSON_PARAM"),
        ({"rec_num": "13900000001"}, "isv.INVALID_JSON_PARAM"),
        ({"rec_num": "[]"}, "isv.INVALID_JSON_PARAM"),
        ({"rec_num": "[13900000001,13900000002]"}, "isv.INVALID_JSON_PARAM"),
        ({"rec_num": '["13900000001","x"]'}, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"rec_num": json.dumps([PHONE] * 201)}, "isv.MOBILE_COUNT_OVER_LIMIT"),
        ({"sms_content": '[{"code":"1"}]'}, "isv.INVALID_JSON_PARAM"),
        ({"sms_content": '["1","2"]'}, "isv.INVALID_JSON_PARAM"),
        ({"sms_content": '{"code":"1"}'}, "isv.INVALID_JSON_PARAM"),
        ({"extend_num": '["001"]'}, "isv.INVALID_JSON_PARAM"),
        ({"extend_num": "[1,2]"}, "isv.INVALID_JSON_PARAM"),
        ({"extra_data": "[]"}, "isv.INVALID_JSON_PARAM"),
        ({"sign_name": '["a","b"]'}, "isv.SMS_SIGNATURE_ILLEGAL"),
        ({"sms_template_code": '["SMS_1","SMS_1"]'}, "isv.SMS_TEMPLATE_ILLEGAL"),
        ({"oaids": '["o1"]'}, "isv.INVALID_PARAMETERS"),
    ],
)
def test_a_wrong_batch_is_refused(sandbox: Sandbox, change: dict[str, str], code: str) -> None:
    assert sub_code(send(sandbox, **change)) == code
    assert sandbox.sends == []


@pytest.mark.parametrize("name", ["sign_name", "sms_template_code", "rec_num"])
def test_a_batch_without_a_required_argument_is_refused(sandbox: Sandbox, name: str) -> None:
    error = send(sandbox, **{name: ""})["error_response"]

    assert (error["code"], error["msg"]) == (40, f"Missing required arguments:{name}")


def test_two_hundred_numbers_are_allowed(sandbox: Sandbox) -> None:
    phones = [f"139{n:08d}" for n in range(200)]

    send(sandbox, rec_num=json.dumps(phones), sms_content="", extend_num="")

    assert [sent.phone for sent in sandbox.sends] == phones


OAIDS = {
    "rec_num": "",
    "extend_num": "",
    "oaids": '["oaid-1","oaid-2"]',
    "order_ids": '["1","2"]',
    "sign_name": '["甲","乙"]',
}


@pytest.mark.parametrize("receivers", ["missing", "masked", "plain"])
def test_buyers_are_reached_by_oaid_and_their_numbers_are_not_told(
    wire: Wires, receivers: Any
) -> None:
    with Sandbox(scenario=Scenario(oaid_receivers=receivers)) as sandbox:
        send(sandbox, **OAIDS)

        reports = consumed(wire(sandbox), sandbox)
        phones = [sent.phone for sent in sandbox.sends]

    assert [one.sign_name for one in sandbox.dispatches] == ["甲", "乙"]
    assert [one.get("receiver") for one in reports] == {
        "missing": [None, None],
        "masked": [f"{phone[:3]}****{phone[-4:]}" for phone in phones],
        "plain": phones,
    }[receivers]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sign_name": "示例"}, "isv.INVALID_JSON_PARAM"),
        ({"order_ids": '["1"]'}, "isv.INVALID_JSON_PARAM"),
        ({"oaids": json.dumps(["o"] * 51)}, "isv.MOBILE_COUNT_OVER_LIMIT"),
    ],
)
def test_a_wrong_send_by_oaid_is_refused(
    sandbox: Sandbox, change: dict[str, str], code: str
) -> None:
    assert sub_code(send(sandbox, **(OAIDS | change))) == code


def test_orders_must_be_named_with_oaids(sandbox: Sandbox) -> None:
    assert platform_code(send(sandbox, **(OAIDS | {"order_ids": ""}))) == 40


def test_the_scenario_can_refuse_a_batch() -> None:
    refusals = {"isv.AMOUNT_NOT_ENOUGH": 1.0}
    with Sandbox(scenario=Scenario(send_refusals=refusals)) as sandbox:
        assert sub_code(send(sandbox)) == "isv.AMOUNT_NOT_ENOUGH"


# --- the platform ---------------------------------------------------------------------------------


def stamp(minutes: float) -> str:
    at = datetime.now(UTC).astimezone(BEIJING) + timedelta(minutes=minutes)
    return at.strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"app_key": "87654321"}, 29),
        ({"app_key": ""}, 28),
        ({"timestamp": ""}, 30),
        ({"timestamp": "1714979289"}, 31),
        ({"v": ""}, 32),
        ({"v": "1.0"}, 33),
        ({"sign_method": "sha1"}, 41),
        ({"sign_method": ""}, 40),
        ({"method": ""}, 21),
        ({"method": "taobao.time.get"}, 22),
    ],
)
def test_the_platform_refuses_with_a_code_of_its_own(
    sandbox: Sandbox, change: dict[str, str], code: int
) -> None:
    params = top_params(BATCH_SEND, **SEND) | change
    if change.get("sign_method") is None:
        params["sign"] = sign_top("topSecret", params, "md5")

    answer = top_call(sandbox, params)

    assert platform_code(answer) == code
    assert sandbox.sends == []


def test_a_wrong_sign_is_refused_and_a_missing_one(sandbox: Sandbox) -> None:
    wrong = top_call(sandbox, top_params(BATCH_SEND, secret="other", **SEND))
    changed = top_call(sandbox, top_params(BATCH_SEND, **SEND) | {"rec_num": '["13900000009"]'})
    missing = top_call(sandbox, top_params(BATCH_SEND, **SEND) | {"sign": ""})

    assert [platform_code(one) for one in (wrong, changed, missing)] == [25, 25, 24]


@pytest.mark.parametrize("minutes", [-11, 11, -8 * 60])  # the last one is UTC
def test_ten_minutes_off_are_too_much(sandbox: Sandbox, minutes: float) -> None:
    assert platform_code(send(sandbox, timestamp=stamp(minutes))) == 31


@pytest.mark.parametrize("minutes", [-9, 9])
def test_nine_minutes_off_are_not_too_much(sandbox: Sandbox, minutes: float) -> None:
    assert "error_response" not in send(sandbox, timestamp=stamp(minutes))


def test_the_time_is_the_walls_where_the_worlds_is_turned(frozen: Sandbox) -> None:
    frozen.clock.advance(3 * 86400)

    assert "error_response" not in send(frozen)


def test_only_get_and_post_are_spoken(sandbox: Sandbox) -> None:
    assert platform_code(top_call(sandbox, top_params(BATCH_SEND, **SEND), "PUT")) == 9


def test_answers_are_xml_if_json_is_not_asked_for(sandbox: Sandbox) -> None:
    sent = top_call(sandbox, top_params(BATCH_SEND, **(SEND | {"format": "xml"})))
    refused = top_call(sandbox, top_params(BATCH_SEND, secret="other", **SEND, format=""))
    neither = top_call(sandbox, top_params(BATCH_SEND, **SEND, format="yaml"))

    assert b"<jst_sms_message_direct_batchsend_response><module>" in sent
    assert b"<error_response><code>25</code>" in refused
    assert b"<code>23</code>" in neither


def test_the_keys_can_be_chosen() -> None:
    with Sandbox(top_keys={"1": "secret"}) as sandbox:
        good = top_call(sandbox, top_params(BATCH_SEND, secret="secret", app_key="1", **SEND))

        assert "error_response" not in good
        assert platform_code(send(sandbox)) == 29


# --- the queries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [TA_QUERY, FC_QUERY])
def test_a_number_is_found_with_all_its_fields(frozen: Sandbox, wire: Wires, method: str) -> None:
    module = send(frozen)["jst_sms_message_direct_batchsend_response"]["module"]
    report = consumed(wire(frozen), frozen)[0]
    own = {"rec_num": PHONE, "query_date": china_date(frozen), "biz_id": module}
    own |= {"current_page": "1", "page_size": "50"}

    answer = top_call(frozen, top_params(method, **own))

    ((name, result),) = answer.items()
    assert name == method.replace(".", "_") + "_response"
    assert {key: result[key] for key in result if key not in ("values", "request_id")} == {
        "current_page": 1,
        "page_size": 50,
        "total_count": 1,
        "total_page": 1,
    }
    assert result["values"]["fc_partner_sms_detail_dto"] == [
        {
            "extend": "order-42",
            "rec_num": PHONE,
            "result_code": "DELIVRD",
            "sms_code": "SMS_1",
            "sms_content": "【示例】SMS_1",
            "sms_send_time": report["send_time"],
            "sms_receiver_time": report["rept_time"],
            "sms_status": 3,
        }
    ]


def test_simplify_takes_the_wrappers_away(frozen: Sandbox) -> None:
    send(frozen)
    own = {"rec_num": PHONE, "query_date": china_date(frozen)}
    own |= {"current_page": "1", "page_size": "50", "simplify": "true"}

    answer = top_call(frozen, top_params(TA_QUERY, **own))

    assert [row["rec_num"] for row in answer["values"]] == [PHONE]
    assert answer["total_count"] == 1


def test_no_row_is_no_list(sandbox: Sandbox) -> None:
    own = {"rec_num": PHONE, "query_date": china_date(sandbox)}
    own |= {"current_page": "1", "page_size": "50"}

    (result,) = top_call(sandbox, top_params(TA_QUERY, **own)).values()

    assert "values" not in result
    assert (result["total_count"], result["total_page"]) == (0, 0)


def test_waiting_failed_and_lost_messages_are_told_apart() -> None:
    phones: Any = {PHONE: "unanswered", "13900000002": "failed", "13900000003": "lost"}
    with Sandbox(scenario=Scenario(phones=phones, lost_failed=0), virtual_time=True) as sandbox:
        sandbox.send_sms(list(phones), jushita=True)

        (waiting,), (failed,), (lost,) = (top_rows(sandbox, phone) for phone in phones)

        assert [row["sms_status"] for row in (waiting, failed, lost)] == [1, 2, 3]
        assert waiting.keys() & {"result_code", "sms_receiver_time", "extend"} == set()
        assert sandbox.depth(sandbox.topic) == 1


def test_rows_come_page_by_page(frozen: Sandbox) -> None:
    for number in range(5):
        frozen.send_sms([PHONE], out_id=str(number), jushita=True)

    pages = [top_rows(frozen, PHONE, page_size="2", current_page=page) for page in "1234"]

    assert [[row["extend"] for row in page] for page in pages] == [
        ["4", "3"],
        ["2", "1"],
        ["0"],
        [],
    ]


def test_aliyuns_messages_are_not_found_here(frozen: Sandbox) -> None:
    frozen.send_sms([PHONE])

    assert top_rows(frozen, PHONE) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"page_size": "51"}, "isv.INVALID_PARAMETERS"),
        ({"current_page": "0"}, "isv.INVALID_PARAMETERS"),
        ({"query_date": "2024-05-06"}, "isv.INVALID_PARAMETERS"),
        ({"query_date": "20170525"}, "isv.INVALID_PARAMETERS"),
        ({"rec_num": "13900000001,13900000002"}, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"page_size": "many"}, None),
    ],
)
def test_a_wrong_question_is_refused(
    sandbox: Sandbox, change: dict[str, str], code: str | None
) -> None:
    own = {"rec_num": PHONE, "query_date": china_date(sandbox)}
    own |= {"current_page": "1", "page_size": "50"}

    answer = top_call(sandbox, top_params(TA_QUERY, **(own | change)))

    if code is None:
        assert platform_code(answer) == 41
    else:
        assert sub_code(answer) == code


@pytest.mark.parametrize("name", ["rec_num", "query_date", "current_page", "page_size"])
def test_a_question_without_a_required_argument_is_refused(sandbox: Sandbox, name: str) -> None:
    own = {"rec_num": PHONE, "query_date": china_date(sandbox)}
    own |= {"current_page": "1", "page_size": "50", name: ""}

    assert platform_code(top_call(sandbox, top_params(TA_QUERY, **own))) == 40


def test_parameters_may_be_split_between_url_and_form(sandbox: Sandbox) -> None:
    params = top_params(BATCH_SEND, **SEND)
    own = {name: params.pop(name) for name in SEND}

    _, body = http_call(sandbox, "POST", "/router/rest?" + urlencode(params), urlencode(own), FORM)

    assert "jst_sms_message_direct_batchsend_response" in json.loads(body)
