"""Files as what a replay goes through: JSON in any layout, base64 bodies of MNS, and the journal as
`receiptd export` writes it."""

import csv
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

import msgspec

from receiptd import quarantine
from receiptd.export import unguarded
from receiptd.model import REPLAY_SOURCE, Outcome
from receiptd.providers.decode import parse_object
from receiptd.replay.batches import BATCH_ROWS, ERASED, Batch, Item, Refused
from receiptd.replay.lines import LONGEST, Piece, pieces
from receiptd.replay.meaning import BadRequest, Meanings, is_question
from receiptd.store.journal import body_bytes

_BATCH_BYTES = 4 << 20
# What makes an object, or a row of CSV, one of an exported journal.
_JOURNAL = frozenset({"source", "envelope_id", "body", "encoding", "outcome"})
_UNTOLD = "say what is read: --type aliyun.SmsReport, and --account"


class _Row(msgspec.Struct, frozen=True):
    """One body, and what an exported journal says about it."""

    body: bytes
    source: str | None = None
    envelope_id: str | None = None
    outcome: str | None = None


def read_file(
    file: BinaryIO, name: str, meanings: Meanings, *, after: int = 0, rows: int = BATCH_ROWS
) -> Iterator[Batch]:
    """Yield a file in batches, beginning behind line or element `after`. `Batch.size` is in bytes,
    and its position the file and its last line.

    Raises BadRequest for the first body that nobody says how to read, OSError.
    """
    batch = Batch(position=(name, "--after-line", str(after)))
    held = 0
    read = 0

    def on_read(size: int) -> None:
        nonlocal read
        read += size

    for number, found in _rows(file, on_read):
        if number <= after:
            continue
        batch.position = (name, "--after-line", str(number))
        held += _add(batch, f"{name}:{number}", found, meanings)
        full = len(batch.items) + len(batch.refused) + batch.passed_over >= rows
        if full or held >= _BATCH_BYTES:
            batch.size, read, held = read, 0, 0
            yield batch
            batch = Batch(position=batch.position)
    batch.size = read
    yield batch


def _add(batch: Batch, place: str, found: _Row | Refused, meanings: Meanings) -> int:
    if isinstance(found, Refused):
        batch.refused.append(Refused(place, found.rule))
        return 0
    is_dropped = (found.outcome or "").startswith(Outcome.DROPPED)
    if is_dropped or found.body == ERASED or is_question(found.source or ""):
        batch.passed_over += 1
        return 0
    meaning = meanings.of_file(found.source)
    if meaning is None:
        if found.source is None:
            raise BadRequest("--type", _UNTOLD)
        batch.unexplained[found.source] += 1
        return 0
    item = Item(
        source=REPLAY_SOURCE,
        envelope_id=found.envelope_id or place,
        body=quarantine.readable(found.body),
        handle="",
        place=place,
    )
    batch.items.append((meaning, item))
    return len(found.body)


def _rows(file: BinaryIO, on_read: Callable[[int], None]) -> Iterator[tuple[int, _Row | Refused]]:
    stream = pieces(file, on_read)
    for piece in stream:
        columns = _columns(piece)
        if columns is not None:
            yield from _csv(columns, _Lines(file, on_read, piece.number))
            return
        yield piece.number, _row(piece)


def _row(piece: Piece) -> _Row | Refused:
    if piece.body is None:
        return Refused("", piece.flaw)
    if b'"encoding"' not in piece.body:
        return _Row(piece.body)
    data = parse_object(piece.body)
    if not isinstance(data, dict) or not data.keys() >= _JOURNAL:
        return _Row(piece.body)
    return _of_journal(data)


def _of_journal(data: Mapping[str, object]) -> _Row | Refused:
    texts = [data[name] for name in ("body", "encoding", "source", "envelope_id", "outcome")]
    body, encoding, source, envelope_id, outcome = map(str, texts)
    if not isinstance(texts[0], str) or not body:
        return Refused("", "has no body: was it exported with --mask?")
    return _Row(body_bytes(body, encoding), source, envelope_id, outcome)


# --- CSV ---


def _columns(piece: Piece) -> list[str] | None:
    """Return the columns if this is the header of an exported journal."""
    if piece.body is None or piece.body[:1] in (b"{", b"[") or b"," not in piece.body:
        return None
    names = next(csv.reader([piece.body.decode(errors="replace")]), [])
    return names if _JOURNAL.issubset(names) else None


def _csv(names: list[str], lines: "_Lines") -> Iterator[tuple[int, _Row | Refused]]:
    limit = csv.field_size_limit(LONGEST)  # for the process; put back below
    try:
        reader = csv.reader(lines)
        while True:
            try:
                cells = next(reader, None)
            except csv.Error:
                yield lines.number, Refused("", "is no CSV, and nothing behind it was read")
                return
            if cells is None:
                return
            if len(cells) != len(names):
                rule = f"has {len(cells)} fields where the header has {len(names)}"
                yield lines.number, Refused("", rule)
                continue
            texts = dict(zip(names, map(unguarded, cells), strict=True))
            yield lines.number, _of_journal(texts)
    finally:
        csv.field_size_limit(limit)


class _Lines:
    """The lines behind a header as they are, because a body may go over several of them."""

    def __init__(self, file: BinaryIO, on_read: Callable[[int], None], number: int) -> None:
        self._file = file
        self._on_read = on_read
        self.number = number

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(LONGEST):
            self._on_read(len(line))
            self.number += 1
            yield line.decode(errors="replace")
