"""The XML that both queue services read and write."""

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape

from receiptd.sandbox.exchange import ServiceError, refusal
from receiptd.sandbox.mailbox import Delivery, Message, Refused

PROLOG = b'<?xml version="1.0" encoding="UTF-8"?>\n'

# `"` and `'` need no escape in element text, but the services escape them; a bare CR would reach
# the client as LF.
_ENTITIES = {'"': "&quot;", "'": "&apos;", "\r": "&#13;"}

FAILURE_TEXT = {
    Refused.EXPIRED: "The receipt handle you provided has expired.",
    Refused.UNKNOWN: "The receipt handle you provided is not valid.",
}


def element(name: str, value: object) -> str:
    """Return `<name>value</name>`, escaped."""
    return f"<{name}>{escape(str(value), _ENTITIES)}</{name}>"


def document(root: str, namespace: str, *children: str | bytes) -> bytes:
    """Return a whole document; bytes children go in verbatim."""
    inner = b"".join(c if isinstance(c, bytes) else c.encode() for c in children)
    return PROLOG + f'<{root} xmlns="{namespace}">'.encode() + inner + f"</{root}>".encode()


def error_document(namespace: str, error: ServiceError, request_id: str, host_id: str) -> bytes:
    """Return the answer to a request that failed as a whole."""
    return document(
        "Error",
        namespace,
        element("Code", error.code),
        element("Message", error.message),
        element("RequestId", request_id),
        element("HostId", host_id),
    )


def errors_document(namespace: str, failed: Iterable[tuple[str, str, str]]) -> bytes:
    """Return the answer to a delete of which some handles (handle, code, text) failed."""
    return document(
        "Errors",
        namespace,
        *(
            "<Error>"
            + element("ErrorCode", code)
            + element("ErrorMessage", text)
            + element("ReceiptHandle", handle)
            + "</Error>"
            for handle, code, text in failed
        ),
    )


def failures(refused: Iterable[tuple[str, Refused]]) -> list[tuple[str, str, str]]:
    """Return what `errors_document` wants for handles that do not work."""
    return [(handle, reason.value, FAILURE_TEXT[reason]) for handle, reason in refused]


def parse(body: bytes) -> ET.Element:
    """Parse a request body, or refuse it with MalformedXML."""
    try:
        return ET.fromstring(body)
    except ET.ParseError:
        raise refusal("MalformedXML", "The XML you provided is not well-formed.") from None


def local_name(node: ET.Element) -> str:
    """Return the tag without its namespace, which the SDKs write with and without a slash."""
    return node.tag.rpartition("}")[2]


def fields(node: ET.Element) -> dict[str, str]:
    """Return the texts of the direct children by name."""
    return {local_name(child): child.text or "" for child in node}


def read_handles(body: bytes) -> list[str]:
    """Read the body of a batch delete or an ack: 1 to 16 handles."""
    root = parse(body)
    if local_name(root) != "ReceiptHandles":
        raise refusal("MalformedXML", "ReceiptHandles is expected.")
    handles = [(child.text or "").strip() for child in root if local_name(child) == "ReceiptHandle"]
    if not handles or not all(handles):
        raise refusal("MissingReceiptHandle", "ReceiptHandle is required.")
    if len(handles) > 16:
        raise refusal("InvalidArgument", "At most 16 receipt handles.")
    return handles


def whole_number(text: str, name: str, low: int, high: int) -> int:
    """Read a parameter that must be a whole number within a range."""
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise refusal("InvalidArgument", f"The value of {name} should between {low} and {high}.")
    return int(text)


def filled(template: bytes, delivery: Delivery) -> bytes:
    """Fill the placeholders of a verbatim element; everything else stays as the test wrote it."""
    values = {
        b"{id}": delivery.message.message_id,
        b"{handle}": delivery.handle,
        b"{enqueued}": str(milliseconds(delivery.message.enqueued_at)),
        b"{next_visible}": str(milliseconds(delivery.next_visible_at)),
        b"{first}": str(milliseconds(delivery.first_at)),
        b"{count}": str(delivery.count),
    }
    for placeholder, value in values.items():
        template = template.replace(placeholder, value.encode())
    return template


def body_md5(message: Message) -> str:
    """Return the upper-case hex MD5 over the text in `<MessageBody>`."""
    text = message.wire.encode("utf-8", "surrogatepass")
    return hashlib.md5(text, usedforsecurity=False).hexdigest().upper()


def milliseconds(at: float) -> int:
    """Return epoch seconds as both services write times."""
    return int(at * 1000)


def xml_values(value: object) -> str:
    """Return what a gateway answers as XML: names to values, a list as repeated elements."""
    if isinstance(value, Mapping):
        return "".join(
            f"<{name}>{xml_values(one)}</{name}>"
            for name, inner in value.items()
            for one in (inner if isinstance(inner, list) else [inner])
        )
    return escape(str(value))
