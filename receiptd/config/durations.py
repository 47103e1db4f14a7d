"""Durations as people write them (`15m`, `72h`, `30d`, `forever`), and as the code reads them."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

FOREVER = "forever"

_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_DURATION = re.compile(r"([0-9]{1,6})([smhd])")
_RULE = 'must be a duration: a whole number and one of s, m, h, d, such as "15m"'


def parse(value: object) -> timedelta:
    """Return `"15m"` as a timedelta; a timedelta is returned as it is. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(_RULE)
    duration = int(match[1]) * _UNITS[match[2]]
    if not duration:
        raise ValueError("must be longer than nothing")
    return duration


def parse_or_forever(value: object) -> timedelta | None:
    """Return a duration, or None for `"forever"`. Raises ValueError."""
    if value is None or value == FOREVER:
        return None
    try:
        return parse(value)
    except ValueError as exc:
        raise ValueError(f'{exc}, or "{FOREVER}"') from None


def text(value: timedelta | None) -> str:
    """Return a duration as it would be written, in the largest unit that is exact."""
    if value is None:
        return FOREVER
    for unit, length in reversed(_UNITS.items()):
        if not value % length:
            return f"{value // length}{unit}"
    raise ValueError("a duration has no fractions of a second")


Duration = Annotated[
    timedelta,
    BeforeValidator(parse),
    PlainSerializer(text),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,6}[smhd]$"}),
]

DurationOrForever = Annotated[
    timedelta | None,
    BeforeValidator(parse_or_forever),
    PlainSerializer(text),
    WithJsonSchema({"type": "string", "pattern": f"^([0-9]{{1,6}}[smhd]|{FOREVER})$"}),
]
