"""The RPC actions that ask what became of messages: one by one, and by day."""

from collections.abc import Mapping

from receiptd.sandbox.dispatches import DayCount, Dispatch
from receiptd.sandbox.exchange import ServiceError
from receiptd.sandbox.gateway import BusinessError, Call, Params, Value, required
from receiptd.sandbox.lookup import Row, Throttled, TooOld
from receiptd.sandbox.oddities import Oddities
from receiptd.sandbox.phone_numbers import is_phone_number, plain_number
from receiptd.sandbox.receipts import beijing_time, day_text, read_day

MAX_PAGE = 50
WAITING, FAILED, DELIVERED = 1, 2, 3  # SendStatus, and Jushita's sms_status
TEMPLATE_TYPES = ("0", "1", "2", "3", "7")


def query_send_details(call: Call) -> Mapping[str, Value]:
    """QuerySendDetails: one number, one China day of the last thirty, page by page."""
    params = call.params
    required(params, "PhoneNumber", "SendDate", "PageSize", "CurrentPage")
    size, number = _count(params, "PageSize", MAX_PAGE), _count(params, "CurrentPage")
    day = _day(params, "SendDate")
    if not is_phone_number(params["PhoneNumber"]):  # a list of numbers is none
        raise BusinessError("isv.MOBILE_NUMBER_ILLEGAL", "非法手机号")
    _throttle(call)
    lookup = call.desk.lookup
    try:
        page = lookup.page(
            params["PhoneNumber"],
            day,
            biz_id=params.get("BizId", ""),
            size=size,
            number=number,
            wanted=_is_aliyuns,
        )
    except TooOld:
        # No document says whether the real one refuses or finds nothing; a client must not ask.
        raise _invalid("SendDate") from None
    odd = lookup.oddities
    return {
        "TotalCount": str(page.total) if odd.total_count_text else page.total,
        "SmsSendDetailDTOs": {"SmsSendDetailDTO": [_detail(row, odd) for row in page.rows]},
    }


def query_send_statistics(call: Call) -> Mapping[str, Value]:
    """QuerySendStatistics: counts per China day (help.aliyun.com document 419276).

    From memory, the document being silent: days without a send are left out, the days ascend, and
    any span of days may be asked for.
    """
    params = call.params
    required(params, "IsGlobe", "StartDate", "EndDate", "PageIndex", "PageSize")
    size, number = _count(params, "PageSize", MAX_PAGE), _count(params, "PageIndex")
    first, last = _day(params, "StartDate"), _day(params, "EndDate")
    if params["IsGlobe"] not in ("1", "2") or first > last:
        raise _invalid("IsGlobe" if first <= last else "EndDate")
    # What kind of template a code is of, the sandbox does not know: the filter is checked only.
    if params.get("TemplateType", "0") not in TEMPLATE_TYPES:
        raise _invalid("TemplateType")
    _throttle(call)
    days = call.desk.lookup.counts(
        first, last, abroad=params["IsGlobe"] == "2", sign_name=params.get("SignName", "")
    )
    shown = days[(number - 1) * size : number * size]
    return {
        "Data": {
            "TotalSize": len(days),
            "TargetList": [_statistics(day, count) for day, count in shown],
        }
    }


def _is_aliyuns(dispatch: Dispatch) -> bool:
    # Polyv sends through an account at Aliyun: the numbers after `serialNo` are found here.
    return dispatch.provider != "jushita"


def _detail(row: Row, odd: Oddities) -> dict[str, object]:
    sent, outcome = row.dispatch, row.outcome
    result: dict[str, object] = {
        "PhoneNum": plain_number(sent.sent.phone),
        "SendStatus": WAITING if outcome is None else DELIVERED if outcome.success else FAILED,
        "TemplateCode": sent.template_code,
        "Content": f"【{sent.sign_name}】{sent.template_code}",
        "SendDate": beijing_time(sent.sent_at),
    }
    if outcome is not None:
        result["ErrCode"] = odd.delivered_code if outcome.success else outcome.code
        result["ReceiveDate"] = beijing_time(row.received_at)
    elif odd.blank_while_waiting:
        result |= {"ErrCode": "", "ReceiveDate": ""}
    if row.out_id:
        result["OutId"] = row.out_id
    return result


def _statistics(day: int, count: DayCount) -> dict[str, object]:
    return {
        "SendDate": day_text(day),
        "TotalCount": count.total,
        "RespondedSuccessCount": count.delivered,
        "RespondedFailCount": count.failed,
        "NoRespondedCount": count.total - count.delivered - count.failed,
    }


def _throttle(call: Call) -> None:
    try:
        call.desk.lookup.throttle(call.action)
    except Throttled as error:
        text = "Request was denied due to user flow control."
        if error.code.startswith(("isv.", "isp.")):
            raise BusinessError(error.code, text) from None
        raise ServiceError(400, error.code, text) from None


def _count(params: Params, name: str, most: int | None = None) -> int:
    text = params[name]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _invalid(name)
    value = int(text)
    if value < 1 or (most is not None and value > most):
        raise _invalid(name)
    return value


def _day(params: Params, name: str) -> int:
    try:
        return read_day(params[name])
    except ValueError:
        raise _invalid(name) from None


def _invalid(name: str) -> BusinessError:
    return BusinessError("isv.INVALID_PARAMETERS", f"参数异常 ({name})")
