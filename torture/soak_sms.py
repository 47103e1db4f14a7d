"""The SMS of the soak: each is made from its number, so that the truth about a million of them
takes no memory."""

import enum
import time
from collections.abc import Iterator

from receiptd.sandbox.receipts import jushita_report, sms_report, sms_up

_FIRST_BIZ_ID = 800_000_000_000_000_000


class Oddity(enum.Enum):
    """What is not as it should be with a receipt; each with one SMS in a hundred."""

    TWICE = 0  # the receipt comes twice
    CONTRADICTED = 1  # an older receipt says the opposite, and comes last
    ANSWERED = 2  # the phone's user answers
    POISONED = 3  # something that cannot be understood comes with it


_ODDITIES = {one.value: one for one in Oddity}


def biz_id(number: int) -> str:
    """Return the BizId of an SMS."""
    return f"{_FIRST_BIZ_ID + number}^0"


def number_of(biz_id: str) -> int | None:
    """Return which SMS has this BizId, None if it is none of the soak's."""
    digits, _, suffix = biz_id.partition("^")
    return int(digits) - _FIRST_BIZ_ID if suffix == "0" and digits.isdigit() else None


def phone(number: int) -> str:
    """Return the number that an SMS went to, as the providers write it."""
    return f"139{number:08d}"


def is_delivered(number: int) -> bool:
    """Return what became of an SMS: four in five are delivered, the others failed."""
    return _draw(number) // 100 % 5 != 0


def oddity(number: int) -> Oddity | None:
    """Return what is odd about the receipt of an SMS."""
    return _ODDITIES.get(_draw(number) % 100)


def receipts_of(number: int) -> int:
    """Return how many receipts are sent for an SMS."""
    return 2 if oddity(number) in (Oddity.TWICE, Oddity.CONTRADICTED) else 1


def bodies(number: int, odd: Oddity | None, *, jushita: bool) -> Iterator[bytes]:
    """Yield the receipts of an SMS, in the order in which they come."""
    now = time.time()
    yield _report(number, is_delivered(number), now, jushita=jushita)
    if odd is Oddity.TWICE:
        yield _report(number, is_delivered(number), now, jushita=jushita)
    elif odd is Oddity.CONTRADICTED:
        yield _report(number, not is_delivered(number), now - 30, jushita=jushita)


def reply(number: int) -> bytes:
    """Return what the phone's user answers."""
    return sms_up(
        phone=phone(number),
        content="TD",
        dest_code="2400001",
        sign_name="示例",
        sequence_id=_FIRST_BIZ_ID + number,
        at=time.time(),
    )


def _report(number: int, success: bool, reported_at: float, *, jushita: bool) -> bytes:
    shape = jushita_report if jushita else sms_report
    return shape(
        biz_id=biz_id(number),
        phone=phone(number),
        out_id="",
        code="DELIVERED" if success else "MK:0001",
        success=success,
        sent_at=reported_at - 2,
        reported_at=reported_at,
    )


def _draw(number: int) -> int:
    # Knuth's multiplicative hash: the same in each process, and nothing to be remembered.
    return (number * 2_654_435_761 & 0xFFFF_FFFF) >> 12
