"""Messages that cannot be understood, to be mixed among good ones."""

from dataclasses import dataclass

_TAIL = (
    b"<EnqueueTime>{enqueued}</EnqueueTime><NextVisibleTime>{next_visible}</NextVisibleTime>"
    b"<FirstDequeueTime>{first}</FirstDequeueTime><DequeueCount>{count}</DequeueCount>"
    b"<Priority>8</Priority></Message>"
)
_HEAD = (
    b"<Message><MessageId>{id}</MessageId><ReceiptHandle>{handle}</ReceiptHandle>"
    b"<MessageBodyMD5>0123456789ABCDEF0123456789ABCDEF</MessageBodyMD5>"
)


def wire_message(body_element: bytes) -> bytes:
    """Return a verbatim MNS `<Message>` around a body element that is wrong in itself."""
    return _HEAD + body_element + _TAIL


@dataclass(frozen=True, slots=True)
class Poison:
    """A bad message: a body that is encoded as usual, or one put on the wire as it stands."""

    why: str
    body: bytes = b""
    encode: bool = True
    raw: bytes | None = None


BODIES = (
    Poison("not base64", b"#### not base64 ####", encode=False),
    Poison("JSON where base64 is expected", b'{"success":true}', encode=False),
    Poison("JSON cut short", b'{"success":true,"biz_id":"12'),
    Poison("not JSON", b"hello"),
    Poison("not UTF-8", b'{"biz_id":"\xff\xfe"}'),
    Poison("nothing in it", b"{}"),
    Poison("no object", b"[1,2,3]"),
    Poison("no phone number", b'{"biz_id":"900000000000000001^0","success":true}'),
    Poison(
        "a lone surrogate as the number",
        b'{"biz_id":"1^0","phone_number":"\\ud800","success":true}',
    ),
    Poison("NaN for success", b'{"biz_id":"1^0","phone_number":"13900000001","success":NaN}'),
    Poison("nested too deep", b"[" * 20_000 + b"]" * 20_000),
)

ON_THE_WIRE = (
    Poison("empty body", raw=wire_message(b"<MessageBody/>")),
    Poison("no body", raw=wire_message(b"")),
    Poison("illegal character reference", raw=wire_message(b"<MessageBody>e30=&#1;</MessageBody>")),
    Poison("raw NUL", raw=wire_message(b"<MessageBody>e30=\x00</MessageBody>")),
    Poison("nested element", raw=wire_message(b"<MessageBody><b>e30=</b></MessageBody>")),
    Poison("unescaped ampersand", raw=wire_message(b"<MessageBody>a&b</MessageBody>")),
    Poison("text and CDATA", raw=wire_message(b"<MessageBody>e3<![CDATA[0=]]></MessageBody>")),
)
