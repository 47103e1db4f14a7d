"""The RPC gateway serves the official core SDK, both signature generations, and is strict."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from receiptd.sandbox import Sandbox, Scenario
from receiptd.sandbox.signature import acs3_string_to_sign, sign_acs3, sign_rpc
from tests.sandbox.clients import BEIJING, FORM, SDK_WARNINGS, china_date, http_call, sdk_call
from tests.sandbox.wire import Wire, sdk_error

pytestmark = SDK_WARNINGS
Accounts = Callable[..., Any]
Send = dict[str, str]

SEND: Send = {
    "PhoneNumbers": "13900000001",
    "SignName": "示例",
    "TemplateCode": "SMS_1",
    "TemplateParam": '{"code":"1234"}',
    "OutId": "order-42",
}


def rpc_params(action: str, params: Send, **more: str) -> Send:
    return {
        "Action": action,
        "Version": "2017-05-25",
        "Format": "JSON",
        "AccessKeyId": "testAK",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": str(id(params)),
        "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **params,
        **more,
    }


def raw_call(
    sandbox: Sandbox, method: str, target: str, body: str = "", headers: Send | None = None
) -> tuple[int, bytes]:
    return http_call(sandbox, method, target, body, (FORM if body else {}) | (headers or {}))


def get(sandbox: Sandbox, params: Send, secret: str = "testSK") -> tuple[int, dict[str, Any]]:
    signed = params | {"Signature": sign_rpc(secret, "GET", params)}
    status, body = raw_call(sandbox, "GET", "/?" + urlencode(signed, quote_via=quote))
    return status, json.loads(body)


@pytest.mark.parametrize(("in_body", "method"), [(True, "POST"), (False, "POST"), (False, "GET")])
def test_the_sdk_sends_an_sms_and_its_receipt_is_enqueued(
    sandbox: Sandbox, mns_account: Accounts, in_body: bool, method: str
) -> None:
    answer = sdk_call(sandbox, "SendSms", SEND, in_body=in_body, method=method)

    queue = mns_account(sandbox).get_queue(sandbox.queue("SmsReport"))
    report = json.loads(queue.receive_message(1).message_body)
    assert (answer["Code"], answer["Message"]) == ("OK", "OK")
    assert sandbox.sends == [(answer["BizId"], "13900000001", "order-42", "delivered")]
    assert report["biz_id"] == answer["BizId"]
    assert report["success"] is True
    assert (report["err_code"], report["sms_size"], report["out_id"]) == (
        "DELIVERED",
        "1",
        "order-42",
    )


def test_one_send_to_many_numbers_has_one_receipt_id(sandbox: Sandbox) -> None:
    phones = [f"139{n:08d}" for n in range(1000)]

    answer = sdk_call(sandbox, "SendSms", SEND | {"PhoneNumbers": ",".join(phones)})

    assert [sent.phone for sent in sandbox.sends] == phones
    assert {sent.biz_id for sent in sandbox.sends} == {answer["BizId"]}
    assert sandbox.depth(sandbox.queue("SmsReport")) == 1000


def test_the_sdk_sends_a_batch(sandbox: Sandbox) -> None:
    answer = sdk_call(
        sandbox,
        "SendBatchSms",
        {
            "PhoneNumberJson": '["13900000001","85290000001"]',
            "SignNameJson": '["甲","乙"]',
            "TemplateCode": "SMS_2",
            "TemplateParamJson": '[{"n":"Tom"},{"n":"Jack"}]',
        },
    )

    assert [(one.sent.phone, one.sign_name, one.send_api) for one in sandbox.dispatches] == [
        ("13900000001", "甲", "SendBatchSms"),
        ("85290000001", "乙", "SendBatchSms"),
    ]
    assert {one.sent.biz_id for one in sandbox.dispatches} == {answer["BizId"]}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"PhoneNumbers": "12345"}, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"PhoneNumbers": "13900000001,"}, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"PhoneNumbers": "１３９00000001"}, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"PhoneNumbers": ",".join(["13900000001"] * 1001)}, "isv.MOBILE_COUNT_OVER_LIMIT"),
        ({"TemplateCode": "1234"}, "isv.SMS_TEMPLATE_ILLEGAL"),
        ({"TemplateParam": "{code:1}"}, "isv.INVALID_JSON_PARAM"),
        ({"TemplateParam": '{"code":{"a":"b"}}'}, "isv.INVALID_JSON_PARAM"),
        ({"OutId": "x" * 256}, "isv.PARAM_LENGTH_LIMIT"),
    ],
)
def test_a_wrong_send_is_a_business_error(sandbox: Sandbox, change: Send, code: str) -> None:
    assert sdk_call(sandbox, "SendSms", SEND | change)["Code"] == code
    assert sandbox.sends == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"PhoneNumberJson": "13900000001"}, "isv.INVALID_JSON_PARAM"),
        ({"SignNameJson": '["a"]'}, "isv.INVALID_JSON_PARAM"),
        ({"TemplateParamJson": "[{}]"}, "isv.INVALID_JSON_PARAM"),
        ({"PhoneNumberJson": json.dumps(["13900000001"] * 101)}, "isv.MOBILE_COUNT_OVER_LIMIT"),
        ({"PhoneNumberJson": '["13900000001","x"]'}, "isv.MOBILE_NUMBER_ILLEGAL"),
    ],
)
def test_a_wrong_batch_is_a_business_error(sandbox: Sandbox, change: Send, code: str) -> None:
    params = {
        "PhoneNumberJson": '["13900000001","13900000002"]',
        "SignNameJson": '["a","b"]',
        "TemplateCode": "SMS_1",
    }

    assert sdk_call(sandbox, "SendBatchSms", params | change)["Code"] == code


def test_the_scenario_can_refuse_sends() -> None:
    scenario = Scenario(send_refusals={"isv.BUSINESS_LIMIT_CONTROL": 1.0})
    with Sandbox(scenario=scenario) as sandbox:
        assert sdk_call(sandbox, "SendSms", SEND)["Code"] == "isv.BUSINESS_LIMIT_CONTROL"


@pytest.mark.parametrize(
    ("action", "params", "keys", "status", "code"),
    [
        ("SendSms", SEND | {"SignName": ""}, ("testAK", "testSK"), 400, "MissingSignName"),
        ("Nothing", SEND, ("testAK", "testSK"), 404, "InvalidAction.NotFound"),
        ("SendSms", SEND, ("nobody", "testSK"), 404, "InvalidAccessKeyId.NotFound"),
        ("SendSms", SEND, ("testAK", "wrong"), 400, "SignatureDoesNotMatch"),
    ],
)
def test_the_gateway_refuses_with_a_status(
    sandbox: Sandbox, action: str, params: Send, keys: tuple[str, str], status: int, code: str
) -> None:
    signed = rpc_params(action, params, AccessKeyId=keys[0])

    answered, answer = get(sandbox, signed, keys[1])

    assert (answered, answer["Code"]) == (status, code)
    assert {"RequestId", "HostId", "Message"} <= answer.keys()


def test_the_sdk_sees_the_gateways_errors(sandbox: Sandbox) -> None:
    error = sdk_error(lambda: sdk_call(sandbox, "SendSms", SEND, key="nobody"))

    assert (error.http_status, error.error_code) == (404, "InvalidAccessKeyId.NotFound")


def test_a_nonce_works_once(sandbox: Sandbox) -> None:
    params = rpc_params("SendSms", SEND)

    assert get(sandbox, params)[0] == 200
    assert get(sandbox, params)[1]["Code"] == "SignatureNonceUsed"
    assert len(sandbox.sends) == 1


def test_an_old_timestamp_is_refused(sandbox: Sandbox) -> None:
    old = (datetime.now(UTC) - timedelta(minutes=16)).strftime("%Y-%m-%dT%H:%M:%SZ")

    assert get(sandbox, rpc_params("SendSms", SEND, Timestamp=old))[1]["Code"] == (
        "InvalidTimeStamp.Expired"
    )
    wrong = rpc_params("SendSms", SEND, Version="2018-01-01")
    assert get(sandbox, wrong)[1]["Code"] == "InvalidVersion"


def test_answers_are_xml_if_nothing_else_is_asked_for(sandbox: Sandbox) -> None:
    params = rpc_params("SendSms", SEND)
    del params["Format"]
    signed = params | {"Signature": sign_rpc("testSK", "POST", params)}

    status, body = raw_call(sandbox, "POST", "/", urlencode(signed))

    assert status == 200
    assert b"<SendSmsResponse>" in body
    assert b"<Code>OK</Code>" in body
    assert f"<BizId>{sandbox.sends[0].biz_id}</BizId>".encode() in body


def test_rows_in_xml_are_repeated_elements(frozen: Sandbox) -> None:
    frozen.send_sms(["13900000001"] * 2)
    question = {"PhoneNumber": "13900000001", "SendDate": china_date(frozen)}
    question |= {"PageSize": "50", "CurrentPage": "1"}
    params = rpc_params("QuerySendDetails", question, Format="XML")
    signed = params | {"Signature": sign_rpc("testSK", "POST", params)}

    _, body = raw_call(frozen, "POST", "/", urlencode(signed))

    assert body.count(b"<SmsSendDetailDTO><PhoneNum>13900000001</PhoneNum>") == 2
    assert b"<TotalCount>2</TotalCount><SmsSendDetailDTOs><SmsSendDetailDTO>" in body


@pytest.mark.parametrize("in_body", [True, False])
def test_the_newer_signature_is_accepted_and_checked(sandbox: Sandbox, in_body: bool) -> None:
    body = urlencode(SEND) if in_body else ""
    query = {} if in_body else SEND
    payload_hash = hashlib.sha256(body.encode()).hexdigest()
    headers = {
        "host": f"127.0.0.1:{sandbox.port}",
        "x-acs-action": "SendSms",
        "x-acs-content-sha256": payload_hash,
        "x-acs-date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "x-acs-signature-nonce": "n1",
        "x-acs-version": "2017-05-25",
    }
    names = ";".join(headers)
    text = acs3_string_to_sign("POST", "/", query, headers, names, payload_hash)
    credential = f"ACS3-HMAC-SHA256 Credential=testAK,SignedHeaders={names},Signature="
    target = "/?" + urlencode(query) if query else "/"
    wrong = headers | {"authorization": credential + "0" * 64}
    right = headers | {"authorization": credential + sign_acs3("testSK", text)}

    refused = raw_call(sandbox, "POST", target, body, wrong)
    accepted = raw_call(sandbox, "POST", target, body, right)

    assert json.loads(refused[1])["Code"] == "SignatureDoesNotMatch"
    assert json.loads(accepted[1])["BizId"] == sandbox.sends[0].biz_id


def query_token(sandbox: Sandbox, message_type: str = "SmsReport") -> dict[str, str]:
    answer = sdk_call(sandbox, "QueryTokenForMnsQueue", {"MessageType": message_type})
    token: dict[str, str] = answer["MessageTokenDTO"]
    return token


def test_a_token_reads_the_queue_of_its_message_type(mns_account: Accounts) -> None:
    with Sandbox(tokens_only=True) as sandbox:
        token = query_token(sandbox)
        keys = (token["AccessKeyId"], token["AccessKeySecret"], token["SecurityToken"])
        account = mns_account(sandbox, *keys)
        sandbox.send_mns(sandbox.queue("SmsReport"), "x")

        body = account.get_queue(sandbox.queue("SmsReport")).receive_message(0).message_body

        assert body == b"x"
        other = account.get_queue(sandbox.queue("SmsUp"))
        assert sdk_error(other.receive_message, 0).type == "AccessDenied"
        main = mns_account(sandbox).get_queue(sandbox.queue("SmsReport"))
        assert sdk_error(main.receive_message, 0).type == "AccessDenied"


def test_a_token_without_its_security_token_is_nothing(
    sandbox: Sandbox, mns_account: Accounts
) -> None:
    token = query_token(sandbox)
    account = mns_account(sandbox, token["AccessKeyId"], token["AccessKeySecret"], "other")

    error = sdk_error(account.get_queue(sandbox.queue("SmsReport")).receive_message, 0)

    assert error.type == "InvalidAccessKeyId"


def test_a_token_says_in_beijing_time_when_it_expires(mns_account: Accounts) -> None:
    with Sandbox(virtual_time=True, token_lifetime_s=60) as sandbox:
        now = datetime.fromtimestamp(int(sandbox.clock.now()), BEIJING)
        token = query_token(sandbox)
        expires = datetime.strptime(token["ExpireTime"], "%Y-%m-%d %H:%M:%S")
        keys = (token["AccessKeyId"], token["AccessKeySecret"], token["SecurityToken"])
        queue = mns_account(sandbox, *keys).get_queue(sandbox.queue("SmsReport"))

        sandbox.clock.advance(59)
        before = sdk_error(queue.receive_message, 0).type
        sandbox.clock.advance(1)
        after = sdk_error(queue.receive_message, 0).type

        assert expires.replace(tzinfo=BEIJING) - now == timedelta(seconds=60)
        assert (before, after) == ("MessageNotExist", "AccessDenied")


def test_the_code_for_an_expired_token_can_be_chosen(
    sandbox: Sandbox, mns_account: Accounts
) -> None:
    token = query_token(sandbox)
    keys = (token["AccessKeyId"], token["AccessKeySecret"], token["SecurityToken"])
    queue = mns_account(sandbox, *keys).get_queue(sandbox.queue("SmsReport"))
    sandbox.expired_token_code = "InvalidSecurityToken.Expired"
    sandbox.expire_tokens()

    assert sdk_error(queue.receive_message, 0).type == "InvalidSecurityToken.Expired"


def test_there_is_no_token_for_an_unknown_message_type(sandbox: Sandbox, wire: Any) -> None:
    answer = sdk_call(sandbox, "QueryTokenForMnsQueue", {"MessageType": "Nonsense"})

    assert answer["Code"] == "isv.INVALID_PARAMETERS"
    assert isinstance(wire(sandbox), Wire)
