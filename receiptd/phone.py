"""Phone numbers: read them into E.164, and mask them for every eye but the database's."""

import re

import phonenumbers

# Mainland mobiles need no library: 11 digits, optionally behind the country code in any of its
# three spellings.
_MAINLAND = re.compile(r"(?:\+86|0086|86)?(1[3-9][0-9]{9})", re.ASCII)
_SPACING = str.maketrans("", "", " -()\u00a0")


def to_e164(number: str) -> str:
    """Return `number` as E.164 (`+8613900000001`) where it can be read, else exactly as received.

    Numbers outside the mainland come as country code and digits, with `+`, `00` or nothing before
    them (QuerySendDetails
    and SendSms documents).
    """
    if match := _MAINLAND.fullmatch(number):
        return "+86" + match[1]
    digits = number.translate(_SPACING)
    if match := _MAINLAND.fullmatch(digits):
        return "+86" + match[1]
    bare = digits[2:] if digits.startswith("00") else digits.removeprefix("+")
    if not (bare.isascii() and bare.isdigit() and 7 <= len(bare) <= 15):
        return number
    try:
        parsed = phonenumbers.parse("+" + bare)
    except phonenumbers.NumberParseException:
        return number
    if not phonenumbers.is_possible_number(parsed):
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def mask(number: str) -> str:
    """Return `number` with its middle hidden: `139****0001`, `+852****67`; short ones are hidden
    whole."""
    national = number.removeprefix("+86")
    if len(national) == 11 and national.isdigit():
        return f"{national[:3]}****{national[-4:]}"
    if len(number) < 8:
        return "****"
    return f"{number[:4]}****{number[-2:]}"
