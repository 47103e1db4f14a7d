"""The brokers' lists of messages as they always write them, in one pass.

A quarter of the cost of a parser and a tree. What is written in any other way (attributes,
entities, CDATA, comments, prefixes, messages that are not all alike, damage) is no concern of this
module: it says so, and xml.py reads it.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

# What a parser refuses or changes: control characters, \r, the beginning of an entity.
_PLAIN_BYTES = bytes(byte for byte in range(0x20, 0x100) if byte != ord("&")) + b"\t\n"
_NO_TEXT = "\ufffe", "\uffff"
_BEGIN = re.compile(
    r'(<\?xml version="1.0"(?: encoding="(?:utf|UTF)-8")? ?\?>)?\s*'
    r'<Messages(?: xmlns="[ -!#-;=?-~]*")?>'
)
_END_OF_ONE, _END = "</Message>", "</Messages>"
_NAME = re.compile(r"<([A-Za-z0-9]+)>[^<]*</")
_MOST_FIELDS = 32  # twice what any message has


def read_plainly(document: bytes) -> Mapping[str, Sequence[str]] | None:
    """Return the values of each field, message by message, of a complete list, or None if it is not
    written plainly.

    Never another answer than the parser's: each `<` of the document is accounted for.
    """
    if document.translate(None, _PLAIN_BYTES):
        return None
    try:
        text = document.decode()
    except UnicodeDecodeError:
        return None
    begin = _BEGIN.match(text)
    if begin is None or any(mark in text for mark in _NO_TEXT):
        return None
    if "]" in text and "]]>" in text:  # one character is sought ten times as fast as three
        return None
    # They are all written alike: the first one tells how.
    names = tuple(_NAME.findall(text, begin.end(), text.find(_END_OF_ONE)))
    if not 2 <= len(names) <= _MOST_FIELDS or len(set(names)) != len(names):
        return None
    found = _alike(names).findall(text, begin.end())
    tags = 2 * len(found) * (len(names) + 1) + (2 if begin[1] is None else 3)
    if document.count(b"<") != tags or not text.rstrip().endswith(_END):
        return None
    return dict(zip(names, zip(*found, strict=True), strict=True))


@lru_cache(maxsize=16)
def _alike(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return the pattern of a message that has these fields in this order."""
    fields = r"\s*+".join(f"<{name}>([^<]*+)</{name}>" for name in names)
    return re.compile(rf"<Message>\s*+{fields}\s*+</Message>")
