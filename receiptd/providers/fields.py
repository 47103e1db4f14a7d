"""Tolerant readers of single fields, for the normalizers of all providers. Pure.

Each takes the object and the key. A value that the database could not hold, or that is not of the
kind asked for, raises InvalidEnvelope(BAD_FIELD, key); its text never holds the value.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from receiptd.china import OFFSET
from receiptd.errors import InvalidEnvelope
from receiptd.model import Reason
from receiptd.phone import to_e164

# Characters, not bytes. Identifiers beyond these are refused, because they are keys and a cut key
# is another key.
BIZ_ID_MAX = 128
PHONE_MAX = 64
OUT_ID_MAX = 256  # Aliyun's own limit is 256 (wire-formats 9, D21)
CODE_MAX = 64  # err_code, dest_code, template_code, statuses
NAME_MAX = 128  # sign_name and template names
MESSAGE_MAX = 1024  # err_msg: cut, because no receipt is worth losing for its prose
TEXT_MAX = 4096  # content, reason: what people wrote, kept whole or not at all

SEGMENTS_MAX = 9999

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def text(data: Mapping[str, object], key: str, limit: int = CODE_MAX) -> str | None:
    """Return the text or number under `key` as text, verbatim; None if absent, null or empty."""
    value = data.get(key)
    if type(value) is str:
        if len(value) <= limit and "\0" not in value and (value.isascii() or _encodable(value)):
            return value or None
    elif value is None:
        return None
    elif type(value) is int and value.bit_length() <= limit * 3:  # str() fails on 4,300 digits
        return str(value)
    raise InvalidEnvelope(Reason.BAD_FIELD, key)


def message(data: Mapping[str, object], key: str) -> str | None:
    """Return `text`, cut after MESSAGE_MAX characters; the journal has it whole."""
    found = text(data, key, TEXT_MAX * 4)
    return found[:MESSAGE_MAX] if found else None


def required(data: Mapping[str, object], key: str, limit: int = CODE_MAX) -> str:
    """Return `text`, or raise InvalidEnvelope(MISSING_FIELD) where there is none."""
    found = text(data, key, limit)
    if found is None:
        raise InvalidEnvelope(Reason.MISSING_FIELD, key)
    return found


def phone(data: Mapping[str, object], key: str, *, international: bool = False) -> str:
    """Return the number under `key` as E.164 where it can be read, else as received (masked)."""
    return to_e164(required(data, key, PHONE_MAX), international=international)


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def boolean(data: Mapping[str, object], key: str) -> bool:
    """Return true for true, 1, "1" and "true" in any case, false likewise.

    Raises MISSING_FIELD if absent, null or empty, BAD_FIELD for anything else.
    """
    value = data.get(key)
    if type(value) is bool:
        return value
    found = _BOOLEANS.get(required(data, key).lower())
    if found is None:
        raise InvalidEnvelope(Reason.BAD_FIELD, key)
    return found


def segments(data: Mapping[str, object], key: str) -> int | None:
    """Return the number of billed segments, from 1 or "1" (wire-formats 1.2), else None.

    A count that cannot be read is not worth losing a receipt: None, never a refusal.
    """
    value = data.get(key)
    if type(value) is str and len(value) <= 4 and value.isascii() and value.isdigit():
        return int(value)
    if type(value) is int and 0 <= value <= SEGMENTS_MAX:
        return value
    return None


def sequence(data: Mapping[str, object], key: str) -> str:
    """Return a required identity that some write as a number, some as text, some as a Double.

    `568000001`, `"568000001"`, `568000001.0` and `5.68000001E8` are one identity (wire-formats
    2.1: D2 says Double, real messages hold an integer): all give `568000001`.
    """
    found = required(data, key, BIZ_ID_MAX)
    if found.isascii() and found.isdigit():
        return found
    if not _DECIMAL.fullmatch(found):
        return found
    number = Decimal(found)
    # A huge exponent is a small text but a huge integer: left as received.
    if number.adjusted() > 40 or number != number.to_integral_value():
        return found
    return str(int(number))


def china_time(data: Mapping[str, object], key: str) -> datetime | None:
    """Return the time under `key`, aware, in UTC, or None.

    Reads `yyyy-MM-dd HH:mm:ss` and 14 digits, both UTC+8 whatever the host's zone (wire-formats
    1.3: B1), RFC 2822 with its own zone (wire-formats 1.5: D10) and epoch milliseconds. A time
    that cannot be read, or lies outside 2000-2099, is not worth losing a receipt: it is None, and
    the journal keeps the original.
    """
    value = data.get(key)
    if type(value) is int and 0 <= value < 10**14:
        value = str(value)
    return parse_time(value) if type(value) is str else None


@lru_cache(maxsize=128)  # to the second, so that busy minutes hold few of them
def parse_time(value: str) -> datetime | None:
    """Return `value` as `china_time` does."""
    # Not strptime: it takes 8 µs, and full-width digits too. The separators are looked at because
    # fromisoformat also reads "2024-05-06 15:08+08", which is 19 characters as well.
    if len(value) == 19 and value[4] == value[7] == "-" and value[13] == value[16] == ":":
        return _shanghai(value) if value[10] == " " else None
    if value.isascii() and value.isdigit():
        if len(value) == 14:
            return _shanghai(
                f"{value[:4]}-{value[4:6]}-{value[6:8]} {value[8:10]}:{value[10:12]}:{value[12:]}"
            )
        if len(value) == 13:
            return _within_reason(_EPOCH + timedelta(milliseconds=int(value)))
        return None
    return _rfc2822(value)


def _shanghai(value: str) -> datetime | None:
    # 20xx only: what is older than texting or further than 2099 is a placeholder or a mistake.
    # Python 3.14 reads hour 24 as the next day; no release of ours may depend on which Python.
    if value[:2] != "20" or value[11:13] > "23":
        return None
    try:
        return datetime.fromisoformat(value + "+00:00") - OFFSET
    except ValueError:
        return None


_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,40})?(?:[eE][+]?[0-9]{1,4})?")
_RFC2822 = re.compile(
    r"(?:[A-Z][a-z]{2}, )?([0-9]{1,2}) ([A-Z][a-z]{2}) ([0-9]{4}) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) (?:GMT|UTC|([+-])([0-9]{2})([0-9]{2}))"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _rfc2822(value: str) -> datetime | None:
    found = _RFC2822.fullmatch(value) if len(value) <= 40 else None
    if found is None or found[2] not in _MONTHS:
        return None
    offset = timedelta(hours=int(found[8] or 0), minutes=int(found[9] or 0))
    try:
        local = datetime(
            int(found[3]),
            _MONTHS.index(found[2]) + 1,
            int(found[1]),
            int(found[4]),
            int(found[5]),
            int(found[6]),
            tzinfo=UTC,
        )
        return _within_reason(local + offset if found[7] == "-" else local - offset)
    except (ValueError, OverflowError):
        return None


def _within_reason(time: datetime) -> datetime | None:
    return time if 2000 <= time.year <= 2099 else None


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate: no database takes it (pitfalls P8)
        return False
    return True
