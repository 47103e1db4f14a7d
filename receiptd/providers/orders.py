"""From a SendOrder to what send APIs want to read. Pure."""

import json
from collections.abc import Sequence


def dialled(phone: str) -> str:
    """Return a number as the send APIs want it: 11 digits for the mainland's, `00` before others
    in E.164 (S0); anything else as it is."""
    if phone.startswith("+86") and len(phone) == 14:
        return phone[3:]
    return "00" + phone[1:] if phone.startswith("+") else phone


def written(value: object) -> str:
    """Return a value as JSON text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)


def each(given: Sequence[object], wanted: int) -> list[object]:
    """Return one element per number: what stands for all is repeated."""
    return list(given) * wanted if len(given) == 1 else list(given)
