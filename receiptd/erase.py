"""A person's data, out of every table, on the person's demand (PIPL article 47, GDPR article 17).

What becomes of a row that is about the number:

- receipts: stays, because it is what a provider bills and what the statistics count, but says no
  longer who: the phone becomes `erased:` and random characters of its own (not a hash, which is
  found by trying all numbers), out_id goes, and an id of ours that was made from the request is
  made random. Status, times, biz_id, code and text stay. Reconciliation asks no more about it, so
  an open status stays what it was.
- uplinks: deleted. outbox: deleted, if not delivered yet.
- journal: source, envelope_id, biz_id, times, kind and outcome stay; the phone goes, and the body
  becomes `{"erased":true}`. So does a body without a readable phone that mentions the number
  somewhere, though it may hold others' records too: what nobody could read cannot be taken apart.

In rows about somebody else, and in notices, where the number is only mentioned, just the mention
becomes `[erased]`. A redelivery, a replay or a new send brings rows back: erase again.

Each table is read once, in pages, beside live traffic; changes are made some rows at a time. Safe
to interrupt and to repeat.
"""

import re
import secrets
import threading
from base64 import b64decode
from binascii import Error as Base64Error
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection, Row

from receiptd import masking, phone
from receiptd.clock import Clock
from receiptd.errors import ReceiptdError, StoreUnavailable
from receiptd.model import FAILED_ID, UNANSWERED_ID
from receiptd.store import erasure, schema
from receiptd.store.erasure import STEP_ROWS, Change, Deleted, Plan, TableName
from receiptd.store.pages import pages

ERASED_BODY = '{"erased":true}'
ERASED = "[erased]"
TABLES: tuple[TableName, ...] = ("receipts", "uplinks", "journal", "outbox", "notices")

_PAGE_ROWS = 500  # a body may have 64 KiB
_TOKEN_BYTES = 16
# A busy daemon on the same SQLite file, or a deadlock on a server: it lets go many times meanwhile.
_ATTEMPTS = 5
_RETRY_PAUSE_S = 1.0

# What people write between digits, and the full-width digits of Chinese input methods.
_GAP = r"[-\s().·]{0,3}"
_DIGITS = {digit: f"[{digit}{chr(ord(digit) + 0xFEE0)}]" for digit in "0123456789"}
_DIGIT_AHEAD = re.compile("[0-9０-９]")
_LONGEST_PREFIX = 16  # +86, 0086 or a trunk 0, and gaps
_ESCAPE = re.compile(r"\\u00([0-9a-fA-F]{2})|%([0-9a-fA-F]{2})")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]{12,}={0,2}\s*")
_MAINLAND = "+86"

_Result = TypeVar("_Result")


class NotANumber(ReceiptdError):
    """What is to be erased is no phone number. The text does not hold it."""


class Number:
    """One phone number, found in whatever spelling."""

    def __init__(self, text: str) -> None:
        """Raises NotANumber for what cannot be read as E.164."""
        self.e164 = phone.to_e164(text.strip())
        if not re.fullmatch(r"\+[0-9]{7,15}", self.e164):
            raise NotANumber("is no phone number: write +8613900000001, or 13900000001 for China's")
        # Abroad, national numbers are short and not unique: there the country code belongs to it.
        is_mainland = self.e164.startswith(_MAINLAND) and len(self.e164) == 14
        self.digits = self.e164[3:] if is_mainland else self.e164[1:]
        self._core = re.compile(_GAP.join(_DIGITS[digit] for digit in self.digits))
        prefix = rf"(?:(?:(?:\+|00|)86|0){_GAP}|)" if is_mainland else rf"(?:(?:\+|00){_GAP}|)"
        if not is_mainland and phone.to_e164(self.digits).startswith(_MAINLAND):
            prefix = rf"(?:\+|00){_GAP}"  # without it, 13105551234 is a mobile in China
        self._before = re.compile(rf"(?:^|[^0-9０-９+])({prefix})\Z")
        self.hint = phone.mask(self.e164)

    def is_in(self, text: str) -> bool:
        """Return whether a text names the number, and not a longer one that only holds its digits.
        Escapes and base64 are looked through."""
        for reading in _readings(text):
            for _ in self._found(reading):
                return True
        return False

    def without(self, text: str) -> str:
        """Return a text with each mention replaced; the text as a whole, where that cannot be cut
        out."""
        parts, end = [], 0
        for start, stop in self._found(text):
            parts += [text[end:start], ERASED]
            end = stop
        cut = "".join(parts) + text[end:]
        return ERASED if self.is_in(cut) else cut

    def shares_digits(self, other: str) -> bool:
        """Return whether `other` is a number that ends with the same digits, or is the same one."""
        return re.sub("[^0-9]", "", other).endswith(self.digits)

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        for match in self._core.finditer(text):
            start, end = match.span()
            before = self._before.search(text[max(0, start - _LONGEST_PREFIX) : start])
            if before and not _DIGIT_AHEAD.match(text, end):
                yield start - len(before[1]), end


def _readings(text: str, depth: int = 2) -> Iterator[str]:
    yield text
    if "\\u00" in text or "%" in text:
        yield _ESCAPE.sub(lambda match: chr(int(match[1] or match[2], 16)), text)
    if depth and _BASE64.fullmatch(text):
        yield from _readings(_from_base64(text), depth - 1)


def _from_base64(text: str) -> str:
    compact = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        body = b64decode(compact + "=" * (-len(compact) % 4))
    except Base64Error:
        return ""
    return body.decode(errors="replace").replace("\0", "")  # UTF-16's digits, too


class Transactions(Protocol):
    """What is needed of the store."""

    def reading(self) -> AbstractContextManager[Connection]: ...
    def writing(self) -> AbstractContextManager[Connection]: ...


class Erased(msgspec.Struct, frozen=True):
    """What was done."""

    id: int | None  # of the record in `erasures`; None in a dry run
    rows: dict[TableName, int]
    has_traces: bool  # old copies in free space of SQLite's file, or its log


class Eraser:
    """One erasure. `told` hears of each page: the table, and what share of it is behind."""

    def __init__(
        self,
        store: Transactions,
        number: Number,
        clock: Clock,
        *,
        told: Callable[[TableName, float], None] = lambda table, done: None,
    ) -> None:
        self._store = store
        self._number = number
        self._clock = clock
        self._told = told
        self.rows: Counter[TableName] = Counter()

    def count(self) -> Erased:
        """Return what would be done."""
        for plan, ids in self._found():
            self.rows[plan.name] += len(ids)
        return Erased(None, self._counts(), has_traces=False)

    def run(self, *, asked_by: str, because: str | None = None, vacuum: bool = False) -> Erased:
        """Erase, and record that it was done: first that it was asked for, last that it ended.

        With `vacuum`, SQLite's file is written anew. Raises StoreUnavailable if the database takes
        none of five attempts at a step; what was done before stays done.
        """
        reason = because and masking.text(self._number.without(because))
        asker = masking.text(self._number.without(asked_by))
        now = self._clock.now()
        erasure_id = self._write(
            lambda connection: erasure.begin(
                connection,
                phone_hint=self._number.hint,
                because=reason and reason[: _length("because")],
                asked_by=asker[: _length("asked_by")],
                now=now,
            )
        )
        nobody = threading.Event()
        for plan, ids in self._found():
            began_at = self._clock.monotonic()
            self.rows[plan.name] += self._apply(plan, ids, erasure_id)
            self._clock.wait(nobody, self._clock.monotonic() - began_at)
        ended_at = self._clock.now()
        self._write(lambda connection: erasure.finish(connection, erasure_id, ended_at))
        self._write(lambda connection: erasure.settle_file(connection, vacuum=vacuum))
        with self._store.reading() as connection:
            traces = erasure.has_traces(connection, self._number.digits.encode())
        return Erased(erasure_id, self._counts(), has_traces=traces)

    def _apply(self, plan: Plan, ids: Sequence[int], erasure_id: int) -> int:
        return self._write(lambda connection: erasure.apply(connection, plan, ids, erasure_id))

    def _found(self) -> Iterator[tuple[Plan, Sequence[int]]]:
        for plan in _plans(self._number):
            for page in pages(self._store.reading, plan.table, plan.columns, page_rows=_PAGE_ROWS):
                ids = [row.id for row in page.rows if plan.decide(row) is not None]
                for start in range(0, len(ids), STEP_ROWS):
                    yield plan, ids[start : start + STEP_ROWS]
                self._told(plan.name, page.done)

    def _write(self, work: Callable[[Connection], _Result]) -> _Result:
        nobody = threading.Event()
        for _ in range(_ATTEMPTS - 1):
            try:
                with self._store.writing() as connection:
                    return work(connection)
            except StoreUnavailable:
                self._clock.wait(nobody, _RETRY_PAUSE_S)
        with self._store.writing() as connection:
            return work(connection)

    def _counts(self) -> dict[TableName, int]:
        return {table: self.rows[table] for table in TABLES}


def _plans(number: Number) -> Iterator[Plan]:
    """Yield what is looked at in each table."""
    send, reply, record = schema.receipts.c, schema.uplinks.c, schema.journal.c
    notification, notice = schema.outbox.c, schema.notices.c
    yield Plan(
        "receipts",
        (send.biz_id, send.phone, send.out_id, send.err_msg),
        lambda row: _receipt(number, row),
    )
    yield Plan("uplinks", (reply.phone, reply.content), lambda row: _uplink(number, row))
    yield Plan("journal", (record.phone, record.body), lambda row: _journal(number, row))
    yield Plan("outbox", (notification.phone, notification.body), lambda row: _outbox(number, row))
    yield Plan("notices", (notice.reason,), lambda row: _mentions(number, row, "reason"))


def _receipt(number: Number, row: Row[Any]) -> Change:
    if not _is_about(number, row.phone):
        return _mentions(number, row, "out_id", "err_msg")
    return {
        "phone": f"erased:{secrets.token_hex(_TOKEN_BYTES)}",
        "biz_id": _without_digest(row.biz_id),
        "out_id": None,
        "err_msg": row.err_msg and number.without(row.err_msg),
        "next_query_at": None,
    }


def _without_digest(biz_id: str) -> str:
    for prefix in (UNANSWERED_ID, FAILED_ID):
        if biz_id.startswith(prefix):
            return f"{prefix}erased:{secrets.token_hex(_TOKEN_BYTES)}"
    return biz_id


def _uplink(number: Number, row: Row[Any]) -> Change:
    return Deleted() if _is_about(number, row.phone) else _mentions(number, row, "content")


def _journal(number: Number, row: Row[Any]) -> Change:
    is_own = row.phone is not None and _is_about(number, row.phone)
    if is_own or (row.phone is None and number.is_in(row.body)):
        return {"phone": None, "body": ERASED_BODY, "encoding": "text"}
    change = _mentions(number, row, "body")
    if isinstance(change, dict) and change["body"] == ERASED:
        return {"body": ERASED_BODY, "encoding": "text"}
    return change


def _outbox(number: Number, row: Row[Any]) -> Change:
    is_own = row.phone is not None and _is_about(number, row.phone)
    if is_own or (row.phone is None and number.is_in(row.body)):
        return Deleted()
    return _mentions(number, row, "body")


def _is_about(number: Number, held: str) -> bool:
    # What could not be read as E.164 is held as received.
    return held == number.e164 or (not held.startswith("+") and number.is_in(held))


def _mentions(number: Number, row: Row[Any], *names: str) -> Change:
    """Return the texts of a row about somebody else without the number, None if it has none."""
    texts = {
        name: number.without(text)
        for name in names
        if (text := getattr(row, name)) is not None and number.is_in(text)
    }
    held = getattr(row, "phone", None) if texts else None
    if held is not None and number.shares_digits(held):
        return None  # their own, of another country: +1 310 555 1234 is not 13105551234
    return texts or None


def _length(column: str) -> int:
    return int(schema.erasures.c[column].type.length)  # type: ignore[attr-defined]
