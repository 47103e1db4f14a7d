"""Turn the bytes of one envelope into JSON objects, and refuse what is none. Pure and total.

Two roads. msgspec reads what is well formed, four times as fast as the standard library, and is
strict: it refuses NaN, a byte order mark, lone surrogates and control characters in strings. What
it refuses goes down the tolerant road, where the standard library reads one element at a time, so
that a flaw in a field that nobody reads costs nothing and a broken element costs only itself.
"""

import json
import re
from collections.abc import Iterator

import msgspec

from receiptd.errors import InvalidEnvelope
from receiptd.model import Reason

# A receipt is flat and a TMC envelope holds one more level: 64 is a limit of ours, far above need
# and far below the interpreter's, so that the answer does not depend on how deep our caller is.
MAX_DEPTH = 64

# From here on the digits of an integer are kept as text: int() refuses 4,300 of them with a
# ValueError, and nothing that a receipt counts needs 20.
MAX_DIGITS = 20

_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
# The end of input ends a string too: without it an unclosed string of escaped quotes would be
# read again from each of them.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)


class Part(msgspec.Struct, frozen=True, gc=False):
    """One element of an envelope.

    `body` is what was received, to the byte: the verbatim slice of an element of an array, else
    the whole body. `data` is the object, or why there is none, and that is never raised: it would
    hold the frames it went through, which hold this part, which no collector looks at. A number
    with a fraction or an exponent is the text of its literal, so that no digit is lost; of equal
    keys the last counts; NaN and infinity are None.
    """

    index: int
    body: bytes
    data: dict[str, object] | InvalidEnvelope

    def __repr__(self) -> str:
        return f"Part(index={self.index}, {len(self.body)} bytes)"


def decode(body: bytes) -> list[Part]:
    """Return the parts of `body`, at least one, in the order received.

    A body may be one object (MNS: wire-formats 1.1, D1) or an array of them (HTTP push:
    wire-formats 3, D5). An array that was cut off still gives the elements before the cut.
    Raises InvalidEnvelope for a body without any element: NO_BODY, NOT_UTF8, NOT_JSON, TOO_DEEP,
    NOT_AN_OBJECT. Raises nothing else, whatever the bytes.
    """
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:  # so it cannot be deeper
        found = _strict(body)
        if type(found) is dict:
            return [Part(0, body, found)]
        if type(found) is list:
            return _parts(body, list(map(bytes, _SLICES.decode(body))), found)
    trimmed = body.removeprefix(_BOM).strip(_SPACE)
    if not trimmed:
        raise InvalidEnvelope(Reason.NO_BODY)
    if not trimmed.startswith(b"["):
        data = parse_object(trimmed)
        if isinstance(data, InvalidEnvelope):
            # Another one: what a frame holds and is raised holds the frame, and all before it.
            raise InvalidEnvelope(data.reason, data.detail)
        return [Part(0, body, data)]
    slices = list(_elements(trimmed))
    return _parts(body, slices, [parse_object(element) for element in slices])


def parse_object(text: bytes) -> dict[str, object] | InvalidEnvelope:
    """Return the one JSON object in `text`, or the reason why there is none; never raises."""
    if _too_deep(text):
        return InvalidEnvelope(Reason.TOO_DEEP)
    found = _strict(text)
    if found is _REFUSED:
        found = _tolerant(text)
    if isinstance(found, dict | InvalidEnvelope):
        return found
    return InvalidEnvelope(Reason.NOT_AN_OBJECT)


def _parts(body: bytes, slices: list[bytes], found: list[object]) -> list[Part]:
    if not slices:
        raise InvalidEnvelope(Reason.NOT_AN_OBJECT, "empty array")
    parts = []
    for index, (element, data) in enumerate(zip(slices, found, strict=True)):
        if not isinstance(data, dict | InvalidEnvelope):
            data = InvalidEnvelope(Reason.NOT_AN_OBJECT)
        parts.append(Part(index, body if len(slices) == 1 else element, data))
    return parts


# --- the strict road ---

_REFUSED = object()
_DECODER = msgspec.json.Decoder(float_hook=str)
_SLICES = msgspec.json.Decoder(list[msgspec.Raw])


def _strict(text: bytes) -> object:
    """Return what msgspec reads, or _REFUSED. Big integers come out exact, or are refused."""
    try:
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _REFUSED


# --- the tolerant road ---


def _tolerant(text: bytes) -> object:
    # The errors are judged and left behind here: a JSONDecodeError holds the whole document, and
    # must not hang on a refusal's __context__.
    try:
        return _LENIENT.decode(text.decode())
    except UnicodeDecodeError:
        reason = Reason.NOT_UTF8
    except RecursionError:
        reason = Reason.TOO_DEEP
    except ValueError:
        reason = Reason.NOT_JSON
    return InvalidEnvelope(reason)


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_DIGITS else digits


def _no_number(_literal: str) -> None:
    """NaN and the infinities: no field can use them, and no unused field should cost a receipt."""


_LENIENT = json.JSONDecoder(
    parse_float=str, parse_int=_integer, parse_constant=_no_number, strict=False
)


def _too_deep(text: bytes) -> bool:
    if text.count(b"{") + text.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _TOKEN.finditer(text):
        match token[0]:
            case b"[" | b"{":
                depth += 1
                if depth > MAX_DEPTH:
                    return True
            case b"]" | b"}":
                depth -= 1
    return False


def _elements(array: bytes) -> Iterator[bytes]:
    """Cut an array at the commas of its first level, without judging what is between them.

    Structure is ASCII in UTF-8, so bytes can be cut before they are decoded. What stands behind
    the closing bracket is an element too, and will be refused as one.
    """
    depth, start = 0, 1
    for token in _TOKEN.finditer(array):
        match token[0]:
            case b"[" | b"{":
                depth += 1
            case b"]" | b"}":
                depth -= 1
                if depth == 0:
                    element = array[start : token.start()].strip(_SPACE)
                    if element or start > 1:  # a comma before the bracket promises an element
                        yield element
                    start = token.end()
                    break
            case b",":
                if depth == 1:
                    yield array[start : token.start()].strip(_SPACE)
                    start = token.end()
    if rest := array[start:].strip(_SPACE):
        yield rest
