"""Jushita's sends into rows of the ledger: wire-formats 7.5, seed S4. Pure."""

from collections.abc import Mapping
from datetime import datetime

from receiptd.errors import InvalidEnvelope
from receiptd.model import Reason, Receipt
from receiptd.providers.aliyun.sends import refusal as aliyun_refusal
from receiptd.providers.base import Context, Refusal, SendReader
from receiptd.providers.fields import BIZ_ID_MAX, MESSAGE_MAX, OUT_ID_MAX, required, text
from receiptd.providers.refusals import find
from receiptd.providers.sends import (
    SIGN_MAX,
    Sent,
    numbers,
    parsed,
    request_id,
    told,
)

_ERROR = "error_response"
_WRAPPER = "jst_sms_message_direct_batchsend_response"


def refusal(code: str) -> Refusal | None:
    """Return what a code or sub_code of TOP means. The service behind it is Aliyun's, and its
    sub_codes are Aliyun's codes (wire-formats 7.6)."""
    return find("receiptd.providers.jushita", code) or (
        aliyun_refusal(code) if code.startswith(("isv.", "isp.")) else None
    )


def batch_send(
    request: Mapping[str, object],
    response: Mapping[str, object],
    context: Context,
    submitted_at: datetime,
) -> list[Receipt]:
    """Return the rows of a taobao.jst.sms.message.direct.batchsend: `module` is the biz_id of all
    numbers in `rec_num`, which is a JSON array (T3) or has commas (S4).

    The out_id is `extend`, of the request or of its `extra_data`, because receipts echo `extend`;
    `extend_num` is no id but what stands behind the sender's number in replies, and not read.
    Sends to OAIDs hold no number to book them under: MISSING_FIELD.
    """
    sign = told(request, "sign_name", SIGN_MAX)
    sent = Sent(
        request=request,
        context=context,
        send_api="jushita",
        submitted_at=submitted_at,
        signs=dict.fromkeys(numbers(request, "rec_num"), sign),
        out_id=_extend(request),
        template_code=told(request, "sms_template_code"),
    )
    if not response:
        return sent.unanswered()
    if _ERROR in response:
        return _failed(sent, response[_ERROR])
    # With `simplify`, or from an SDK that unwraps, the answer is bare.
    inner = response.get(_WRAPPER, response)
    if not isinstance(inner, Mapping):
        raise InvalidEnvelope(Reason.BAD_FIELD, _WRAPPER)
    return sent.awaited(required(inner, "module", BIZ_ID_MAX))


def _failed(sent: Sent, error: object) -> list[Receipt]:
    if not isinstance(error, Mapping):
        raise InvalidEnvelope(Reason.BAD_FIELD, _ERROR)
    # The code says where it failed, the sub_code why.
    code = text(error, "sub_code") or required(error, "code")
    message = told(error, "sub_msg", MESSAGE_MAX) or told(error, "msg", MESSAGE_MAX)
    return sent.failed(code, message, request_id(error, "request_id"), refusal(code))


def _extend(request: Mapping[str, object]) -> str | None:
    found = text(request, "extend", OUT_ID_MAX)
    if found is not None:
        return found
    extra = request.get("extra_data")
    if isinstance(extra, str):
        extra = parsed(extra)
    return told(extra, "extend", OUT_ID_MAX) if isinstance(extra, Mapping) else None


SEND_READERS: dict[str, SendReader] = {"jushita": batch_send}
