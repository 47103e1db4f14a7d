"""A file as pieces: lines, or the elements of JSON that is laid out over many. Nothing is judged
here, and no piece is larger than LONGEST, whatever the file."""

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

import msgspec

LONGEST = 4 << 20  # 16 messages of 64 KiB in base64 are 1.4 MiB

_CHUNK = 1 << 16
_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_BETWEEN = b" \t\r\n,"
# A string, a string whose end is not there yet, or what structures the rest.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|(\\?\Z))|[\[\]{}]', re.DOTALL)


class Piece(msgspec.Struct, frozen=True):
    """A numbered line or element, from 1; or why there is none."""

    number: int
    body: bytes | None
    flaw: str = ""


def pieces(file: BinaryIO, on_read: Callable[[int], None]) -> Iterator[Piece]:
    """Yield what is not blank of a file of lines, or of JSON over many lines; `on_read` is told how
    many bytes each took."""
    reader = _Reader(file, on_read)
    head = reader.not_blank()
    if head is None:
        return
    second = reader.line() if _may_go_on(head) else None
    if second is None or (head.startswith(b"{") and second.lstrip(_SPACE).startswith(b"{")):
        yield from _lines(reader, head, second)
    else:
        seam = b"" if len(head) >= LONGEST else b"\n"
        yield from _elements(head + seam + second, reader)


class _Reader:
    """A file, read in pieces of at most LONGEST bytes."""

    def __init__(self, file: BinaryIO, on_read: Callable[[int], None]) -> None:
        self._file = file
        self._on_read = on_read
        self.number = 0  # of the line that was read last

    def line(self) -> bytes:
        """Return the next line, or as much of it as LONGEST; b"" at the end."""
        line = self._file.readline(LONGEST)
        self._on_read(len(line))
        self.number += bool(line)
        return line.removeprefix(_BOM) if self.number == 1 else line

    def not_blank(self) -> bytes | None:
        """Return the next line that holds something, without the space around it unless it is too
        long; None at the end."""
        while line := self.line():
            if text := line.strip(_SPACE):
                return line if len(line) >= LONGEST and not line.endswith(b"\n") else text
        return None

    def skip_rest(self) -> None:
        """Pass over the rest of a line that is too long."""
        while (rest := self._file.readline(LONGEST)) and not rest.endswith(b"\n"):
            self._on_read(len(rest))
        self._on_read(len(rest))

    def chunk(self) -> bytes:
        """Return some more bytes; b"" at the end."""
        data = self._file.read(_CHUNK)
        self._on_read(len(data))
        return data


def _may_go_on(head: bytes) -> bool:
    """Whether the first line is the beginning of JSON that goes on in the next.

    `{broken` is a broken line of many: what is laid out over lines breaks off behind a bracket or a
    comma.
    """
    if head[:1] not in (b"{", b"["):
        return False
    if len(head) >= LONGEST:
        return head.startswith(b"[")  # an array in one line
    depth = 0
    for token in _TOKEN.finditer(head):
        depth += token[0] in b"[{"
        depth -= token[0] in b"]}"
    return depth > 0 and head[-1:] in (b"{", b"[", b",")


def _lines(reader: _Reader, head: bytes, second: bytes | None) -> Iterator[Piece]:
    line: bytes | None = head
    number = reader.number
    if second is not None:
        yield Piece(number - bool(second), head)
        line = second.strip(_SPACE) or reader.not_blank()
        number = reader.number
    while line is not None:
        if len(line) >= LONGEST:
            reader.skip_rest()
            yield Piece(number, None, "is longer than 4 MiB")
        else:
            yield Piece(number, line)
        line = reader.not_blank()
        number = reader.number


def _elements(head: bytes, reader: _Reader) -> Iterator[Piece]:
    """Yield the elements of an array, or objects one after another, as they stand in the file.

    What stands between them and is none is a piece, too, and will be refused as one.
    """
    depth = base = int(head.startswith(b"["))  # where elements are
    buffer, number = head[base:], 0
    at = start = 0  # what is looked at next; where the element began, or what is before it
    while True:
        for token in _TOKEN.finditer(buffer, at):
            if token[1] is not None:  # a string whose end is not there yet
                at = token.start()
                break
            at = token.end()
            begins = token[0] in b"[{" and depth == base
            ends = token[0] in b"]}" and depth == base + 1
            if (begins or (token[0] == b"]" and depth == base)) and (
                between := buffer[start : token.start()].strip(_BETWEEN)
            ):
                number += 1
                yield Piece(number, between)
            if begins:
                start = token.start()
            elif ends:
                number += 1
                yield Piece(number, buffer[start:at])
                start = at
            elif token[0] == b"]" and depth == base == 1:  # the array's own: others may follow
                start, base = at, 0
            depth = max(base, depth + (token[0] in b"[{") - (token[0] in b"]}"))
        else:
            at = len(buffer)
        if at - start > LONGEST or len(buffer) - start > LONGEST:
            yield Piece(number + 1, None, "is longer than 4 MiB, and nothing behind it was read")
            return
        more = reader.chunk()
        if not more:
            break
        buffer, at, start = buffer[start:] + more, at - start, 0
    if rest := buffer[start:].strip(_BETWEEN):
        yield Piece(number + 1, rest)
