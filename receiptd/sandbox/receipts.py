"""The bodies that providers enqueue: SmsReport, SmsUp, and the Jushita shapes."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone

# China has no daylight saving; receipts and tokens carry times without a zone that are Beijing's.
BEIJING = timezone(timedelta(hours=8))

MEANINGS = {
    "DELIVERED": "用户接收成功",
    "MOBILE_NOT_ON_SERVICE": "手机停机",
    "MK:0001": "空号",
    "IS_CLOSED": "短信被用户手机关机或不在服务区",
    "UNDELIV": "运营商下发失败",
    "MOBILE_IN_BLACK": "手机号在黑名单中",
    "MOBILE_SEND_LIMIT": "单个手机号日、月发送上限或频繁发送超过上限",
    "CONTENT_KEYWORD": "内容关键字拦截",
}


def beijing_time(at: float) -> str:
    """Return epoch seconds as the providers print times."""
    return datetime.fromtimestamp(at, UTC).astimezone(BEIJING).strftime("%Y-%m-%d %H:%M:%S")


def china_day(at: float) -> int:
    """Return the number of the day in China, counted from 1970-01-01."""
    return int((at + 8 * 3600) // 86400)


def day_text(day: int) -> str:
    """Return a day as the query APIs write it: yyyyMMdd."""
    return (date(1970, 1, 1) + timedelta(days=day)).strftime("%Y%m%d")


def read_day(text: str) -> int:
    """Return the number of the day yyyyMMdd; ValueError if it is none."""
    if not (len(text) == 8 and text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is no yyyyMMdd")
    parts = int(text[:4]), int(text[4:6]), int(text[6:])
    return (date(*parts) - date(1970, 1, 1)).days


def _json(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def sms_report(
    *,
    biz_id: str,
    phone: str,
    out_id: str,
    code: str,
    success: bool,
    sent_at: float,
    reported_at: float,
) -> bytes:
    """Return one SmsReport; `out_id` is missing if the sender gave none."""
    body: dict[str, object] = {
        "send_time": beijing_time(sent_at),
        "report_time": beijing_time(reported_at),
        "success": success,
        "err_msg": MEANINGS.get(code, "短信发送失败"),
        "err_code": code,
        "phone_number": phone,
        "sms_size": "1",
        "biz_id": biz_id,
    }
    if out_id:
        body["out_id"] = out_id
    return _json(body)


def sms_up(
    *, phone: str, content: str, dest_code: str, sign_name: str, sequence_id: int, at: float
) -> bytes:
    """Return one SmsUp: a reply of the phone's user."""
    return _json(
        {
            "dest_code": dest_code,
            "send_time": beijing_time(at),
            "sign_name": f"【{sign_name}】",
            "sequence_id": sequence_id,
            "phone_number": phone,
            "content": content,
        }
    )


def jushita_report(
    *,
    biz_id: str,
    phone: str,
    out_id: str,
    code: str,
    success: bool,
    sent_at: float,
    reported_at: float,
) -> bytes:
    """Return one delivery result in the shape of alibaba_aliqin_TaFcSmsDR.

    No `phone`: the sender knows the buyer only by an OAID, and the result does not tell.
    """
    body: dict[str, object] = {
        "send_time": beijing_time(sent_at),
        "receiver": phone,
        "rept_time": beijing_time(reported_at),
        "err_code": "DELIVRD" if success else code,
        "state": "1" if success else "2",
        "biz_id": biz_id,
    }
    if not phone:
        del body["receiver"]
    if out_id:
        body["extend"] = out_id
    return _json(body)


def channel_envelope(*, topic: str, content: bytes, number: int, at: float) -> bytes:
    """Wrap a Jushita body as Taobao's message channel does: `content` is JSON text."""
    return _json(
        {
            "id": number,
            "topic": topic,
            "content": content.decode(),
            "time": beijing_time(at),
            "publisher": "12345678",
            "dataid": str(number),
        }
    )
