"""A row of a query answer as a receipt: two providers say the same under other names. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from receiptd.errors import InvalidEnvelope
from receiptd.model import Reason, Receipt, Status
from receiptd.providers.base import Asked, Context, Found
from receiptd.providers.codes import classify
from receiptd.providers.fields import OUT_ID_MAX, PHONE_MAX, china_time, required, text
from receiptd.providers.matching import is_number_of
from receiptd.providers.sends import told

# 1 waiting, 2 failed, 3 delivered (wire-formats 8: M4, and 7.5: T3). Any other value is stored as
# unknown.
_STATUSES = {"1": Status.PENDING, "2": Status.FAILED, "3": Status.DELIVERED}


class DetailKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider calls the fields of a row."""

    phone: str
    status: str
    err_code: str
    out_id: str
    template_code: str
    sent_at: str
    reported_at: str


# QuerySendDetails (wire-formats 8.2) and sms.num.query (7.5).
ALIYUN = DetailKeys(
    phone="PhoneNum",
    status="SendStatus",
    err_code="ErrCode",
    out_id="OutId",
    template_code="TemplateCode",
    sent_at="SendDate",
    reported_at="ReceiveDate",
)
JUSHITA = DetailKeys(
    phone="rec_num",
    status="sms_status",
    err_code="result_code",
    out_id="extend",
    template_code="sms_code",
    sent_at="sms_send_time",
    reported_at="sms_receiver_time",
)


def read_rows(
    rows: Sequence[object], asked: Asked, context: Context, keys: DetailKeys
) -> tuple[list[Found], int]:
    """Return the rows that are of the number of `asked`, and how many cannot be read."""
    found, unreadable = [], 0
    for row in rows:
        try:
            receipt = read_detail(row, asked, context, keys)
        except InvalidEnvelope:
            unreadable += 1
            continue
        if receipt is not None:
            found.append(Found(receipt, msgspec.json.encode(row)))
    return found, unreadable


def read_detail(row: object, asked: Asked, context: Context, keys: DetailKeys) -> Receipt | None:
    """Return a row as a receipt for `asked`, None if it is of another number.

    Raises InvalidEnvelope for what is no row.
    """
    if not isinstance(row, Mapping):
        raise InvalidEnvelope(Reason.NOT_AN_OBJECT)
    if not is_number_of(asked, told(row, keys.phone, PHONE_MAX)):
        return None
    status = _STATUSES.get(required(row, keys.status), Status.UNKNOWN)
    waiting = status is Status.PENDING
    # While it waits, the code is absent, empty or of no meaning: 8.2.
    err_code = None if waiting else told(row, keys.err_code)
    return Receipt(
        provider=context.provider,
        account=context.account,
        biz_id=asked.biz_id,
        phone=asked.phone,
        status=status,
        origin=context.origin,
        out_id=text(row, keys.out_id, OUT_ID_MAX),
        err_code=err_code,
        err_class=None if waiting else classify(err_code, delivered=status is Status.DELIVERED),
        template_code=told(row, keys.template_code),
        sent_at=china_time(row, keys.sent_at),
        reported_at=None if waiting else china_time(row, keys.reported_at),
    )
