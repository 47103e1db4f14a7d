"""Polyv's call: its sign, its limits, and receipts that come from Aliyun."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest

from receiptd.sandbox import Sandbox, Scenario
from receiptd.sandbox.signature import sign_polyv
from tests.sandbox.clients import http_call, polyv_call
from tests.sandbox.wire import Wire

PATH = "/live/v4/user/sms/send"
JSON = {"content-type": "application/json"}


def raw(
    sandbox: Sandbox, body: str, method: str = "POST", content_type: str = ""
) -> tuple[int, Any]:
    params = {
        "appId": "exampleapp",
        "timestamp": str(int(datetime.now(UTC).timestamp() * 1000)),
    }
    params["sign"] = sign_polyv("polyvSecret", params)
    headers = {"content-type": content_type} if content_type else JSON
    status, answer = http_call(sandbox, method, f"{PATH}?{urlencode(params)}", body, headers)
    return status, json.loads(answer)


def error_of(answer: tuple[int, Any]) -> tuple[int, int, str]:
    """Return status, code and text of an answer that has the published form of an error."""
    status, body = answer
    assert body.keys() == {"code", "status", "requestId", "error", "success"}
    assert (body["code"], body["status"], body["success"]) == (status, "error", False)
    return status, body["error"]["code"], body["error"]["desc"]


def test_each_number_has_a_receipt_id_of_its_own_and_aliyun_reports_it(
    sandbox: Sandbox, wire: Callable[[Sandbox], Wire]
) -> None:
    status, answer = polyv_call(sandbox, ["17680476163", 17680476164, "1768909"])

    received = wire(sandbox).receive(sandbox.queue("SmsReport")).all("MessageBody")
    reports = [json.loads(base64.b64decode(one)) for one in received]
    data = answer.pop("data")
    assert status == 200
    assert answer.pop("requestId")
    assert answer == {"code": 200, "status": "success", "success": True}
    assert [(one["phoneNumber"], one["status"]) for one in data] == [
        ("17680476163", 12),
        ("17680476164", 12),
        ("1768909", -2),
    ]
    assert [(one["phone_number"], one["biz_id"]) for one in reports] == [
        (one["phoneNumber"], one["serialNo"]) for one in data[:2]
    ]
    assert data[0]["serialNo"] != data[1]["serialNo"]
    assert data[2]["serialNo"] is None
    assert sandbox.truth() == [
        ("polyv", one["serialNo"], one["phoneNumber"], "", "delivered") for one in data[:2]
    ]


@pytest.mark.parametrize("phone", ["+8613900000001", "85290000001", "1390000000", "abc", ""])
def test_only_eleven_digits_are_a_number(sandbox: Sandbox, phone: str) -> None:
    assert polyv_call(sandbox, [phone])[1]["data"][0]["status"] == -2
    assert sandbox.sends == []


def test_what_aliyun_refuses_is_told_per_number() -> None:
    refusals = {"isv.BUSINESS_LIMIT_CONTROL": 1.0}
    with Sandbox(scenario=Scenario(send_refusals=refusals)) as sandbox:
        data = polyv_call(sandbox, ["13900000001"])[1]["data"]

    assert data == [{"serialNo": None, "phoneNumber": "13900000001", "status": 11}]


def test_a_number_gets_ten_messages_a_day(frozen: Sandbox) -> None:
    first = polyv_call(frozen, ["13900000001"] * 11)[1]["data"]
    other = polyv_call(frozen, ["13900000002"])[1]["data"]
    frozen.clock.advance(86400)
    tomorrow = polyv_call(frozen, ["13900000001"])[1]["data"]

    assert [one["status"] for one in first] == [12] * 10 + [-1]
    assert (other[0]["status"], tomorrow[0]["status"]) == (12, 12)
    assert first[10]["serialNo"] is None


def test_a_user_sends_so_many_messages_a_day() -> None:
    with Sandbox(scenario=Scenario(polyv_per_day=2)) as sandbox:
        both = polyv_call(sandbox, ["13900000001", "13900000002"])
        more = polyv_call(sandbox, ["13900000003"])

        assert both[0] == 200
        assert error_of(more)[0] == 400
        assert len(sandbox.sends) == 2


def stamp(seconds: float) -> str:
    return str(int((datetime.now(UTC).timestamp() + seconds) * 1000))


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"appId": "nobody"}, "application not found."),
        ({"appId": ""}, "application not found."),
        ({"timestamp": "1714979289"}, "invalid timestamp."),
        ({"timestamp": "1714979289000"}, "timestamp expired."),
        ({"sign": "0" * 32}, "invalid signature."),
    ],
)
def test_who_calls_is_checked(sandbox: Sandbox, query: dict[str, str], text: str) -> None:
    answer = polyv_call(sandbox, ["13900000001"], **query)

    assert error_of(answer)[2] == text
    assert sandbox.sends == []


@pytest.mark.parametrize(("seconds", "status"), [(-170, 200), (170, 200), (-190, 400), (190, 400)])
def test_a_timestamp_holds_for_three_minutes(sandbox: Sandbox, seconds: float, status: int) -> None:
    assert polyv_call(sandbox, ["13900000001"], timestamp=stamp(seconds))[0] == status


def test_the_sign_is_upper_case_and_of_the_right_secret(sandbox: Sandbox) -> None:
    at = stamp(0)
    right = sign_polyv("polyvSecret", {"appId": "exampleapp", "timestamp": at})

    lower = polyv_call(sandbox, ["13900000001"], timestamp=at, sign=right.lower())
    wrong = polyv_call(sandbox, ["13900000001"], secret="other")

    assert error_of(lower)[2] == error_of(wrong)[2] == "invalid signature."


def test_an_unknown_application_is_told_as_published(sandbox: Sandbox) -> None:
    answer = polyv_call(sandbox, ["13900000001"], appId="nobody")

    assert error_of(answer) == (400, 20001, "application not found.")


BODY: dict[str, Any] = {
    "phoneNumbers": ["13900000001"],
    "templateParamNames": ["code"],
    "templateParamValues": ["1"],
}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "phoneNumbers=13900000001",
        json.dumps(BODY | {"phoneNumbers": []}),
        json.dumps(BODY | {"phoneNumbers": "13900000001"}),
        json.dumps(BODY | {"phoneNumbers": [True]}),
        json.dumps(BODY | {"phoneNumbers": ["13900000001"] * 201}),
        json.dumps(BODY | {"templateParamValues": []}),
        json.dumps({"phoneNumbers": ["13900000001"]}),
    ],
)
def test_a_wrong_body_is_refused(sandbox: Sandbox, body: str) -> None:
    assert error_of(raw(sandbox, body))[0] == 400
    assert sandbox.sends == []


def test_the_body_must_be_declared_as_json(sandbox: Sandbox) -> None:
    assert error_of(raw(sandbox, json.dumps(BODY), content_type="text/plain"))[0] == 400
    assert raw(sandbox, json.dumps(BODY))[0] == 200


def test_only_post_sends(sandbox: Sandbox) -> None:
    assert error_of(raw(sandbox, "", method="GET"))[0] == 405


def test_two_hundred_numbers_are_allowed(sandbox: Sandbox) -> None:
    phones = [f"139{n:08d}" for n in range(200)]

    _, answer = polyv_call(sandbox, phones)

    assert len({one["serialNo"] for one in answer["data"]}) == 200


def test_the_applications_can_be_chosen() -> None:
    with Sandbox(polyv_apps={"mine": "secret"}) as sandbox:
        good = polyv_call(sandbox, ["13900000001"], secret="secret", appId="mine")

        assert good[0] == 200
        assert error_of(polyv_call(sandbox, ["13900000001"]))[1] == 20001
