"""Clients of the gateways: the official core SDK, and bare HTTP for what has no SDK here."""

import http.client
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import pytest

from receiptd.sandbox import Sandbox
from receiptd.sandbox.signature import sign_polyv, sign_top

BEIJING = timezone(timedelta(hours=8))
FORM = {"content-type": "application/x-www-form-urlencoded;charset=utf-8"}
TA_QUERY = "alibaba.aliqin.ta.sms.num.query"
BATCH_SEND = "taobao.jst.sms.message.direct.batchsend"

# The SDK's vendored requests and urllib3 (2.18 and 1.24) warn about themselves on import and use.
SDK_WARNINGS = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:aliyunsdkcore"),
    pytest.mark.filterwarnings("ignore:.*pkg_resources.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
]


def sdk_call(
    sandbox: Sandbox,
    action: str,
    params: dict[str, str],
    *,
    in_body: bool = True,
    method: str = "POST",
    key: str = "testAK",
    secret: str = "testSK",
) -> dict[str, Any]:
    from aliyunsdkcore.client import AcsClient
    from aliyunsdkcore.request import CommonRequest

    client = AcsClient(key, secret, "cn-hangzhou", port=sandbox.port)
    request = CommonRequest(domain="127.0.0.1", version="2017-05-25", action_name=action)
    request.set_method(method)
    request.set_protocol_type("http")
    for name, value in params.items():
        (request.add_body_params if in_body else request.add_query_param)(name, value)
    try:
        answer: dict[str, Any] = json.loads(client.do_action_with_exception(request))
        return answer
    finally:
        client.session.close()


def http_call(
    sandbox: Sandbox,
    method: str,
    target: str,
    body: str | bytes = b"",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    conn = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
    conn.request(method, target, body or None, headers or {})
    response = conn.getresponse()
    answer = response.status, response.read()
    conn.close()
    return answer


def china_date(sandbox: Sandbox, days: int = 0) -> str:
    """The China date in the sandbox's world, so many days from now, as yyyyMMdd."""
    now = datetime.fromtimestamp(sandbox.clock.now(), BEIJING)
    return (now + timedelta(days=days)).strftime("%Y%m%d")


def details(sandbox: Sandbox, phone: str, date: str = "", **more: str) -> dict[str, Any]:
    """QuerySendDetails through the SDK."""
    params = {
        "PhoneNumber": phone,
        "SendDate": date or china_date(sandbox),
        "PageSize": "50",
        "CurrentPage": "1",
    }
    return sdk_call(sandbox, "QuerySendDetails", params | more)


def rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer["SmsSendDetailDTOs"]["SmsSendDetailDTO"]
    return found


def top_params(method: str, *, sign_method: str = "md5", secret: str = "topSecret", **own: str):
    now = datetime.now(UTC).astimezone(BEIJING)
    params = {
        "method": method,
        "app_key": "12345678",
        "timestamp": now.strftime("%Y-%m-%d %H:%M:%S"),
        "v": "2.0",
        "format": "json",
        "sign_method": sign_method,
        **own,
    }
    known = sign_method if sign_method in ("md5", "hmac", "hmac-sha256") else "md5"
    return {"sign": sign_top(secret, params, known)} | params


def top_call(sandbox: Sandbox, params: dict[str, str], http_method: str = "POST") -> Any:
    """Call TOP; HTTP says 200 whatever the answer is."""
    if http_method == "GET":
        status, body = http_call(sandbox, "GET", "/router/rest?" + urlencode(params))
    else:
        status, body = http_call(sandbox, http_method, "/router/rest", urlencode(params), FORM)
    assert status == 200
    return json.loads(body) if params.get("format") == "json" else body


def top_rows(sandbox: Sandbox, phone: str, method: str = TA_QUERY, **more: str) -> Any:
    """The rows of a TOP query; none if the list is left out."""
    own = {
        "rec_num": phone,
        "query_date": china_date(sandbox),
        "current_page": "1",
        "page_size": "50",
    }
    answer = top_call(sandbox, top_params(method, **(own | more)))
    (result,) = answer.values()
    return result.get("values", {}).get("fc_partner_sms_detail_dto", [])


def polyv_call(
    sandbox: Sandbox, phones: list[Any], *, secret: str = "polyvSecret", **query: str
) -> tuple[int, Any]:
    """Send through Polyv; returns the status and the answer."""
    at = str(int(datetime.now(UTC).timestamp() * 1000))
    signed = {"appId": "exampleapp", "timestamp": at} | query
    signed["sign"] = signed.get("sign") or sign_polyv(secret, signed)
    body = {
        "phoneNumbers": phones,
        "templateParamNames": ["code"],
        "templateParamValues": [9802],
    }
    status, text = http_call(
        sandbox,
        "POST",
        "/live/v4/user/sms/send?" + urlencode(signed),
        json.dumps(body),
        {"content-type": "application/json"},
    )
    return status, json.loads(text)
