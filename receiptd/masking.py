"""What may leave the process in a log line: no secret, no full phone number, no control character.

The last line of defence, behind the rule that such values are never passed to a logger.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from traceback import walk_tb

from receiptd import phone
from receiptd.errors import ReceiptdError

HIDDEN = "[hidden]"

# The last word of a field's name says what it holds: `security_token` is hidden, `token_expires_at`
# is not. Vendors' CamelCase is split into words, too.
_SECRET_WORDS = frozenset(
    {
        *("secret", "secrets", "token", "tokens", "handle", "handles", "signature", "cookie"),
        *("authorization", "password", "passwd", "credentials", "body", "bodies", "content"),
    }
)
_SECRET_NAMES = re.compile(r"(access|app|api|private|secret)_?key(_?id)?", re.ASCII)
_PHONE_WORDS = frozenset(["phone", "phones", "mobile", "mobiles", "tel", "recipient", "recipients"])
_PHONE_NAMES = frozenset({"phone_number", "phone_numbers", "rec_num"})
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# A digit before a number makes it part of a longer one (a BizId), unless the digits belong to an
# escape: `%20139…`, `\u0000139…`.
_START = r"(?:(?<![0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4}))"
_MAINLAND = re.compile(
    _START + r"((?:\+?86|0086|0)?[- ]?)([1１][3-9３-９]\d[- ]?\d{4}[- ]?\d{4})(?!\d)"
)
_E164 = re.compile(r"\+[0-9]{8,15}(?![0-9])")
_URL_CREDENTIALS = re.compile(r"//[^/@\s]*@")
# `Signature=…`, `"SecurityToken": "…"`, `<ReceiptHandle>…`, `Authorization: MNS id:…`
_PAIRS = re.compile(
    r"(?i)((?:access_?key_?(?:id|secret)|secret|token|receipt_?handle|signature|authorization"
    r"|message_?body|password|passwd)[\"']?(?:\s*[:=]\s*|>))((?:MNS|MQ|Bearer|Basic)\s+)?"
    r"(\"[^\"]*\"?|'[^']*'?|[^\s&,;<>\"']+)"
)

_LONGEST_TEXT = 2000
_MOST_ITEMS = 50
_DEEPEST = 6
_MOST_FRAMES = 12
_MOST_CAUSES = 5


def masked(name: str, value: object, depth: int = 0) -> object:
    """Return `value` as it may be shown under the field name `name`. Never raises for any type;
    what is no plain data becomes its type's name."""
    kind = _kind_of(name)
    if isinstance(value, Enum):
        value = value.value
    if value is None or value == "" or isinstance(value, bool):
        return value
    if kind == "secret":
        return HIDDEN
    if isinstance(value, float):
        return value
    if isinstance(value, int):
        return _number(value, is_phone=kind == "phone")
    if isinstance(value, str):
        return escaped(phone.mask(value)) if kind == "phone" else text(value)
    if depth > _DEEPEST:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        items = list(value.items())[:_MOST_ITEMS]
        return {text(str(key)): masked(str(key), item, depth + 1) for key, item in items}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        return [masked(name, item, depth + 1) for item in list(value)[:_MOST_ITEMS]]
    return _plain(value)


def text(value: str) -> str:
    """Return a text with phone numbers masked, secrets hidden, and control characters escaped."""
    value = value[:_LONGEST_TEXT]
    if "=" in value or ":" in value or ">" in value:
        value = _URL_CREDENTIALS.sub(f"//{HIDDEN}@", value)
        value = _PAIRS.sub(rf"\g<1>{HIDDEN}", value)
    value = _MAINLAND.sub(lambda match: match[1] + _mask_mainland(match[2]), value)
    value = _E164.sub(lambda match: phone.mask(match[0]), value)
    return escaped(value)


def escaped(value: str) -> str:
    """Return a text without control characters: an ESC or a newline in a vendor's message must
    neither steer a terminal nor begin a line."""
    if value.isprintable():
        return value
    return "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in value
    )


def exception(exc: BaseException) -> dict[str, object]:
    """Return an exception and its causes as types and frames.

    The text is kept only for receiptd's own errors: those of the SDKs and of the drivers hold
    whole bodies, handles and statements with their parameters.
    """
    told = _one_exception(exc)
    causes: list[dict[str, object]] = []
    cause = _cause_of(exc)
    while cause is not None and len(causes) < _MOST_CAUSES:
        causes.append(_one_exception(cause))
        cause = _cause_of(cause)
    if causes:
        told["causes"] = causes
    return told


def exception_text(exc: BaseException) -> str:
    """Return an exception in a few words: its type, and the text of one of our own."""
    name = type(exc).__name__
    return f"{name}: {text(str(exc))}" if isinstance(exc, ReceiptdError) else name


def _one_exception(exc: BaseException) -> dict[str, object]:
    frames = [
        f"{escaped(PurePath(frame.f_code.co_filename).name)}:{line} {frame.f_code.co_name}"
        for frame, line in walk_tb(exc.__traceback__)
    ]
    return {"type": exception_text(exc), "frames": frames[-_MOST_FRAMES:]}


def _cause_of(exc: BaseException) -> BaseException | None:
    if exc.__cause__ is not None:
        return exc.__cause__
    return None if exc.__suppress_context__ else exc.__context__


def _plain(value: object) -> object:
    if isinstance(value, BaseException):
        return exception_text(value)
    if isinstance(value, date):  # and datetime
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, PurePath):
        return text(str(value))
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    return f"<{type(value).__name__}>"


def _number(value: int, *, is_phone: bool) -> int | str:
    country, national = divmod(value, 10**11)
    # 11 digits from 13 on: as a number, too, a phone is a phone.
    if is_phone or (country in (0, 86) and 13_000_000_000 <= national < 20_000_000_000):
        return phone.mask(str(value))
    # JSON's readers, and the encoder, know 64 bits.
    return value if value.bit_length() < 64 else f"<{value.bit_length()} bits>"


def _mask_mainland(number: str) -> str:
    return phone.mask(number.replace(" ", "").replace("-", ""))


@lru_cache(maxsize=1024)
def _kind_of(name: str) -> str:
    """Return `secret`, `phone` or nothing for a field's name."""
    words = _CAMEL.sub("_", name).replace("-", "_").lower()
    last = words.rsplit("_", 1)[-1]
    if last in _SECRET_WORDS or _SECRET_NAMES.fullmatch(words):
        return "secret"
    return "phone" if last in _PHONE_WORDS or words in _PHONE_NAMES else ""
