"""Checks of a send's parameters, before anything is sent, shared by all send APIs. Pure.

Each returns problems, none if all is well. A place is the API's own parameter; values are not
shown, because most of them are numbers or what a person will read.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from receiptd.errors import Problem
from receiptd.phone import to_e164
from receiptd.providers.sends import parsed

BARE_MAINLAND = re.compile(r"1[3-9][0-9]{9}")
# With or without its country code.
MAINLAND = re.compile(rf"(?:(?:\+|00)?86)?{BARE_MAINLAND.pattern}")
# Others with theirs, behind `00` (S0) or bare (M4): what begins with a bare 1 is a mainland number
# that lacks a digit, before it is one of North America.
ANYWHERE = re.compile(
    rf"{MAINLAND.pattern}|(?:\+|00)(?!86)[1-9][0-9]{{6,14}}|(?!86)[2-9][0-9]{{6,14}}"
)

OUT_ID_BELOW = 256  # wire-formats 9 (D21)
_EXTEND_CODE = re.compile(r"[0-9]{1,7}")  # S0: at most seven


def present(request: Mapping[str, object], *places: str) -> list[Problem]:
    """Look for texts that must be there."""
    return [
        Problem(place, "is missing", cure="give one")
        for place in places
        if not isinstance(request.get(place), str) or not str(request[place]).strip()
    ]


def count(place: str, found: Sequence[object], most: int) -> list[Problem]:
    """Hold the numbers of one call to 1 … `most`."""
    if not found:
        return [Problem(place, "is missing", cure="give one number at least")]
    if len(found) > most:
        rule = f"at most {most:,} numbers in one call"
        return [Problem(place, rule, value=f"{len(found):,}", cure="send in several calls")]
    return []


def formats(place: str, found: Sequence[object], form: re.Pattern[str]) -> list[Problem]:
    """Hold each number to its form, and all of them to be different."""
    cure = "write mainland numbers as 11 digits"
    if form is not BARE_MAINLAND:
        cure += ", others as 00, country code and number"
    wrong = [
        Problem(f"{place}[{index}]", "is no phone number", cure=cure)
        for index, number in enumerate(found)
        if not isinstance(number, str) or not form.fullmatch(number)
    ]
    twice = sum(times - 1 for times in Counter(to_e164(str(one)) for one in found).values())
    if twice:
        # Both would have one id, and one receipt could not be told from the other's.
        rule, cure = "holds a number more than once", "send the second SMS in a call of its own"
        wrong.append(Problem(place, rule, value=f"{twice} times", cure=cure))
    return wrong


def same_length(place: str, found: Sequence[object], of: str, wanted: int) -> list[Problem]:
    """Hold an array to one element per number."""
    if len(found) == wanted:
        return []
    cure = f"give one element per number of {of}"
    return [
        Problem(place, f"must be as long as {of}", value=f"{len(found)}, not {wanted}", cure=cure)
    ]


def texts(place: str, found: Sequence[object]) -> list[Problem]:
    """Hold each element of an array to be a text with something in it."""
    return [
        Problem(f"{place}[{index}]", "is missing", cure="give a text")
        for index, one in enumerate(found)
        if not isinstance(one, str) or not one.strip()
    ]


def variables(place: str, found: object) -> list[Problem]:
    """Hold a template's variables to an object of texts (S0: JSON参数不合法,只接受字符串值)."""
    if not isinstance(found, Mapping):
        return [Problem(place, "is not a JSON object", cure='write {"code":"1234"}')]
    return [
        Problem(place, "has a value that is no text", cure="put every value into quotes")
        for value in found.values()
        if not isinstance(value, str)
    ][:1]


def extend_code(place: str, found: object) -> list[Problem]:
    """Hold an extension code to its form."""
    if isinstance(found, str) and _EXTEND_CODE.fullmatch(found):
        return []
    return [Problem(place, "is no extension code", cure="give 1 to 7 digits")]


def extend_codes(place: str, found: Sequence[object]) -> list[Problem]:
    """Hold each element of an array to be an extension code."""
    return [
        problem
        for index, code in enumerate(found)
        for problem in extend_code(f"{place}[{index}]", code)
    ]


def out_id(place: str, found: object) -> list[Problem]:
    """Hold the sender's own id to its length."""
    if found is None or (isinstance(found, str) and len(found) < OUT_ID_BELOW):
        return []
    rule = f"must be a text of fewer than {OUT_ID_BELOW} characters"
    return [Problem(place, rule, cure="shorten it")]


def json_array(request: Mapping[str, object], place: str) -> tuple[list[object], list[Problem]]:
    """Return the array in the JSON text at `place`, and what is wrong with it as one."""
    value = request.get(place)
    if value is None or value == "":
        return [], [Problem(place, "is missing", cure="give a JSON array")]
    found = parsed(value) if isinstance(value, str) else None
    if isinstance(found, list):
        return found, []
    return [], [Problem(place, "is not the JSON text of an array", cure="give a JSON array")]


def per_number(place: str, given: Sequence[object], wanted: int) -> list[Problem]:
    """Hold what an order gives to one for all numbers, or one per number."""
    if len(given) in (1, wanted):
        return []
    rule = "must be one for all numbers, or one per number"
    return [Problem(place, rule, value=f"{len(given)} for {wanted}", cure="count them")]
