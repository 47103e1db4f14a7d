"""The RPC actions: sending, and tokens for the queues; the table of all of them."""

import json
import re
from collections.abc import Mapping

from receiptd.sandbox.gateway import Action, BusinessError, Call, Value, required
from receiptd.sandbox.phone_numbers import is_phone_number
from receiptd.sandbox.query_actions import query_send_details, query_send_statistics
from receiptd.sandbox.receipts import beijing_time

MAX_NUMBERS = 1000  # SendSms
MAX_BATCH = 100  # SendBatchSms
MAX_OUT_ID = 255
TEMPLATE_CODE = re.compile(r"SMS_\w+")

MESSAGE_TYPES = (
    "SmsReport",
    "SmsUp",
    "GlobeSmsReport",
    "DypnsSmsVerifyReport",
    "SignSmsReport",
    "TemplateSmsReport",
)


def send_sms(call: Call) -> Mapping[str, Value]:
    """SendSms: one text to up to 1,000 numbers, one BizId for all."""
    required(call.params, "PhoneNumbers", "SignName", "TemplateCode")
    phones = [number.strip() for number in call.params["PhoneNumbers"].split(",")]
    if len(phones) > MAX_NUMBERS:
        raise BusinessError("isv.MOBILE_COUNT_OVER_LIMIT", "手机号码数量超过限制")
    _check_numbers(phones)
    _check_template(call.params)
    text = call.params.get("TemplateParam")
    if text:
        _check_variables(_json(text, "TemplateParam"))
    _check_refusal(call)
    biz_id = call.desk.accept(
        phones,
        out_id=call.params.get("OutId", ""),
        sign_names=[call.params["SignName"]],
        template_code=call.params["TemplateCode"],
        send_api="SendSms",
    )
    return {"BizId": biz_id}


def send_batch_sms(call: Call) -> Mapping[str, Value]:
    """SendBatchSms: up to 100 numbers with a sign name and variables of their own."""
    required(call.params, "PhoneNumberJson", "SignNameJson", "TemplateCode")
    phones = _json_strings(call.params["PhoneNumberJson"], "PhoneNumberJson")
    if len(phones) > MAX_BATCH:
        raise BusinessError("isv.MOBILE_COUNT_OVER_LIMIT", "手机号码数量超过限制")
    signs = _json_strings(call.params["SignNameJson"], "SignNameJson")
    lengths = [len(signs)]
    if call.params.get("TemplateParamJson"):
        variables = _json(call.params["TemplateParamJson"], "TemplateParamJson")
        if not isinstance(variables, list):
            raise _bad_json("TemplateParamJson")
        for one in variables:
            _check_variables(one)
        lengths.append(len(variables))
    if call.params.get("SmsUpExtendCodeJson"):
        lengths.append(
            len(_json_strings(call.params["SmsUpExtendCodeJson"], "SmsUpExtendCodeJson"))
        )
    if any(length != len(phones) for length in lengths):
        raise BusinessError("isv.INVALID_JSON_PARAM", "JSON参数不合法,数组长度不一致")
    _check_numbers(phones)
    _check_template(call.params)
    _check_refusal(call)
    biz_id = call.desk.accept(
        phones,
        out_id=call.params.get("OutId", ""),
        sign_names=signs,
        template_code=call.params["TemplateCode"],
        send_api="SendBatchSms",
    )
    return {"BizId": biz_id}


def query_token(call: Call) -> Mapping[str, Value]:
    """QueryTokenForMnsQueue: temporary credentials for the queue of one message type."""
    required(call.params, "MessageType")
    message_type = call.params["MessageType"]
    queue = call.params.get("QueueName", "")
    if message_type not in MESSAGE_TYPES or (queue and not queue.endswith(f"-{message_type}")):
        raise BusinessError("isv.INVALID_PARAMETERS", "MessageType or QueueName is not valid.")
    token = call.keyring.issue(message_type)
    return {
        "MessageTokenDTO": {
            "AccessKeyId": token.key_id,
            "AccessKeySecret": token.secret,
            "SecurityToken": token.security_token,
            "CreateTime": beijing_time(token.created_at),
            "ExpireTime": beijing_time(token.expires_at),
        }
    }


ACTIONS: dict[str, tuple[str, Action]] = {
    "SendSms": ("2017-05-25", send_sms),
    "SendBatchSms": ("2017-05-25", send_batch_sms),
    "QueryTokenForMnsQueue": ("2017-05-25", query_token),
    "QuerySendDetails": ("2017-05-25", query_send_details),
    "QuerySendStatistics": ("2017-05-25", query_send_statistics),
}


def _check_numbers(phones: list[str]) -> None:
    if not phones or not all(map(is_phone_number, phones)):
        raise BusinessError("isv.MOBILE_NUMBER_ILLEGAL", "非法手机号")


def _check_template(params: Mapping[str, str]) -> None:
    if not TEMPLATE_CODE.fullmatch(params["TemplateCode"]):
        raise BusinessError("isv.SMS_TEMPLATE_ILLEGAL", "短信模板不合法")
    if len(params.get("OutId", "")) > MAX_OUT_ID:
        raise BusinessError("isv.PARAM_LENGTH_LIMIT", "参数超出长度限制")


def _check_refusal(call: Call) -> None:
    code = call.desk.refusal()
    if code is not None:
        raise BusinessError(code, "refused by the scenario")


def _check_variables(value: object) -> None:
    if not isinstance(value, dict):
        raise _bad_json("TemplateParam")
    for one in value.values():
        # Bool is an int in Python, and JSON's true is no variable.
        if not isinstance(one, str | int | float) or isinstance(one, bool):
            raise _bad_json("TemplateParam")


def _json(text: str, name: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise _bad_json(name) from None


def _json_strings(text: str, name: str) -> list[str]:
    value = _json(text, name)
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise _bad_json(name)
    return value


def _bad_json(name: str) -> BusinessError:
    return BusinessError("isv.INVALID_JSON_PARAM", f"JSON参数不合法,只接受字符串值 ({name})")
