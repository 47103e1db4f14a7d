"""Which texts the providers take for phone numbers, and when two of them are the same number."""

import re

# Mainland numbers with or without the country code; elsewhere 00 or +, country code, number.
_MAINLAND = re.compile(r"(?:(?:\+|00)?86)?1[3-9]\d{9}")
_ABROAD = re.compile(r"(?:\+|00)?[1-9]\d{6,14}")
_PLAIN_MAINLAND = re.compile(r"1[3-9]\d{9}")


def is_phone_number(number: str) -> bool:
    """Tell whether the gateways take this for a phone number."""
    if not number.isascii():
        return False
    if _MAINLAND.fullmatch(number):
        return True
    return bool(_ABROAD.fullmatch(number)) and not (number.startswith("1") and len(number) < 11)


def is_mainland(plain: str) -> bool:
    """Tell whether a plain number (see below) is one of mainland China."""
    return plain.isascii() and bool(_PLAIN_MAINLAND.fullmatch(plain))


def plain_number(number: str) -> str:
    """Return the eleven digits of a mainland number, else country code and number."""
    digits = number.removeprefix("+").removeprefix("00")
    if len(digits) == 13 and digits.startswith("86") and is_mainland(digits[2:]):
        return digits[2:]
    return digits


def masked_number(number: str) -> str:
    """Return a number as the providers show it to those who may not know it."""
    return f"{number[:3]}****{number[-4:]}"
