"""The brokers' lists of messages as they always write them, in one pass.

A fifth of the cost of a parser and a tree. What is written in any other way (attributes, entities,
CDATA, comments, other namespaces' prefixes, damage) is no concern of this module: it says so, and
xml.py reads it.
"""

import re

# What a parser refuses or changes: control characters, \r, the beginning of an entity.
_PLAIN_BYTES = bytes(byte for byte in range(0x20, 0x100) if byte != ord("&")) + b"\t\n"
_NO_TEXT = "]]>", "\ufffe", "\uffff"
# Without space around it, which is stripped elsewhere.
_FIELD = re.compile(r"<([A-Za-z0-9]+)>((?!\s)[^<]*(?<!\s))</\1>")
_BEGIN = re.compile(
    r'(?:<\?xml version="1.0"(?: encoding="(?:utf|UTF)-8")? ?\?>)?\s*'
    r'<Messages(?: xmlns="[ -!#-;=?-~]*")?>'
)
_MESSAGE, _MESSAGE_END, _END = "<Message>", "</Message>", "</Messages>"


def read_plainly(document: bytes) -> list[dict[str, str]] | None:
    """Return the fields of each message of a complete list, or None if it is not written plainly.

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
    *messages, end = text[begin.end() :].split(_MESSAGE_END)
    if end.strip() != _END:
        return None
    found = []
    for message in messages:
        pairs = _FIELD.findall(message)
        fields = dict(pairs)
        if (
            message.count("<") != 2 * len(pairs) + 1
            or len(fields) != len(pairs)
            or not message.lstrip().startswith(_MESSAGE)
        ):
            return None
        found.append(fields)
    return found
