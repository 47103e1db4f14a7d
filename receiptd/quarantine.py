"""The quarantine, as an operator sees it: what each reason means and how it is cured, bodies that
are safe to look at, and the decision to drop."""

import binascii
import getpass
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

import msgspec
from sqlalchemy import Connection

from receiptd import masking, phone
from receiptd.model import Reason
from receiptd.pullers.xml import read_messages
from receiptd.store import journal
from receiptd.store.journal import Group, JournalRow, Selection

# Ids of one look at the index, and rows of one transaction.
_IDS = 20_000
_DROP_ROWS = 500
_LONGEST_SHOWN = 2000


class Advice(msgspec.Struct, frozen=True):
    """A reason in words, and what an operator can do."""

    meaning: str
    cure: str


_REPLAY = "then `receiptd replay --quarantined`"
_LOOK = "look at it (`receiptd quarantine show ID`)"
_UPGRADE = f"upgrade receiptd or its provider plug-in, {_REPLAY}"

ADVICE: Mapping[str, Advice] = {
    Reason.NOT_BASE64: Advice(
        "the body of the MNS message is not base64",
        f"{_LOOK}: a sender of your own must write base64 into the queue; {_REPLAY}, which also "
        "takes plain JSON",
    ),
    Reason.NO_BODY: Advice(
        "the message had no body",
        "nothing is lost: drop it, and ask whoever writes into this queue",
    ),
    Reason.DAMAGED: Advice(
        "the broker's answer around the message was damaged on its way; the raw bytes are kept",
        "the message came again by itself, as it could not be acked: drop it if its receipt is "
        "there, else ask the provider (`receiptd reconcile`)",
    ),
    Reason.NOT_UTF8: Advice(
        "the body is not UTF-8",
        f"{_LOOK} and ask the provider for UTF-8, or {_UPGRADE}",
    ),
    Reason.NOT_JSON: Advice(
        "the body is no JSON",
        f"{_LOOK}: a test message or another program's is to be dropped, a new format wants an "
        f"upgrade, {_REPLAY}",
    ),
    Reason.TOO_DEEP: Advice(
        "the JSON is nested deeper than any receipt",
        "no provider sends this: drop it, and ask who may write into this queue",
    ),
    Reason.NOT_AN_OBJECT: Advice(
        "the JSON is no object, or an empty array",
        f"{_LOOK}, and drop it if it is a test message",
    ),
    Reason.UNKNOWN_SHAPE: Advice(
        "JSON, but none of the provider's known messages",
        f"compare the source's message_type and account with the queue, correct them, {_REPLAY}; "
        "a new kind of message wants an upgrade",
    ),
    Reason.MISSING_FIELD: Advice(
        "a field that every such message has is missing; it is named behind the colon",
        f"{_LOOK}: if the provider changed its format, {_UPGRADE}",
    ),
    Reason.BAD_FIELD: Advice(
        "a field holds what it never held; it is named behind the colon",
        f"{_LOOK}: if the provider changed its format, {_UPGRADE}",
    ),
    Reason.KILLS_READER: Advice(
        "after more than five deliveries two processes that read it died, or hung for 3 s",
        f"a bug in receiptd, a provider plug-in or the interpreter: report it with the body; "
        f"after the fix, `receiptd replay --quarantined --reason {Reason.KILLS_READER}`",
    ),
    Reason.STORE_REJECTED: Advice(
        "the database refused the row",
        f"look at the log of that time and at triggers and constraints of your own, {_REPLAY}",
    ),
    Reason.UNEXPECTED_ERROR: Advice(
        "a bug in receiptd or in a provider plug-in",
        f"report it with the log's `envelope.failed` line; {_UPGRADE}",
    ),
}
_OTHER = Advice("a reason that this version does not know", f"{_LOOK}; {_UPGRADE}")


class Reader(Protocol):
    """What is needed of the store."""

    def reading(self) -> AbstractContextManager[Connection]: ...
    def writing(self) -> AbstractContextManager[Connection]: ...


class Shelf(msgspec.Struct, frozen=True):
    """All quarantined rows of one reason, with the newest of them."""

    reason: str
    rows: int
    newest_at: datetime | None
    newest: Sequence[JournalRow]


def advice(reason: str | None) -> Advice:
    """Return what a reason means, with or without its detail, and what to do about it."""
    return ADVICE.get((reason or "").partition(":")[0], _OTHER)


def shelves(store: Reader, selection: Selection, newest: int) -> list[Shelf]:
    """Return the quarantine by reason, with up to `newest` rows each, that of the newest row first.

    Without a source it reads the index alone, and then the rows that it returns. Raises
    StoreUnavailable.
    """
    with store.reading() as connection:
        return [
            _shelf(connection, selection, group, newest)
            for group in journal.groups(connection, selection)
        ]


def _shelf(connection: Connection, selection: Selection, group: Group, newest: int) -> Shelf:
    rows = journal.newest_of(connection, selection, group.reason, max(newest, 1))
    at = rows[0].received_at if rows else None
    return Shelf(group.reason, group.rows, at, rows[:newest])


def find(store: Reader, row_id: int) -> JournalRow | None:
    """Return a row of the journal, whatever became of it. Raises StoreUnavailable."""
    with store.reading() as connection:
        return next(iter(journal.fetch(connection, [row_id])), None)


def count(store: Reader, selection: Selection, most: int) -> int:
    """Return how many rows are quarantined, counted up to `most`. Raises StoreUnavailable."""
    with store.reading() as connection:
        return journal.count(connection, selection, quarantined=True, most=most)


def drop(store: Reader, ids: Sequence[int], because: str) -> int:
    """Drop these rows, if they are quarantined; return how many. They stay in the journal, with
    both reasons. Raises StoreUnavailable: some may be dropped then, and the rest is not."""
    dropped = 0
    for start in range(0, len(ids), _DROP_ROWS):
        with store.writing() as connection:
            some = ids[start : start + _DROP_ROWS]
            dropped += journal.mark_dropped(connection, some, because)
    return dropped


def drop_all(
    store: Reader, selection: Selection, because: str, on_step: Callable[[int], None]
) -> int:
    """Drop all rows of a selection, as `drop`; `on_step` is told how many after each transaction.

    Rows that come meanwhile may be among them.
    """
    dropped = 0
    for ids in id_pages(store, selection):
        for start in range(0, len(ids), _DROP_ROWS):
            done = drop(store, ids[start : start + _DROP_ROWS], because)
            dropped += done
            on_step(done)
    return dropped


def signed(because: str) -> str:
    """Return why a row is dropped, behind who says so: the user of the operating system."""
    try:
        who = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        who = f"uid {os.getuid()}"
    return masking.text(f"{who}: {because.strip()}")


def id_pages(store: Reader, selection: Selection, after_id: int = -1) -> Iterator[list[int]]:
    """Yield the ids of quarantined rows in rising order, page by page. Raises StoreUnavailable."""
    while True:
        with store.reading() as connection:
            ids = journal.quarantined_ids(connection, selection, after_id, _IDS)
        if ids:
            yield ids
        if len(ids) < _IDS:
            return
        after_id = ids[-1]


# --- bodies ---

_SPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def readable(body: bytes) -> bytes:
    """Return the JSON that a body holds in one of the wrappings that are known: base64, in any
    spelling, and the broker's XML. A body without one is returned as it is."""
    text = body.removeprefix(_BOM).strip(_SPACE)
    if text[:1] in (b"{", b"["):
        return body
    if text.startswith(b"<"):
        messages = read_messages(text) or []
        inner = messages[0].body if len(messages) == 1 else ""
        text = inner.strip().encode(errors="replace")
        if text[:1] in (b"{", b"["):
            return text
    decoded = _from_base64(text)
    if decoded is not None and decoded.removeprefix(_BOM).lstrip(_SPACE)[:1] in (b"{", b"["):
        return decoded
    return body


def _from_base64(text: bytes) -> bytes | None:
    compact = b"".join(text.split()).translate(_URL_SAFE).rstrip(b"=")
    try:
        return binascii.a2b_base64(compact + b"=" * (-len(compact) % 4), strict_mode=True)
    except binascii.Error:
        return None


# A number under a key that says it is a phone: of other countries, too, which bare nobody knows.
_PHONE_FIELD = re.compile(
    r"(?i)((?:phone|mobile|rec_?num|receiver|sender|recipient|\bto|\btel)(?:_?numbers?)?"
    r"\\*\"?\s*[:=]\s*\\*\"?)"
    r"(\+?[0-9][0-9 -]{5,24})"
)
# Where a text can be cut without cutting a number, a name or an escape.
_SEAM = re.compile(r"[^0-9A-Za-z+\-\\ _=:\"']")
_PIECE = 1500  # masking.text shows 2,000 characters


def shown(body: bytes, most: int | None = _LONGEST_SHOWN) -> str:
    """Return a body as text for any eye: phones masked, secrets hidden, control characters escaped,
    and cut after `most` characters. What wraps it is taken off, or phones would hide there."""
    text = readable(body).decode(errors="backslashreplace")
    text = _PHONE_FIELD.sub(lambda match: match[1] + phone.mask(match[2].strip(" -")), text)
    safe = "".join(map(masking.text, _pieces(text)))
    if most is None or len(safe) <= most:
        return safe
    return f"{safe[:most]} … and {len(safe) - most} more characters"


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PIECE:
        end = start + _PIECE
        seam = next((at for at in range(end, start, -1) if _SEAM.match(text, at)), None)
        cut = end if seam is None else seam + 1
        yield text[start:cut]
        start = cut
    yield text[start:]
