"""One HTTP/1.1 request written, one answer read strictly; no socket and no clock."""

import email.utils
from collections.abc import Callable, Mapping
from datetime import UTC
from functools import lru_cache

import msgspec

MAX_HEAD_BYTES = 64 * 1024  # both brokers send under 1 KiB
_MAX_INTERIM_ANSWERS = 8  # 1xx heads before the real one


class WireError(Exception):
    """The peer did not speak HTTP as expected; `code` is the short word for it."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class Answer(msgspec.Struct, frozen=True):
    """A complete answer. `headers` have lower-case names; `arrived_at` is the monotonic time at
    which its first byte came, `sent_at_s` its Date as epoch seconds (None: none, or unreadable)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    arrived_at: float
    sent_at_s: float | None

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, {len(self.body)} bytes)"

    @property
    def request_id(self) -> str:
        """The broker's id of this call, "" if it gave none."""
        return self.headers.get("x-mns-request-id") or self.headers.get("x-mq-request-id") or ""


@lru_cache(maxsize=8)  # answers of the same second share their Date
def _epoch_s(date: str) -> float | None:
    try:
        parsed = email.utils.parsedate_to_datetime(date)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def serialize(method: str, url: str, body: bytes | str | None, headers: Mapping[str, str]) -> bytes:
    """Return the request's bytes. Raises ValueError if something in it would break the framing."""
    payload = body.encode() if isinstance(body, str) else body or b""
    lines = [f"{method} {url} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    lines.append("Accept-Encoding: identity")
    if payload:
        lines.append(f"Content-Length: {len(payload)}")
    head = "\r\n".join(lines)
    if lines[0].count(" ") != 2 or not lines[0].isprintable():
        raise ValueError("target")
    if not (head.count("\n") == head.count("\r") == len(lines) - 1):
        raise ValueError("line break in a header")
    return head.encode("latin-1") + b"\r\n\r\n" + payload  # UnicodeEncodeError is a ValueError


class AnswerReader:
    """Reads one answer by calling `receive` until it is complete.

    `receive` returns the next bytes, or b"" at the end of the stream. After `read`, `keep_alive`
    says whether the connection may carry another request; `begun` says whether any byte came.
    """

    def __init__(
        self, receive: Callable[[], bytes], monotonic: Callable[[], float], max_body: int
    ) -> None:
        self._receive = receive
        self._monotonic = monotonic
        self._max_body = max_body
        self._buffer = bytearray()
        self._ended = False
        self._arrived_at = 0.0
        self.begun = False
        self.keep_alive = False

    def read(self) -> Answer:
        """Return the answer. Raises WireError (`reset`, `bad_answer`, `too_big`), and whatever
        `receive` raises."""
        for _ in range(_MAX_INTERIM_ANSWERS):
            version, status, headers = _parse_head(self._take_head())
            if not 100 <= status < 200:
                break
        else:
            raise WireError("bad_answer")
        body, framed = self._take_body(status, headers)
        # Bytes behind the answer belong to nobody: the next request must not read them as its own.
        self.keep_alive = framed and not self._buffer and _wants_keep_alive(version, headers)
        sent_at_s = _epoch_s(headers.get("date", ""))
        return Answer(status, headers, body, self._arrived_at, sent_at_s)

    def _more(self) -> None:
        """Receive some more, or note that the stream has ended."""
        data = self._receive()
        if not self.begun and data:
            self.begun = True
            self._arrived_at = self._monotonic()
        self._buffer += data
        self._ended = not data

    def _need(self) -> None:
        self._more()
        if self._ended:
            raise WireError("reset")

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._need()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _take_until(self, mark: bytes, limit: int) -> bytes:
        searched = 0
        while (found := self._buffer.find(mark, searched)) < 0:
            if len(self._buffer) > limit:
                raise WireError("too_big")
            searched = max(0, len(self._buffer) - len(mark) + 1)
            self._need()
        return self._take(found + len(mark))[:found]

    def _take_head(self) -> bytes:
        return self._take_until(b"\r\n\r\n", MAX_HEAD_BYTES)

    def _take_body(self, status: int, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        """Return the body, and whether its end was marked by something else than a close."""
        if status in (204, 304):
            return b"", True
        coding = headers.get("transfer-encoding", "").lower()
        if coding == "chunked":
            return self._take_chunks(), "content-length" not in headers
        if coding:
            raise WireError("bad_answer")
        if (text := headers.get("content-length")) is not None:
            if not (text.isascii() and text.isdigit() and len(text) < 20):
                raise WireError("bad_answer")
            if int(text) > self._max_body:
                raise WireError("too_big")
            return self._take(int(text)), True
        while not self._ended:
            if len(self._buffer) > self._max_body:
                raise WireError("too_big")
            self._more()
        return self._take(len(self._buffer)), False

    def _take_chunks(self) -> bytes:
        body = bytearray()
        while True:
            size_text = self._take_until(b"\r\n", 1024).partition(b";")[0].strip()
            try:
                size = int(size_text, 16)
            except ValueError:
                raise WireError("bad_answer") from None
            if size < 0:
                raise WireError("bad_answer")
            if len(body) + size > self._max_body:
                raise WireError("too_big")
            if size == 0:
                break
            body += self._take(size)
            if self._take(2) != b"\r\n":
                raise WireError("bad_answer")
        for _ in range(_MAX_INTERIM_ANSWERS):
            if not self._take_until(b"\r\n", MAX_HEAD_BYTES):  # trailers end with an empty line
                return bytes(body)
        raise WireError("bad_answer")


def _parse_head(head: bytes) -> tuple[str, int, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (status.isascii() and status.isdigit()):
        raise WireError("bad_answer")
    if len(status) != 3 or rest[3:4] not in ("", " "):
        raise WireError("bad_answer")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip():  # no folding, no blank in the name
            raise WireError("bad_answer")
        value = value.strip()
        if name == "content-length" and headers.get(name, value) != value:
            raise WireError("bad_answer")
        headers[name] = value
    return version, int(status), headers


def _wants_keep_alive(version: str, headers: Mapping[str, str]) -> bool:
    wish = headers.get("connection", "").lower()
    return "close" not in wish if version == "HTTP/1.1" else "keep-alive" in wish
