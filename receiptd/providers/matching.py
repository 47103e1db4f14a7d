"""Which row of a query's answer is the send that was asked about, where rows bear no biz_id. Pure.

Taking another send's outcome for this one's would be worse than taking none, because nobody would
look again: what cannot be told apart is not taken, and counted.
"""

from collections.abc import Sequence
from datetime import timedelta

from receiptd.model import Receipt
from receiptd.phone import to_e164
from receiptd.providers.base import Asked, Found
from receiptd.providers.sends import is_synthetic

# Between the call of the send API and the hand-over to the carrier, which is what a row's time is:
# less than nothing where the host's clock is ahead, half an hour where the provider was busy.
EARLIEST = timedelta(minutes=-5)
LATEST = timedelta(minutes=30)


def choose(
    rows: Sequence[Found], asked: Asked, *, is_whole_day: bool
) -> tuple[tuple[Found, ...], int]:
    """Return the row of `asked` among rows of its number, or none and how many it may have been.

    The sender's own id and the time decide together; a row with another id is another send's.
    Without any such row the time decides alone, if the provider's id narrowed the question and the
    rows are all of the day. Two rows that fit equally well are none.
    """
    fitting = [row for row in rows if _could_be(row.receipt, asked)]
    named = [
        row for row in rows if row.receipt.out_id is not None and row.receipt.out_id == asked.out_id
    ]
    found = [row for row in named if row in fitting]
    if not named and is_whole_day and not is_synthetic(asked.biz_id):
        found = fitting
    if len(found) == 1:
        return (found[0],), 0
    timeless = [row for row in rows if row.receipt.sent_at is None and row.receipt.out_id is None]
    return (), len(named or [*fitting, *timeless])


def _could_be(row: Receipt, asked: Asked) -> bool:
    if asked.out_id is not None and row.out_id is not None and row.out_id != asked.out_id:
        return False
    if row.sent_at is None:
        return row.out_id is not None
    return EARLIEST <= row.sent_at - asked.submitted_at <= LATEST


def askable(phone: str) -> str | None:
    """Return a number as the query APIs take it: 11 digits for the mainland's, country code and
    digits for others (wire-formats 8.1), None for one that cannot be asked for."""
    if not (phone.startswith("+") and phone[1:].isascii() and phone[1:].isdigit()):
        return None
    mainland = phone.startswith("+86") and len(phone) == 14
    return phone[3:] if mainland else phone[1:]


def is_number_of(asked: Asked, number: str | None) -> bool:
    """Return whether a row's number is the one asked for; one that is absent or masked, or that
    nobody can read, is: the question was for one number."""
    if number is None:
        return True
    # Eleven bare digits can be read twice.
    readings = {to_e164(number), to_e164(number, international=True)}
    return asked.phone in readings or all(not one.startswith("+") for one in readings)
