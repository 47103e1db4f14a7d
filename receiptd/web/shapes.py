"""What the API answers, as types: the OpenAPI document is made from them."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from receiptd.masking import text as masked_text
from receiptd.model import ErrClass, Origin, Status
from receiptd.phone import mask

_Phone = Annotated[str, Meta(description="E.164 where it can be read; masked without the token")]
_Count = Annotated[int, Meta(ge=0)]


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """One SMS to one phone, and what became of it. Times are UTC."""

    provider: str
    account: str
    biz_id: str
    phone: _Phone
    out_id: str | None
    status: Status
    err_code: str | None
    err_msg: str | None
    err_class: ErrClass | None
    segments: int | None
    sign_name: str | None
    template_code: str | None
    send_api: str | None
    submitted_at: datetime | None
    sent_at: datetime | None
    reported_at: datetime | None
    origin: Origin
    conflict: bool
    created_at: datetime
    updated_at: datetime


class Uplink(msgspec.Struct, frozen=True, kw_only=True):
    """An SMS that a phone's user sent to us. Times are UTC."""

    provider: str
    account: str
    phone: _Phone
    content: str | None
    dest_code: str | None
    sign_name: str | None
    sequence_id: str
    sent_at: datetime | None
    biz_id: str | None
    created_at: datetime


_Cursor = Annotated[
    str | None,
    Meta(description="give it to get the next page, which may be empty; null: there is none"),
]


class Receipts(msgspec.Struct, frozen=True):
    """A page, the newest first."""

    receipts: list[Receipt]
    cursor: _Cursor


class Uplinks(msgspec.Struct, frozen=True):
    """A page, the newest first."""

    uplinks: list[Uplink]
    cursor: _Cursor


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the sends; `rows` is the sum of the three below it."""

    sends: _Count
    rows: _Count
    accepted: _Count
    refused: Annotated[int, Meta(ge=0, description="by the provider's API")]
    unanswered: _Count
    changed: Annotated[int, Meta(ge=0, description="rows that are new, or know more than before")]


class Error(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A word for programs, a sentence, and what to do."""

    code: str
    message: str
    cure: str
    details: Any = None


class Errors(msgspec.Struct, frozen=True):
    """What every refusal looks like."""

    error: Error


class BadSend(msgspec.Struct, frozen=True):
    """One send that was refused; its place among those that were given, from 0."""

    index: int
    message: str
    cure: str


def receipt(row: dict[str, Any], *, trusted: bool) -> Receipt:
    """Return a row of the store; its phone masked unless the caller is `trusted`."""
    return msgspec.convert(_fields(row, Receipt, trusted=trusted), Receipt, strict=False)


def uplink(row: dict[str, Any], *, trusted: bool) -> Uplink:
    """Return a row of the store; its phone, and phones in its text, masked unless `trusted`."""
    fields = _fields(row, Uplink, trusted=trusted)
    if not trusted and fields["content"]:
        fields["content"] = masked_text(fields["content"])
    return msgspec.convert(fields, Uplink, strict=False)


def _fields(row: dict[str, Any], kind: type[msgspec.Struct], *, trusted: bool) -> dict[str, Any]:
    fields = {name: row[name] for name in kind.__struct_fields__}
    if not trusted:
        fields["phone"] = mask(fields["phone"])
    return fields
