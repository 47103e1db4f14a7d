"""Sends from files: CSV with a header, NDJSON, or JSON, one line at a time into the ledger.

A line that cannot be booked is told and passed over. Everything is bounded, so that a file of any
size, with lines of any length, takes the same memory.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import BinaryIO, TypeAlias

import msgspec

from receiptd.errors import ConfigError, InvalidEnvelope, StoreRejected
from receiptd.ledger import COLUMNS_CURE, OWN, Ledger, Recorded, Send, UnreadableSend, unreadable
from receiptd.providers.decode import decode, parse_object
from receiptd.providers.fields import parse_time, text
from receiptd.providers.sends import told

BATCH_ROWS = 500

_LONGEST_LINE = 1 << 20  # a request with 1,000 numbers has 40 KB
_TIME_CURE = "write 2024-05-06T15:08:09+08:00, or 2024-05-06 15:08:09 for China's time"

# A numbered line: an object, or why there is none.
Line: TypeAlias = tuple[int, Mapping[str, object] | UnreadableSend]
_Bytes: TypeAlias = Iterator[tuple[int, bytes | UnreadableSend]]


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file."""

    lines: int  # that are not blank, without a header
    bad: int  # lines that were refused
    undated: int  # rows without submitted_at
    recorded: Recorded


class Importer:
    """Books the lines of one file. `account` and `api` count where a line names none, and
    `submitted_at` likewise: None where a file tells of the past, and only its lines know when."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        account: str,
        api: str,
        submitted_at: datetime | None = None,
        on_bad: Callable[[int, str, str], None],
    ) -> None:
        """`on_bad` is told the number of each refused line, the rule and the cure. `stored` is what
        is durable so far."""
        self._ledger = ledger
        self._account = account
        self._api = api
        self._submitted_at = submitted_at
        self._on_bad = on_bad
        self._waiting: list[tuple[int, Send]] = []
        self.stored = Recorded()
        self._lines = self._bad = self._undated = 0

    def run(self, lines: Iterator[Line]) -> Imported:
        """Book all lines, `BATCH_ROWS` a transaction.

        Raises StoreUnavailable; what was stored before stays, and all can be imported again.
        """
        rows = 0
        for number, data in lines:
            self._lines += 1
            try:
                if isinstance(data, UnreadableSend):
                    raise data
                send = self._read(data)
            except UnreadableSend as exc:
                self._refuse(number, exc.rule, exc.cure)
                continue
            if rows and rows + len(send.receipts) > BATCH_ROWS:
                self._flush()
                rows = 0
            self._waiting.append((number, send))
            rows += len(send.receipts)
        self._flush()
        return Imported(
            lines=self._lines, bad=self._bad, undated=self._undated, recorded=self.stored
        )

    def _read(self, data: Mapping[str, object]) -> Send:
        account = told(data, "account") or self._account
        try:
            self._ledger.books(account)
        except ConfigError as exc:
            raise UnreadableSend("there is no such account", exc.problems[0].cure) from None
        try:
            if "request" in data or "response" in data:
                return self._pair(data, account)
            send_api = None if self._api == OWN else self._api
            at = _moment(data) or self._submitted_at
            send = self._ledger.read_own(account, data, at, send_api)
        except InvalidEnvelope as exc:
            raise unreadable(exc, COLUMNS_CURE) from None
        self._undated += at is None
        return send

    def _pair(self, data: Mapping[str, object], account: str) -> Send:
        api = told(data, "api") or self._api
        if api == OWN:
            raise UnreadableSend("api is missing", "name the API that was called, or give --api")
        at = _moment(data) or self._submitted_at
        if at is None:
            raise UnreadableSend("submitted_at is missing", _TIME_CURE)
        if "response" not in data:
            raise UnreadableSend("response is missing", "write {} if no answer came")
        request, response = as_object(data.get("request")), as_object(data["response"] or {})
        for name, value in (("request", request), ("response", response)):
            if value is None:
                raise UnreadableSend(f"{name} is no JSON object", "give it as the API has it")
        return self._ledger.read(api, account, request or {}, response or {}, at)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            self.stored += self._ledger.save([send for _, send in waiting])
        except StoreRejected:
            # One line's data was refused: it must not hold back the others.
            for number, send in waiting:
                try:
                    self.stored += self._ledger.save([send])
                except StoreRejected as exc:
                    self._refuse(number, str(exc), "shorten or correct it")

    def _refuse(self, number: int, rule: str, cure: str) -> None:
        self._bad += 1
        self._on_bad(number, rule, cure)


def read_file(file: BinaryIO, on_read: Callable[[int], None] = lambda size: None) -> Iterator[Line]:
    """Yield the lines of a CSV or NDJSON file, whichever its first line is; `on_read` is told how
    many bytes each took."""
    lines = _not_blank(_lines(file, on_read))
    first = next(lines, None)
    if first is None:
        return
    number, head = first
    if isinstance(head, UnreadableSend):
        yield number, head
    elif head.startswith(b"["):
        cure = "write one object per line: jq -c '.[]'"
        yield number, UnreadableSend("is an array, and no line of NDJSON", cure)
    elif head.startswith(b"{"):
        yield number, _object(head)
        yield from ((number, _object(line)) for number, line in lines)
    else:
        yield from _csv(number, head, lines)


def read_json(file: BinaryIO) -> Iterator[Line]:
    """Yield the objects of JSON in any layout, of an array, or of NDJSON, which is not read as a
    whole. What is no line has its place in the array as a number."""
    head = file.readline(_LONGEST_LINE)
    if isinstance(parse_object(head), dict):
        yield 1, _object(head)
        for number, line in _not_blank(_lines(file)):
            yield number + 1, _object(line)
        return
    body = head + file.read()
    if not body.strip():
        yield 1, UnreadableSend("there is nothing to read", "give a JSON object on stdin")
        return
    try:
        parts = decode(body)
    except InvalidEnvelope:
        for number, line in enumerate(body.splitlines(), 1):
            if line.strip():
                yield number, _object(line)
        return
    for part in parts:
        data = part.data
        if isinstance(data, InvalidEnvelope):
            yield part.index + 1, UnreadableSend("is no JSON object", "give a JSON object")
        else:
            yield part.index + 1, data


def as_object(value: object) -> Mapping[str, object] | None:
    """Return an object, or the one in JSON text (which some SDKs answer); None for all else."""
    if isinstance(value, str):
        value = value.encode(errors="replace")
    if isinstance(value, bytes):
        found = parse_object(value)
        return None if isinstance(found, InvalidEnvelope) else found
    return value if isinstance(value, Mapping) else None


def moment(value: str) -> datetime | None:
    """Return a time as UTC: ISO 8601 with its zone, or the providers' formats, which are China's
    time; None for what is neither."""
    found = parse_time(value)
    if found is not None:
        return found
    try:
        iso = datetime.fromisoformat(value)
        found = iso.astimezone(UTC) if iso.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
    return found if found is not None and 2000 <= found.year <= 2099 else None


def _moment(data: Mapping[str, object]) -> datetime | None:
    value = text(data, "submitted_at")
    if value is None:
        return None
    found = moment(value.strip())
    if found is None:
        raise UnreadableSend("submitted_at is no time, or has no zone", _TIME_CURE)
    return found


def _object(line: bytes | UnreadableSend) -> Mapping[str, object] | UnreadableSend:
    if isinstance(line, UnreadableSend):
        return line
    found = parse_object(line.strip())
    if isinstance(found, InvalidEnvelope):
        return UnreadableSend(f"is no JSON object ({found})", "write one object per line")
    return found


def _csv(number: int, head: bytes, lines: _Bytes) -> Iterator[Line]:
    # A line at a time: a quote that is never closed must cost its own line, not all that follow.
    names = [name.strip().lower() for name in _cells(head) or ()]
    missing = [name for name in ("phone", "biz_id") if name not in names]
    if missing:
        rule = f"the header lacks {' and '.join(missing)}"
        yield number, UnreadableSend(rule, COLUMNS_CURE)
        return
    for number, line in lines:
        if isinstance(line, UnreadableSend):
            yield number, line
            continue
        cells = _cells(line)
        if cells is None:
            cure = "save the file as CSV in UTF-8, one send per line"
            yield number, UnreadableSend("is no line of CSV in UTF-8", cure)
        elif len(cells) != len(names):
            rule = f"has {len(cells)} fields where the header has {len(names)}"
            yield number, UnreadableSend(rule, "quote what holds a comma")
        else:
            yield number, dict(zip(names, map(str.strip, cells), strict=True))


def _cells(line: bytes) -> list[str] | None:
    try:
        return next(csv.reader([line.decode()], strict=True), None)
    except (UnicodeDecodeError, csv.Error):
        return None


def _lines(file: BinaryIO, on_read: Callable[[int], None] = lambda size: None) -> _Bytes:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        on_read(len(line))
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) < _LONGEST_LINE or line.endswith(b"\n"):
            yield number, line.strip()
            continue
        while rest := file.readline(_LONGEST_LINE):
            on_read(len(rest))
            if rest.endswith(b"\n"):
                break
        yield number, UnreadableSend("is longer than 1 MiB", "is this a file of lines?")


def _not_blank(lines: _Bytes) -> _Bytes:
    return ((number, line) for number, line in lines if line != b"")
