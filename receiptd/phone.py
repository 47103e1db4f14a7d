"""Phone numbers: read them into E.164, and mask them for every eye but the database's."""

import re

# Mainland mobiles need no library: 11 digits, optionally behind the country code in any of its
# three spellings.
_MAINLAND = re.compile(r"(?:\+86|0086|86)?(1[3-9][0-9]{9})")
_SPACING = str.maketrans("", "", " -()\u00a0")

# Below this, a mask that shows six characters would show most of the number.
_MASKED_WHOLE_BELOW = 10
_MASKABLE = re.compile(r"\+?[0-9*]+")


def to_e164(number: str, *, international: bool = False) -> str:
    """Return `number` as E.164 (`+8613900000001`) where it can be read, else exactly as received.

    Numbers outside the mainland come as country code and digits, with `+`, `00` or nothing before
    them (wire-formats 8.1 and 9: QuerySendDetails and SendSms documents). Eleven bare digits can
    be read twice: `13105551234` is a mainland mobile, or a number in the United States. Pass
    `international` where the document says that every number carries its country code.
    """
    if not international and _is_bare_mainland(number):
        return "+86" + number
    digits = number.translate(_SPACING)
    if not international and (match := _MAINLAND.fullmatch(digits)):
        return "+86" + match[1]
    bare = digits[2:] if digits.startswith("00") else digits.removeprefix("+")
    if not (bare.isascii() and bare.isdigit() and 7 <= len(bare) <= 15):
        return number
    # Imported here: 1 MB and 13 ms that a sender to mainland mobiles never needs.
    import phonenumbers

    try:
        parsed = phonenumbers.parse("+" + bare)
    except phonenumbers.NumberParseException:
        return number
    if not phonenumbers.is_possible_number(parsed):
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def _is_bare_mainland(number: str) -> bool:
    # As nearly all are written; half of the pattern's cost.
    digits = number.isascii() and number.isdigit()
    return digits and len(number) == 11 and "13" <= number[:2] <= "19"


def mask(number: str) -> str:
    """Return `number` with its middle hidden: `139****0001`, `+852****67`.

    Short ones are hidden whole, and so is what is no number, because it ends on terminals and in
    logs.
    """
    number = number.translate(_SPACING)
    if not _MASKABLE.fullmatch(number):
        return "****"
    national = number.removeprefix("+86")
    if len(national) == 11:
        return f"{national[:3]}****{national[-4:]}"
    if len(number) < _MASKED_WHOLE_BELOW:
        return "****"
    return f"{number[:4]}****{number[-2:]}"
