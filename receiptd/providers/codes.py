"""What an err_code means: the dictionary of carriers' and platforms' codes. Pure but for its file.

`err_codes.csv` holds one row per code and carrier: err_class, confidence, `ambiguous` (yes where
carriers or suppliers mean different things by it), and `source`: `aliyun-2019` the official table
of 2019 and `aliyun-platform` the platform words (wire-formats 1.4: M2, D6), `cmpp-table` and
`other` public tables of carriers and other platforms, `wire-formats-…` the section that names the
code, `receiptd` a class that is our own reading: what the sender has to put right (signature,
template, account, permission) is `config`, a class that the tables did not have.
"""

import csv
import pkgutil
from functools import cache

from receiptd.model import ErrClass

# The official table cuts every code to ten characters: wire-formats 1.4 (M2).
_CUT = 10

# Families whose every member means the same. The others of wire-formats 1.4 (`MK:`, `ID:`, `DB:`,
# `SGIP:` …) are numbered lists: a member that the table does not have is unknown.
_FAMILIES: tuple[tuple[str, ErrClass], ...] = (
    ("VALVE:", ErrClass.LIMIT),  # the platform's filter of repetitions per minute, hour, day
)

# What the text says where the code says nothing. A text that speaks of two classes decides
# nothing, so the order of rows has no meaning.
_KEYWORDS: tuple[tuple[str, ErrClass], ...] = (
    ("空号", ErrClass.INVALID_NUMBER),
    ("号码不存在", ErrClass.INVALID_NUMBER),
    ("号码错误", ErrClass.INVALID_NUMBER),
    ("号码格式", ErrClass.INVALID_NUMBER),
    ("非法号码", ErrClass.INVALID_NUMBER),
    ("关机", ErrClass.ABSENT),
    ("停机", ErrClass.ABSENT),
    ("不在服务区", ErrClass.ABSENT),
    ("暂停服务", ErrClass.ABSENT),
    ("无法接通", ErrClass.ABSENT),
    ("欠费", ErrClass.ABSENT),  # of the phone: the sender's own account is a 余额 matter
    ("黑名单", ErrClass.BLACKLIST),
    ("退订", ErrClass.BLACKLIST),
    ("签名", ErrClass.CONFIG),
    ("模板", ErrClass.CONFIG),
    ("余额", ErrClass.CONFIG),
    ("关键字", ErrClass.CONTENT),
    ("关键词", ErrClass.CONTENT),
    ("敏感", ErrClass.CONTENT),
    ("违禁", ErrClass.CONTENT),
    ("流控", ErrClass.LIMIT),
    ("频率", ErrClass.LIMIT),
    ("频次", ErrClass.LIMIT),
    ("超限", ErrClass.LIMIT),
    ("过期", ErrClass.EXPIRED),
    ("有效期", ErrClass.EXPIRED),
    ("网关", ErrClass.CARRIER),
    ("路由", ErrClass.CARRIER),
)


def classify(err_code: str | None, *, delivered: bool, err_msg: str | None = None) -> ErrClass:
    """Return what `err_code` means for an SMS that was, or was not, delivered.

    The provider's own success or state decides whether it was, never the code: a delivered SMS is
    `ok` whatever its code, and a failure never is. Where the code is ambiguous, unlisted or says
    success, the text decides, if it speaks of one class only; else it is `unknown`.
    """
    if delivered:
        return ErrClass.OK
    found = _of_code(err_code) if err_code else ErrClass.UNKNOWN
    if found is ErrClass.UNKNOWN or found is ErrClass.OK:
        return _of_text(err_msg) if err_msg else ErrClass.UNKNOWN
    return found


def _of_code(err_code: str) -> ErrClass:
    table = load()
    found = table.get(err_code)
    if found is not None:
        return found
    for prefix, meaning in _FAMILIES:
        if err_code.startswith(prefix):
            return meaning
    # Only platform words were cut; a carrier's numbered code that begins alike is another code.
    if err_code.startswith(("isv.", "isp.")):
        return table.get(err_code[:_CUT], ErrClass.UNKNOWN)
    return ErrClass.UNKNOWN


def _of_text(err_msg: str) -> ErrClass:
    found = {meaning for word, meaning in _KEYWORDS if word in err_msg}
    return found.pop() if len(found) == 1 else ErrClass.UNKNOWN


@cache
def load() -> dict[str, ErrClass]:
    """Return code -> class, ambiguous codes as `unknown`; read once, on first use, in 1 ms."""
    lines = csv.reader(_lines())
    next(lines)  # the header; `rows` reads it
    return {
        code: ErrClass.UNKNOWN if ambiguous else ErrClass(err_class)
        for code, _, err_class, _, ambiguous, _ in lines
    }


def rows() -> list[dict[str, str]]:
    """Return the rows of the data file as they stand."""
    return list(csv.DictReader(_lines()))


def _lines() -> list[str]:
    # pkgutil, because it works from a zip and costs a tenth of importlib.resources' import.
    data = pkgutil.get_data("receiptd.providers", "err_codes.csv") or b""
    return data.decode().splitlines()
