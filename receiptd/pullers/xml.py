"""The brokers' XML, read message by message, so that one bad message costs the other fifteen
nothing."""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from xml.etree.ElementTree import Element, ParseError, XMLParser
from xml.parsers import expat

import msgspec

from receiptd.pullers.plain_xml import read_plainly

MAX_SALVAGED = 16  # what one call can ask for; a broken document gets no more
# Sixteen messages have under 700 tags. Above this the document is hostile, and a tree of it would
# take a hundred times its size.
_MAX_TAGS = 20_000
# The fields that we know, in the order of Message: as MNS spells them, and as RocketMQ does.
_TEXTS = ("MessageId", "ReceiptHandle", "MessageBodyMD5")
_BODY = "MessageBody"
_NUMBERS = (
    ("EnqueueTime", "PublishTime"),
    ("NextVisibleTime", "NextConsumeTime"),
    ("DequeueCount", "ConsumedTimes"),
)
_FIELDS = frozenset({*_TEXTS, _BODY, *(name for names in _NUMBERS for name in names)})
_MAX_PLAIN_BYTES = 1024  # no id, handle or time is longer
_MAX_DIGITS = 16  # milliseconds have 13
# An alternative of literals: linear, whatever the input.
_MARKS = re.compile(rb"<Message>|</Message>|<!\[CDATA\[|\]\]>")


class Message(msgspec.Struct, frozen=True, gc=False):
    """One `<Message>`. A text that is missing is "", a number that is missing or none is None.

    Times are the broker's, in milliseconds. `damaged` holds the raw bytes of one that was not well
    formed; the rest is then what could be saved, never the body.
    """

    envelope_id: str
    handle: str
    digest: str
    body: str  # with the space around it
    enqueued_ms: int | None
    visible_ms: int | None
    pull_count: int | None
    damaged: bytes | None = None

    def __repr__(self) -> str:
        return f"Message({self.envelope_id!r})"


class Refusal(msgspec.Struct, frozen=True):
    """An `<Error>`: the code of a whole call. Or `<Errors>`: (handle, code) of what failed."""

    code: str = ""
    request_id: str = ""
    handles: tuple[tuple[str, str], ...] | None = None

    def __repr__(self) -> str:
        return f"Refusal({self.code!r})"


def read_messages(document: bytes) -> list[Message] | None:
    """Return the messages of an answer, or None if it is no complete list of messages."""
    if document.count(b"<") <= _MAX_TAGS and (plain := read_plainly(document)) is not None:
        return _in_columns(plain)
    root = _parse(document)
    if root is None:
        return _salvage(document)
    name = _local(root.tag)
    if name == "Message":
        entries = [root]
    elif name == "Messages":
        entries = [child for child in root if _local(child.tag) == "Message"]
    else:
        return None
    messages = [_read_fields(entry) for entry in entries]
    if None not in messages:
        return [_message(fields) for fields in messages if fields is not None]
    segments = list(_exact_segments(document))
    return [
        _message(fields) if fields is not None else _damaged(segment)
        for fields, segment in zip(messages, segments, strict=True)
    ]


def read_refusal(document: bytes) -> Refusal | None:
    """Return what an error document says, or None if it is none. Missing elements are tolerated."""
    root = _parse(document)
    if root is None:
        return None
    name = _local(root.tag)
    if name == "Errors":
        entries = [_texts(entry) for entry in root if _local(entry.tag) == "Error"]
        return Refusal(
            handles=tuple(
                (entry.get("ReceiptHandle", ""), entry.get("ErrorCode") or entry.get("Code", ""))
                for entry in entries
            )
        )
    if name == "Error":
        texts = _texts(root)
        return Refusal(texts.get("Code") or texts.get("ErrorCode", ""), texts.get("RequestId", ""))
    return None


def _parse(document: bytes) -> Element | None:
    """Return the root, or None if this is not well formed or not harmless.

    A DTD is the only way to entity bombs and external entities; no broker sends one. The encoding
    is given, so that the document cannot choose one in which we would not see it.
    """
    if b"<!DOCTYPE" in document or document.count(b"<") > _MAX_TAGS:
        return None
    parser = XMLParser(encoding="utf-8")
    try:
        parser.feed(document)
        root: Element = parser.close()
    except (ParseError, ValueError):
        return None
    return root


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]  # the SDKs' namespaces differ by a trailing slash


def _texts(element: Element) -> dict[str, str]:
    return {_local(child.tag): "".join(child.itertext()).strip() for child in element}


def _read_fields(message: Element) -> dict[str, str] | None:
    """Return the fields that we know, or None if one holds elements, or comes twice."""
    fields: dict[str, str] = {}
    for child in message:
        name = _local(child.tag)
        if name in _FIELDS:
            if len(child) or name in fields:
                return None
            fields[name] = child.text or ""
    return fields


def _message(fields: Mapping[str, str], damaged: bytes | None = None) -> Message:
    (message,) = _in_columns({name: [text] for name, text in fields.items()} or {_BODY: [""]})
    return msgspec.structs.replace(message, damaged=damaged) if damaged is not None else message


def _in_columns(columns: Mapping[str, Sequence[str]]) -> list[Message]:
    """Return messages whose fields are given each by itself, which costs half of one by one."""
    absent = [""] * len(next(iter(columns.values())))
    texts = [list(map(str.strip, columns.get(name, absent))) for name in _TEXTS]
    numbers = [
        _integers(columns.get(ours) or columns.get(theirs, absent)) for ours, theirs in _NUMBERS
    ]
    return list(map(Message, *texts, columns.get(_BODY, absent), *numbers))


def _integers(column: Sequence[str]) -> Sequence[int | None]:
    whole = "".join(column)
    if whole.isascii() and whole.isdigit() and len(max(column, key=len)) < _MAX_DIGITS:
        with suppress(ValueError):  # one is empty
            return list(map(int, column))
    return [_integer(text.strip()) for text in column]


def _integer(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS:
        return int(text)
    return None


def _exact_segments(document: bytes) -> Iterator[bytes]:
    """Yield the raw bytes of each message of a well-formed document."""
    parser = expat.ParserCreate("utf-8")
    starts: list[int] = []
    ends: list[int] = []
    depth = 0

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal depth
        if depth == 1 and name.rpartition(":")[2] == "Message":
            starts.append(parser.CurrentByteIndex)
        depth += 1

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        if depth == 1 and name.rpartition(":")[2] == "Message":
            ends.append(document.index(b">", parser.CurrentByteIndex) + 1)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.Parse(document, True)
    for first, last in zip(starts, ends, strict=True):
        yield document[first:last]


def _salvage(document: bytes) -> list[Message] | None:
    """Read each message of a broken document by itself, in linear time."""
    end = document.rfind(b"</Messages>")
    start = document.find(b"<Messages")
    if not 0 <= start < end:
        return None  # not a list of messages, or cut off: what is missing comes again
    messages = []
    for segment in islice(_segments(document[start:end]), MAX_SALVAGED):
        root = _parse(segment)
        fields = _read_fields(root) if root is not None else None
        messages.append(_message(fields) if fields is not None else _damaged(segment))
    return messages or None


def _segments(document: bytes) -> Iterator[bytes]:
    """Yield the pieces that begin with `<Message>`; tags inside CDATA are text."""
    found = islice(_MARKS.finditer(document), _MAX_TAGS)
    marks = [(match.group(), match.start()) for match in found]
    start = -1
    index = 0
    while index < len(marks):
        mark, at = marks[index]
        if mark == b"<![CDATA[":
            index = _after_cdata(marks, index)
            continue
        if mark == b"</Message>" and start >= 0:
            yield document[start : at + len(mark)]
            start = -1
        elif mark == b"<Message>":
            if start >= 0:  # its end tag is missing
                yield document[start:at]
            start = at
        index += 1
    if start >= 0:
        yield document[start:]


def _after_cdata(marks: list[tuple[bytes, int]], opened: int) -> int:
    """Return where to go on after the CDATA section at `opened`: behind its end, or, if another
    begins before it ended, as if it were not there, so that it swallows no other message."""
    for index in range(opened + 1, len(marks)):
        if marks[index][0] == b"]]>":
            return index + 1
        if marks[index][0] == b"<![CDATA[":
            break
    return opened + 1


def _damaged(segment: bytes) -> Message:
    """Return what can be saved of a message: all but the body, which may hold anything, even text
    that looks like the other fields."""
    start = segment.find(b"<MessageBody>")
    stop = segment.rfind(b"</MessageBody>")
    around = segment[:start] + segment[stop:] if 0 <= start < stop else segment
    fields: dict[str, str] = {}
    for name in _FIELDS - {_BODY}:
        opening = b"<%s>" % name.encode()
        first = around.find(opening) + len(opening)
        last = around.find(b"</%s>" % name.encode(), first)
        if first < len(opening) or last < 0 or last - first > _MAX_PLAIN_BYTES:
            continue
        text = html.unescape(around[first:last].decode("latin-1")).strip()
        if text.isascii() and text.isprintable() and "<" not in text:
            fields[name] = text
    return _message(fields, segment)
