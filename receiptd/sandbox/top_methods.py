"""The TOP methods for SMS: sending through Jushita, and asking for one number."""

import json
import zlib
from collections.abc import Mapping, Sequence

from receiptd.sandbox.dispatches import Dispatch
from receiptd.sandbox.lookup import Row, Throttled, TooOld
from receiptd.sandbox.phone_numbers import is_phone_number, masked_number, plain_number
from receiptd.sandbox.query_actions import DELIVERED, FAILED, MAX_PAGE, WAITING
from receiptd.sandbox.receipts import beijing_time, read_day
from receiptd.sandbox.top import TopCall, TopError, TopMethod, business_error, call_limited

MAX_NUMBERS = 200
MAX_OAIDS = 50


def batch_send(call: TopCall) -> Mapping[str, object]:
    """taobao.jst.sms.message.direct.batchsend: numbers or OAIDs, with variables of their own.

    What a report's `extend` echoes, no source says of this method. Here it is the parameter
    `extend`, as the other methods for sending have it, or the key of that name in `extra_data`.
    `task_sign` is taken and not acted on.
    """
    params = call.params
    _required(params, "sign_name", "sms_template_code")
    phones, receivers = _recipients(call)
    count = len(phones)
    if params["sms_template_code"].lstrip().startswith("["):
        raise business_error("isv.SMS_TEMPLATE_ILLEGAL", "短信模板不合法")
    signs = _sign_names(params, count)
    if params.get("sms_content"):
        contents = _list(params, "sms_content", count)
        if not all(isinstance(one, dict) for one in contents):
            raise _bad_json("sms_content")
    if params.get("extend_num"):
        _strings(_list(params, "extend_num", count), "extend_num")
    extra = _json(params, "extra_data") if params.get("extra_data") else {}
    if not isinstance(extra, dict):
        raise _bad_json("extra_data")
    refusal = call.desk.refusal()
    if refusal is not None:
        raise business_error(refusal, "refused by the scenario")
    module = call.desk.accept(
        phones,
        out_id=params.get("extend") or str(extra.get("extend", "")),
        sign_names=signs,
        template_code=params["sms_template_code"],
        send_api="taobao.jst.sms.message.direct.batchsend",
        jushita=True,
        receivers=receivers,
    )
    return {"module": module}


def number_query(call: TopCall) -> Mapping[str, object]:
    """alibaba.aliqin.{ta,fc}.sms.num.query: one number, one China day; the rows hold no biz_id."""
    params = call.params
    _required(params, "rec_num", "query_date", "current_page", "page_size")
    size, number = _count(params, "page_size"), _count(params, "current_page")
    if size > MAX_PAGE:
        raise _invalid("page_size")
    if not is_phone_number(params["rec_num"]):
        raise business_error("isv.MOBILE_NUMBER_ILLEGAL", "非法手机号")
    try:
        day = read_day(params["query_date"])
        call.desk.lookup.throttle("top")
        page = call.desk.lookup.page(
            params["rec_num"],
            day,
            biz_id=params.get("biz_id", ""),
            size=size,
            number=number,
            wanted=_is_jushitas,
        )
    except (ValueError, TooOld):
        raise _invalid("query_date") from None
    except Throttled as error:
        if error.code.startswith(("isv.", "isp.")):
            raise business_error(error.code) from None
        raise call_limited() from None
    return {
        "current_page": number,
        "page_size": size,
        "total_count": page.total,
        "total_page": -(-page.total // size),
        "values": [_detail(row) for row in page.rows],
    }


_NUMBER_QUERY = TopMethod(number_query, "top_query", ("values", "fc_partner_sms_detail_dto"))
METHODS = {
    "taobao.jst.sms.message.direct.batchsend": TopMethod(batch_send, "top_send"),
    "alibaba.aliqin.ta.sms.num.query": _NUMBER_QUERY,
    "alibaba.aliqin.fc.sms.num.query": _NUMBER_QUERY,
}


def number_of_oaid(oaid: str) -> str:
    """Return the number that the sandbox takes for the one behind an OAID: always the same."""
    return f"139{zlib.crc32(oaid.encode()) % 100_000_000:08d}"


def _is_jushitas(dispatch: Dispatch) -> bool:
    return dispatch.over_topic


def _detail(row: Row) -> dict[str, object]:
    sent, outcome = row.dispatch, row.outcome
    result: dict[str, object] = {
        "rec_num": plain_number(sent.receiver),
        "sms_code": sent.template_code,
        "sms_content": f"【{sent.sign_name}】{sent.template_code}",
        "sms_send_time": beijing_time(sent.sent_at),
        "sms_status": WAITING if outcome is None else DELIVERED if outcome.success else FAILED,
    }
    if outcome is not None:
        result["result_code"] = "DELIVRD" if outcome.success else outcome.code
        result["sms_receiver_time"] = beijing_time(row.received_at)
    if row.out_id:
        result["extend"] = row.out_id
    return result


def _recipients(call: TopCall) -> tuple[list[str], list[str]]:
    """Return the numbers, and how receipts show them."""
    params = call.params
    if not params.get("rec_num") and not params.get("oaids"):
        raise TopError(40, "rec_num")
    if params.get("rec_num") and params.get("oaids"):
        raise _invalid("oaids")
    if params.get("rec_num"):
        phones = _strings(_list(params, "rec_num"), "rec_num")
        _check_count(phones, MAX_NUMBERS)
        if not all(map(is_phone_number, phones)):
            raise business_error("isv.MOBILE_NUMBER_ILLEGAL", "非法手机号")
        return phones, phones
    _required(params, "order_ids")
    oaids = _strings(_list(params, "oaids"), "oaids")
    _check_count(oaids, MAX_OAIDS)
    _list(params, "order_ids", len(oaids))
    phones = [number_of_oaid(oaid) for oaid in oaids]
    match call.desk.scenario.oaid_receivers:
        case "plain":
            return phones, phones
        case "masked":
            return phones, [masked_number(phone) for phone in phones]
    return phones, [""] * len(phones)


def _sign_names(params: Mapping[str, str], count: int) -> list[str]:
    if params.get("oaids"):
        return _strings(_list(params, "sign_name", count), "sign_name")
    if params["sign_name"].lstrip().startswith("["):
        raise business_error("isv.SMS_SIGNATURE_ILLEGAL", "短信签名不合法")
    return [params["sign_name"]]


def _required(params: Mapping[str, str], *names: str) -> None:
    for name in names:
        if not params.get(name):
            raise TopError(40, name)


def _count(params: Mapping[str, str], name: str) -> int:
    text = params[name]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise TopError(41, name)
    if int(text) < 1:
        raise _invalid(name)
    return int(text)


def _check_count(phones: Sequence[str], most: int) -> None:
    if len(phones) > most:
        raise business_error("isv.MOBILE_COUNT_OVER_LIMIT", "手机号码数量超过限制")


def _json(params: Mapping[str, str], name: str) -> object:
    try:
        return json.loads(params[name])
    except ValueError:
        raise _bad_json(name) from None


def _list(params: Mapping[str, str], name: str, count: int | None = None) -> list[object]:
    value = _json(params, name)
    if not isinstance(value, list) or not value or (count is not None and len(value) != count):
        raise _bad_json(name)
    return value


def _strings(values: list[object], name: str) -> list[str]:
    strings = [one for one in values if isinstance(one, str)]
    if len(strings) != len(values):
        raise _bad_json(name)
    return strings


def _bad_json(name: str) -> TopError:
    return business_error("isv.INVALID_JSON_PARAM", f"JSON参数不合法 ({name})")


def _invalid(name: str) -> TopError:
    return business_error("isv.INVALID_PARAMETERS", f"参数异常 ({name})")
