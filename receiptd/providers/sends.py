"""What the readers of all send APIs share: numbers, arrays, ids, and the rows of one request. Pure.

An API gives its id only with a success. The rows of the others need one too, because it is half of
a row's identity; it is made of what the pair itself holds, so that recording a pair twice makes
one row: `failed:` and the API's request id, or a digest of the request and its time where there
is none; `unanswered:` and that digest where no answer came. Two refused tries of one request at
two times are two rows.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from receiptd.errors import InvalidEnvelope
from receiptd.model import FAILED_ID, UNANSWERED_ID, ErrClass, Origin, Reason, Receipt, Status
from receiptd.phone import to_e164
from receiptd.providers.base import Context, Refusal
from receiptd.providers.codes import classify
from receiptd.providers.fields import CODE_MAX, PHONE_MAX, required, text

# What the table's columns hold (store/schema.py); beyond it these are left out, not refused: they
# are for people to read, and not worth losing a send.
SIGN_MAX = 128

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{6,100}")
_DIGEST = 32  # hex digits


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One request to a send API. `signs` maps each number (E.164), once, to its signature."""

    request: Mapping[str, object]
    context: Context
    send_api: str
    submitted_at: datetime
    signs: Mapping[str, str | None]
    out_id: str | None = None
    template_code: str | None = None

    def __repr__(self) -> str:
        return f"Sent({len(self.signs)} numbers)"

    def receipt(
        self,
        phone: str,
        biz_id: str,
        *,
        status: Status = Status.AWAITED,
        err_code: str | None = None,
        err_msg: str | None = None,
        err_class: ErrClass | None = None,
        segments: int | None = None,
    ) -> Receipt:
        """Return the row of one number."""
        return Receipt(
            provider=self.context.provider,
            account=self.context.account,
            biz_id=biz_id,
            phone=phone,
            status=status,
            origin=Origin.SEND,
            out_id=self.out_id,
            err_code=err_code,
            err_msg=err_msg,
            err_class=err_class,
            segments=segments,
            sign_name=self.signs.get(phone),
            template_code=self.template_code,
            send_api=self.send_api,
            submitted_at=self.submitted_at,
        )

    def awaited(self, biz_id: str, *, segments: int | None = None) -> list[Receipt]:
        """Return the rows of a request that was accepted as `biz_id`."""
        return [self.receipt(phone, biz_id, segments=segments) for phone in self.signs]

    def unanswered(self) -> list[Receipt]:
        """Return the rows of a request whose fate is not known."""
        return self.awaited(self.unanswered_id())

    def failed(
        self, code: str, message: str | None, request_id: str | None, refusal: Refusal | None
    ) -> list[Receipt]:
        """Return the rows of a request that was refused as a whole."""
        biz_id = self.failed_id(request_id)
        err_class = class_of(code, message, refusal)
        return [
            self.receipt(
                phone,
                biz_id,
                status=Status.FAILED,
                err_code=code,
                err_msg=message,
                err_class=err_class,
            )
            for phone in self.signs
        ]

    def failed_id(self, request_id: str | None) -> str:
        """Return the id that stands for the one that a refusal does not give."""
        return FAILED_ID + (request_id or self._digest())

    def unanswered_id(self) -> str:
        """Return the id that stands for the one that was never heard."""
        return UNANSWERED_ID + self._digest()

    def _digest(self) -> str:
        # The order of keys is no part of a request.
        pair = [self.request, self.submitted_at.astimezone(UTC).isoformat()]
        written = json.dumps(pair, sort_keys=True, separators=(",", ":"), default=repr)
        return hashlib.sha256(written.encode()).hexdigest()[:_DIGEST]


def is_synthetic(biz_id: str) -> bool:
    """Return whether an id is ours: no API knows it, and none can be asked about it."""
    return biz_id.startswith((FAILED_ID, UNANSWERED_ID))


def class_of(code: str, message: str | None, refusal: Refusal | None) -> ErrClass:
    """Return the class of a refused send: its table's, or what the platform words or text say.

    A number is looked up in no table but its own API's: carriers have other numbers.
    """
    if refusal is not None:
        return refusal.err_class
    known = code if code.startswith(("isv.", "isp.")) else None
    return classify(known, delivered=False, err_msg=message)


def told(data: Mapping[str, object], key: str, limit: int = CODE_MAX) -> str | None:
    """Return `fields.text`, or None where it would refuse."""
    try:
        return text(data, key, limit)
    except InvalidEnvelope:
        return None


def request_id(data: Mapping[str, object], key: str) -> str | None:
    """Return a request id that can be part of an identity, else None."""
    found = told(data, key, 100)
    return found if found is not None and _REQUEST_ID.fullmatch(found) else None


def numbers(data: Mapping[str, object], key: str, *, international: bool = False) -> list[str]:
    """Return the numbers under `key`, as E.164 where they can be read, in their order.

    Reads an array, JSON text of one, or text with commas (`13900000001,0085291234567`). Raises
    MISSING_FIELD if there is none, BAD_FIELD for what is no number.
    """
    value = data.get(key)
    found: list[object]
    if isinstance(value, str) and not value.lstrip().startswith("["):
        found = [part for part in value.split(",") if part.strip()]
    elif type(value) is int:
        found = [value]
    else:
        found = array(data, key)
    if not found:
        raise InvalidEnvelope(Reason.MISSING_FIELD, key)
    return [_number(one, key, international) for one in found]


def array(data: Mapping[str, object], key: str) -> list[object]:
    """Return the array under `key`, or in the JSON text there; empty if absent, null or "".

    Raises BAD_FIELD for anything else.
    """
    value = data.get(key)
    if value is None or value == "":
        return []
    if isinstance(value, str):
        value = parsed(value)
    if isinstance(value, list | tuple):
        return list(value)
    raise InvalidEnvelope(Reason.BAD_FIELD, key)


def parsed(value: str) -> object:
    """Return what JSON text holds; None for what is none."""
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _number(value: object, key: str, international: bool) -> str:
    number = required({key: value}, key, PHONE_MAX).strip()
    if not number:
        raise InvalidEnvelope(Reason.MISSING_FIELD, key)
    return to_e164(number, international=international)
