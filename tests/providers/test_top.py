"""The TOP client: its signs, what it sends, what it makes of answers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import pytest

from receiptd.clock import ManualClock, SystemClock
from receiptd.config import AccountSettings
from receiptd.errors import SourceCancelled, SourceError, SourceRefused, SourceUnavailable
from receiptd.model import Status
from receiptd.providers.http import HttpClient
from receiptd.providers.jushita import PROVIDER
from receiptd.providers.jushita.query import METHOD, PAGES_MAX, JushitaQuery
from receiptd.providers.jushita.top import TopClient, sign, wrapper
from tests.providers.api_harness import ASKED, CLOCK_AT, answering_with, clock, whole
from tests.providers.loopback import Loopback, Script, answering, response
from tests.providers.rpc_harness import drip_body, hang, hang_up, no_http, short_body

KEY, SECRET = "canaryAppKey", "canaryAppSecret"
CANARIES = (KEY, SECRET, "13912345678", "sign=")
PARAMETERS = {"rec_num": "13912345678", "query_date": "20240506"}
DAY = date(2024, 5, 6)
VECTOR = {
    "app_key": "12345678",
    "method": METHOD,
    "format": "json",
    "v": "2.0",
    "timestamp": "2024-05-06 15:08:09",
    "rec_num": "13900000001",
    "query_date": "20240506",
    "current_page": "1",
    "page_size": "50",
}
ROW = {
    "extend": "order-42",
    "rec_num": "13912345678",
    "result_code": "DELIVRD",
    "sms_code": "SMS_1",
    "sms_send_time": "2024-05-06 15:08:09",
    "sms_receiver_time": "2024-05-06 15:08:14",
    "sms_status": 3,
}


def good(*rows: object) -> dict[str, object]:
    return {wrapper(METHOD): {"values": {"fc_partner_sms_detail_dto": rows}, "total_count": 7}}


@contextmanager
def client_of(url: str, **options: Any) -> Iterator[TopClient]:
    at = options.pop("clock", SystemClock())
    http = HttpClient(at, timeout_s=options.pop("timeout_s", 10))
    client = TopClient(KEY, SECRET, at, endpoint=url, http=http, **options)
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("md5", "9B418136D707FE48CE892683933CE092"),
        ("hmac", "70F74E163BA0ECBE25B2BA27C38E4C50"),
    ],
)
def test_the_vectors_of_the_wire_formats_are_reproduced(method: str, expected: str) -> None:
    signed = {**VECTOR, "sign_method": method}

    assert sign(signed, "testSecret", method) == expected
    assert sign({**signed, "sign": "old"}, "testSecret", method) == expected


@pytest.mark.parametrize("method", ["md5", "hmac"])
def test_parameters_travel_in_the_body_signed_at_the_clocks_time_in_shanghai(method: str) -> None:
    with (
        answering_with(good()) as (url, seen),
        client_of(url, clock=clock(), sign_method=method) as client,
    ):
        client.call(METHOD, {**PARAMETERS, "sms_content": '[{"a":"中 +&="}]'})

    assert seen.head.startswith("POST /router/rest HTTP/1.1\r\n")
    (form,) = seen.forms
    assert form["sms_content"] == '[{"a":"中 +&="}]'
    assert form["timestamp"] == "2024-05-06 15:08:09"
    assert (form["v"], form["format"], form["sign_method"]) == ("2.0", "json", method)
    assert form["sign"] == sign(form, SECRET, method)


def test_an_endpoint_with_a_path_keeps_it() -> None:
    with answering_with(good()) as (url, seen), client_of(f"{url}/top/router") as client:
        client.call(METHOD, PARAMETERS)

    assert seen.head.startswith("POST /top/router HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("method", "key"),
    [
        (METHOD, "alibaba_aliqin_ta_sms_num_query_response"),
        (
            "taobao.jst.sms.message.direct.batchsend",
            "jst_sms_message_direct_batchsend_response",
        ),
    ],
)
def test_the_answers_key_is_made_of_the_method(method: str, key: str) -> None:
    assert wrapper(method) == key


def refused(code: object, sub_code: str = "") -> dict[str, object]:
    error = {"code": code, "msg": "13912345678", "sub_msg": SECRET, "request_id": "r1abcdef"}
    return {"error_response": {**error, "sub_code": sub_code} if sub_code else error}


@pytest.mark.parametrize(
    ("code", "sub_code", "shown", "kind"),
    [
        (15, "isv.BUSINESS_LIMIT_CONTROL", "isv.BUSINESS_LIMIT_CONTROL", SourceUnavailable),
        (15, "isp.remote-service-timeout", "isp.remote-service-timeout", SourceUnavailable),
        (15, "isv.INVALID_PARAMETERS", "isv.INVALID_PARAMETERS", SourceRefused),
        (15, "", "15", SourceUnavailable),
        (7, "accesscontrol.limited-by-api-access-count", None, SourceUnavailable),
        (7, "", "7", SourceUnavailable),
        (10, "", "10", SourceUnavailable),
        (25, "", "25", SourceRefused),
        (29, "isv.appkey-not-exists", "isv.appkey-not-exists", SourceRefused),
        (11, "isv.permission-api-package-limit", None, SourceRefused),
        ("25", "", "25", SourceRefused),
    ],
)
def test_a_code_says_whether_waiting_helps(
    code: object, sub_code: str, shown: str | None, kind: type[SourceError]
) -> None:
    error = failure(answering(whole(refused(code, sub_code))))

    assert type(error) is kind
    assert error.code == (shown or sub_code)
    assert error.request_id == "r1abcdef"


def test_an_error_goes_before_a_response() -> None:
    error = failure(answering(whole({**good(ROW), **refused(25)})))

    assert error.code == "25"


def test_a_skewed_clock_is_named_with_its_size() -> None:
    date_header = b"Date: Mon, 06 May 2024 07:18:09 GMT\r\n"
    body = b'{"error_response":{"code":31,"msg":"Invalid Timestamp"}}'

    error = failure(answering(response(body, headers=date_header)), clock=clock())

    assert "600 s behind" in error.cure


@pytest.mark.parametrize(
    "body",
    [
        b"<html>13912345678</html>",
        b'{"alibaba_aliqin_ta_sms_num_query_resp',
        b"",
        b"[]",
        b"{}",
        b'{"alibaba_aliqin_ta_sms_num_query_response":[]}',
        b'{"another_response":{}}',
        b'{"error_response":[]}',
        b'{"error_response":{}}',
        b'{"error_response":{"code":"two words"}}',
    ],
)
def test_what_top_never_says_is_a_bad_answer(body: bytes) -> None:
    error = failure(answering(response(body)))

    assert isinstance(error, SourceUnavailable)
    assert error.code == "bad_answer"


@pytest.mark.parametrize("status", ["301 Moved", "404 No", "500 Oops"])
def test_a_good_body_with_another_status_is_a_bad_answer(status: str) -> None:
    assert failure(answering(whole(good(ROW), status))).code == "bad_answer"


def echo(peer: Any) -> None:
    """Answer with what was sent."""
    request = peer.request()
    sent = request.partition(b"\r\n\r\n")[2].decode()
    sub_code = "isv." + dict(pair.split("=") for pair in sent.split("&"))["rec_num"]
    peer.send(whole(refused(15, sub_code)))


@pytest.mark.parametrize(
    "script",
    [echo, hang, short_body, hang_up, no_http, drip_body, answering(whole(refused(25, SECRET)))],
    ids=["echo", "hang", "short", "hang up", "no http", "drip", "code"],
)
def test_no_error_and_no_log_line_holds_a_key_or_a_number(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    error = failure(script, timeout_s=0.4)

    assert error.__cause__ is None
    assert error.__context__ is None
    for canary in CANARIES:
        assert canary not in str(error)
        assert canary not in caplog.text


def test_what_is_shown_of_the_client_holds_no_secret() -> None:
    with client_of("http://127.0.0.1:1") as client:
        for canary in (KEY, SECRET):
            assert canary not in repr(client) + repr(vars(client))


def failure(script: Script, **options: Any) -> SourceError:
    with Loopback(script) as server, client_of(server.url, **options) as client:
        with pytest.raises(SourceError) as caught:
            client.call(METHOD, PARAMETERS)
        return caught.value


def test_a_number_and_its_day_are_asked_for_page_by_page() -> None:
    with answering_with(good(*[ROW] * 50), good(ROW)) as (url, seen), client_of(url) as client:
        query = JushitaQuery(client, "shop")
        first, second = (query.page(ASKED, DAY, number) for number in (1, 2))

    assert seen.forms[0]["method"] == METHOD
    assert seen.forms[0]["rec_num"] == "13912345678"
    assert seen.forms[0]["query_date"] == "20240506"
    assert seen.forms[0]["page_size"] == "50"
    assert seen.forms[0]["biz_id"] == ASKED.biz_id
    assert [form["current_page"] for form in seen.forms] == ["1", "2"]
    assert not first.is_last
    assert first.undecided == 50
    assert second.is_last
    (receipt,) = second.receipts
    assert receipt.status is Status.DELIVERED
    assert (receipt.provider, receipt.account, receipt.biz_id) == ("jushita", "shop", ASKED.biz_id)


def test_a_service_without_end_is_left_after_twenty_pages() -> None:
    with answering_with(good(*[ROW] * 50)) as (url, _), client_of(url) as client:
        assert JushitaQuery(client, "shop").page(ASKED, DAY, PAGES_MAX).is_last


def test_top_has_no_counts() -> None:
    with client_of("http://127.0.0.1:1") as client:
        assert JushitaQuery(client, "shop").statistics(DAY) is None


def test_the_provider_opens_a_client_only_for_an_account_with_an_app_key() -> None:
    with answering_with(good(ROW)) as (url, _):
        values = {
            "provider": "jushita",
            "app_key": KEY,
            "app_secret": SECRET,
            "endpoints": {"top": url},
        }
        account = AccountSettings.model_validate(values)
        query = PROVIDER.open_query("shop", account, SystemClock())
        assert query is not None
        assert len(query.page(ASKED, DAY, 1).receipts) == 1
        query.cancel()
        with pytest.raises(SourceCancelled):
            query.page(ASKED, DAY, 1)
        query.close()

    bare = AccountSettings.model_validate({"provider": "jushita"})
    assert PROVIDER.open_query("shop", bare, ManualClock(CLOCK_AT)) is None
    assert PROVIDER.open_send("jushita", bare, ManualClock(CLOCK_AT)) is None
