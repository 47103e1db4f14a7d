"""Calling the four send APIs: what goes out, what comes back, and what the ledger makes of it."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.errors import SourceCancelled, SourceError, SourceRefused, SourceUnavailable
from receiptd.model import Origin, Receipt, Status
from receiptd.providers.aliyun import PROVIDER as ALIYUN
from receiptd.providers.aliyun.rpc import signature
from receiptd.providers.base import Context, Provider, SendApi, SendOrder
from receiptd.providers.http import HttpClient
from receiptd.providers.jushita import PROVIDER as JUSHITA
from receiptd.providers.jushita.top import sign as top_sign
from receiptd.providers.polyv import PROVIDER as POLYV
from receiptd.providers.polyv.send import PolyvSend
from receiptd.providers.polyv.send import sign as polyv_sign
from tests.canaries import (
    CANARY_CONTENT,
    CANARY_KEY_ID,
    CANARY_PHONE,
    CANARY_SECRET,
    assert_holds_no_canary,
)
from tests.providers.api_harness import CLOCK_AT, answering_with, clock, whole
from tests.providers.loopback import Loopback, Script, answering, response
from tests.providers.rpc_harness import hang_up, no_http, short_body

APIS: dict[str, Provider] = {
    "SendSms": ALIYUN,
    "SendBatchSms": ALIYUN,
    "jushita": JUSHITA,
    "polyv": POLYV,
}
RPC_OK = {"Code": "OK", "Message": "OK", "RequestId": "r-1", "BizId": "9^0"}
TOP_OK = {"jst_sms_message_direct_batchsend_response": {"module": "9^0", "request_id": "r1"}}
POLYV_OK = {
    "code": 200,
    "status": "success",
    "success": True,
    "requestId": "f2a4a564",
    "error": None,
    "data": [{"phoneNumber": CANARY_PHONE, "status": 12, "serialNo": "9^0"}],
}
GOOD = {"SendSms": RPC_OK, "SendBatchSms": RPC_OK, "jushita": TOP_OK, "polyv": POLYV_OK}
REFUSED: dict[str, dict[str, object]] = {
    "SendSms": {"Code": "isv.BUSINESS_LIMIT_CONTROL", "RequestId": "0A1B-2C3D"},
    "SendBatchSms": {"Code": "isv.BUSINESS_LIMIT_CONTROL", "RequestId": "0A1B-2C3D"},
    "jushita": {
        "error_response": {
            "code": 15,
            "sub_code": "isv.BUSINESS_LIMIT_CONTROL",
            "request_id": "0A1B-2C3D",
        }
    },
    "polyv": {
        "code": 200,
        "requestId": "0A1B-2C3D",
        "data": [{"phoneNumber": CANARY_PHONE, "status": -1, "serialNo": None}],
    },
}


def account(url: str) -> AccountSettings:
    return AccountSettings.model_validate(
        {
            "provider": "x",
            "access_key_id": CANARY_KEY_ID,
            "access_key_secret": CANARY_SECRET,
            "app_key": CANARY_KEY_ID,
            "app_secret": CANARY_SECRET,
            "app_id": CANARY_KEY_ID,
            "receipts_account": "main",
            "endpoints": dict.fromkeys(("dysms", "top", "polyv"), url),
        }
    )


@contextlib.contextmanager
def client_of(api: str, url: str, at: Clock) -> Iterator[SendApi]:
    client = APIS[api].open_send(api, account(url), at)
    assert client is not None
    try:
        yield client
    finally:
        client.close()


def order(api: str, **changes: Any) -> SendOrder:
    values: dict[str, Any] = {
        "phones": [f"+86{CANARY_PHONE}"],
        "sign_names": ["示例"],
        "template_code": "SMS_1",
        "params": [{"code": CANARY_CONTENT}],
        "out_id": "" if api == "polyv" else "order-42",
    }
    return SendOrder(**{**values, **changes})


def booked(
    api: str, request: Mapping[str, object], response: Mapping[str, object]
) -> list[Receipt]:
    provider = APIS[api]
    context = Context(provider.receipts_provider, "main", Origin.SEND)
    return provider.send_readers[api](request, response, context, CLOCK_AT)


@pytest.mark.parametrize("api", APIS)
def test_a_send_and_its_answer_are_what_the_reader_of_the_api_takes(api: str) -> None:
    with answering_with(GOOD[api]) as (url, seen), client_of(api, url, clock()) as client:
        request = client.request(order(api))
        before = booked(api, request, {})
        after = booked(api, request, client.send(request))

    assert len(seen.requests) == 1
    assert [(row.status, row.biz_id[:11]) for row in before] == [(Status.AWAITED, "unanswered:")]
    (row,) = after
    assert (row.status, row.biz_id, row.phone) == (Status.AWAITED, "9^0", f"+86{CANARY_PHONE}")
    assert row.send_api == api
    assert row.provider == ("jushita" if api == "jushita" else "aliyun")


@pytest.mark.parametrize("api", APIS)
def test_a_refusal_is_an_answer_too_and_books_a_failure(api: str) -> None:
    with answering_with(REFUSED[api]) as (url, _), client_of(api, url, clock()) as client:
        request = client.request(order(api))
        (row,) = booked(api, request, client.send(request))

    assert row.status is Status.FAILED
    assert row.biz_id == "failed:0A1B-2C3D"
    assert row.err_class == "limit"


UNCLEAR = [
    answering(response(b"<html>", status="502 Bad Gateway")),
    answering(response(b"<html>")),
    answering(response(b"{}")),
    answering(response(b"[]")),
    answering(whole(REFUSED["SendSms"], "503 Busy")),
    answering(whole({"error_response": {"code": 15}}, "500 Oops")),
    answering(whole({"code": 500}, "500 Oops")),
    answering(whole({**RPC_OK, **TOP_OK, **POLYV_OK}, "404 No")),
    short_body,
    hang_up,
    no_http,
]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("script", UNCLEAR)
def test_without_a_clear_answer_nobody_knows_whether_it_was_sent(
    api: str, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Loopback(script) as server, client_of(api, server.url, clock()) as client:
        request = client.request(order(api))
        with pytest.raises(SourceError) as caught:
            client.send(request)

    assert isinstance(caught.value, SourceUnavailable)
    assert_holds_no_canary(str(caught.value) + caplog.text + repr(client) + repr(vars(client)))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("api", APIS)
def test_a_cancelled_client_sends_nothing(api: str) -> None:
    with answering_with(GOOD[api]) as (url, seen), client_of(api, url, clock()) as client:
        request = client.request(order(api))
        client.cancel()
        with pytest.raises(SourceCancelled):
            client.send(request)

    assert seen.requests == []


def test_send_sms_says_what_the_seed_says() -> None:
    phones = [f"+86{CANARY_PHONE}", "+85291234567", "13900000002"]
    with answering_with(RPC_OK) as (url, seen), client_of("SendSms", url, clock()) as client:
        client.send(client.request(order("SendSms", phones=phones, extend_codes=["90999"])))

    (form,) = seen.forms
    assert form["Action"] == "SendSms"
    assert form["Version"] == "2017-05-25"
    assert form["PhoneNumbers"] == f"{CANARY_PHONE},0085291234567,13900000002"
    assert form["SignName"] == "示例"
    assert form["TemplateCode"] == "SMS_1"
    assert json.loads(form["TemplateParam"]) == {"code": CANARY_CONTENT}
    assert form["SmsUpExtendCode"] == "90999"
    assert form["OutId"] == "order-42"
    sent = form.pop("Signature")
    assert sent == signature("POST", form, CANARY_SECRET)


def test_send_batch_sms_says_what_the_seed_says() -> None:
    asked = order(
        "SendBatchSms",
        phones=["+8613900000001", "+8613900000002"],
        sign_names=["云通信", "示例"],
        params=[{"code": "1"}, {"code": "2"}],
    )
    with answering_with(RPC_OK) as (url, seen), client_of("SendBatchSms", url, clock()) as client:
        client.send(client.request(asked))

    (form,) = seen.forms
    assert form["Action"] == "SendBatchSms"
    assert form["PhoneNumberJson"] == '["13900000001","13900000002"]'
    assert form["SignNameJson"] == '["云通信","示例"]'
    assert form["TemplateParamJson"] == '[{"code":"1"},{"code":"2"}]'


def test_what_stands_for_all_numbers_is_said_for_each() -> None:
    asked = order("SendBatchSms", phones=["13900000001", "13900000002"], extend_codes=["7"])
    with client_of("SendBatchSms", "http://127.0.0.1:1", clock()) as client:
        request = client.request(asked)

    assert request["SignNameJson"] == '["示例","示例"]'
    assert request["SmsUpExtendCodeJson"] == '["7","7"]'
    assert len(json.loads(str(request["TemplateParamJson"]))) == 2


def test_jushitas_batchsend_says_what_the_documents_say() -> None:
    asked = order("jushita", phones=["13900000001", "13900000002"], extend_codes=["1", "2"])
    with answering_with(TOP_OK) as (url, seen), client_of("jushita", url, clock()) as client:
        client.send(client.request(asked))

    (form,) = seen.forms
    assert form["method"] == "taobao.jst.sms.message.direct.batchsend"
    assert form["rec_num"] == '["13900000001","13900000002"]'
    assert form["sign_name"] == "示例"
    assert form["sms_template_code"] == "SMS_1"
    assert len(json.loads(form["sms_content"])) == 2
    assert form["extend_num"] == '["1","2"]'
    assert form["extend"] == "order-42"
    assert form["sign"] == top_sign(form, CANARY_SECRET)


def test_the_vector_of_polyvs_sign_is_reproduced() -> None:
    query = {"appId": "exampleapp", "timestamp": "1714979289000"}

    assert polyv_sign(query, "testSecret") == "F4E5CD5725B2EA7DC1C349B05E4A4B4A"
    assert polyv_sign({**query, "blank": ""}, "testSecret") == polyv_sign(query, "testSecret")


def test_polyvs_call_is_json_signed_in_the_url_at_the_clocks_time() -> None:
    with answering_with(POLYV_OK) as (url, seen):
        client = PolyvSend("exampleapp", "testSecret", clock(), endpoint=url)
        client.send(client.request(order("polyv")))
        client.close()

    assert seen.head.startswith(
        "POST /live/v4/user/sms/send?appId=exampleapp&timestamp=1714979289000"
        "&sign=F4E5CD5725B2EA7DC1C349B05E4A4B4A HTTP/1.1\r\n"
    )
    assert "content-type: application/json\r\n" in seen.head.lower()
    assert json.loads(seen.body) == {
        "phoneNumbers": [CANARY_PHONE],
        "templateParamNames": ["code"],
        "templateParamValues": [CANARY_CONTENT],
    }


def test_polyvs_error_is_an_answer() -> None:
    error = {"code": 400, "status": "error", "error": {"code": 20001, "desc": "no"}}
    answer = whole(error, "400 Bad")
    with answering_with(answer) as (url, _), client_of("polyv", url, clock()) as client:
        request = client.request(order("polyv"))
        (row,) = booked("polyv", request, client.send(request))

    assert (row.status, row.err_code) == (Status.FAILED, "20001")


def test_a_gateway_that_refuses_the_key_has_sent_nothing() -> None:
    answer = whole({"Code": "SignatureDoesNotMatch", "RequestId": "0A1B-2C3D"}, "400 Bad")
    with answering_with(answer) as (url, _), client_of("SendSms", url, clock()) as client:
        request = client.request(order("SendSms"))
        (row,) = booked("SendSms", request, client.send(request))

    assert (row.status, row.err_class) == (Status.FAILED, "config")


def test_an_answer_that_repeats_the_key_is_none() -> None:
    answer = whole({"Code": f"Echo.{CANARY_KEY_ID}"}, "400 Bad")
    with answering_with(answer) as (url, _), client_of("SendSms", url, clock()) as client:
        request = client.request(order("SendSms"))
        with pytest.raises(SourceError) as caught:
            client.send(request)

    assert caught.value.code == "bad_answer"
    assert not isinstance(caught.value, SourceRefused)


@pytest.mark.parametrize("provider", [ALIYUN, JUSHITA, POLYV])
def test_an_api_that_a_provider_cannot_call_has_no_client(provider: Provider) -> None:
    settings = account("http://127.0.0.1:1")

    assert provider.open_send("SendMessageToGlobe", settings, clock()) is None
    assert provider.open_send("no such", settings, clock()) is None


def test_a_form_stays_a_form_and_json_is_json() -> None:
    with answering_with(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (url, seen):
        http = HttpClient(clock())
        http.post(url, b"a=1")
        assert "content-type: application/x-www-form-urlencoded\r\n" in seen.head.lower()
        http.post(url, b"{}", "application/json")
        assert "content-type: application/json\r\n" in seen.head.lower()
        http.close()


def test_what_is_shown_of_an_order_holds_no_number() -> None:
    assert_holds_no_canary(repr(order("SendSms")))
