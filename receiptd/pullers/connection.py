"""Our own connection at the SDKs' `client.http.conn`: one deadline per call, a cap on what is read,
no hidden re-send, and an end from another thread.

It is not a documented API of the SDKs; they are pinned, and tests/pullers/test_seam.py fails if the
seam moves.
"""

import select
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from receiptd.clock import SystemClock
from receiptd.errors import SourceCancelled, SourceError, SourceUnavailable
from receiptd.pullers.dialing import Address, Lookup, default_tls, dial, numeric
from receiptd.pullers.failures import CURES, explain
from receiptd.pullers.http1 import Answer, AnswerReader, WireError, serialize

CONNECT_TIMEOUT_S = 5.0  # several round trips around the world, a third of a visibility timeout
MAX_BODY_BYTES = 4 * 1024 * 1024  # 16 MNS messages of 64 KiB in base64 are 1.4 MiB
MAX_IDLE_S = (
    5.0  # older connections are closed before use: a broker or a NAT may have forgotten them
)
RESEND_WINDOW_S = 1.0  # an idle close that crossed our request shows within a round trip
_RECEIVE_BYTES = 64 * 1024
_monotonic = SystemClock().monotonic


class Interrupted(Exception):
    """Passes a failure through the SDK, which makes text of it: so it carries a short word only."""


class Connection:
    """One keep-alive connection to one host, used by one thread; only `cancel` comes from others.

    The SDKs see `request`, `sock`, `getresponse`, `request_length` and `close`; the pullers see
    `exchange`. `monotonic` stamps the arrival of answers; deadlines are on the machine's monotonic
    clock, because sockets wait in real time.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        https: bool,
        monotonic: Callable[[], float] = _monotonic,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        max_idle_s: float = MAX_IDLE_S,
        max_body: int = MAX_BODY_BYTES,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.sock: socket.socket | None = None
        self.request_length = 0  # read by the SDKs
        self._https = https
        self._tls = tls
        self._arrival_clock = monotonic
        self._connect_timeout_s = connect_timeout_s
        self._max_idle_s = max_idle_s
        self._max_body = max_body
        self._lock = threading.Lock()  # over sock's identity, the call's kind and the lookup
        self._cancelled = False
        self._interruptible = False
        self._lookup: Lookup | None = None
        self._deadline = 0.0
        self._idle_since = 0.0
        self._reused = False
        self._sent_at = 0.0
        self._request: bytes | None = None
        self._answer: Answer | None = None
        self._failure: SourceError | None = None

    def exchange(
        self, send: Callable[[], object], seconds: float, *, interruptible: bool
    ) -> Answer:
        """Let `send` (the SDK) make one call over this connection and return what came back.

        Takes at most `seconds`, whatever the peer does. Raises SourceCancelled if it is
        `interruptible` and `cancel` was called before or meanwhile, else SourceUnavailable.
        """
        self._arm(seconds, interruptible)
        try:
            send()
        finally:
            self._interruptible = False
            if self._answer is None:
                self.close()
        answer, failure = self._answer, self._failure
        self._answer = self._failure = self._request = None
        if failure is not None:
            raise failure
        if answer is None:  # the SDK gave up before it sent anything
            raise SourceUnavailable("unsendable", cure=CURES["unsendable"])
        return answer

    def cancel(self) -> None:
        """End a running interruptible exchange and refuse later ones; leave any other alone."""
        with self._lock:
            self._cancelled = True
            if not self._interruptible:
                return
            if self._lookup is not None:
                self._lookup.wake()
            if self.sock is not None:
                # It may not be connected yet, or gone already: then _adopt sees the flag.
                with suppress(OSError):
                    # Not SSLSocket.shutdown: that one tears down TLS state under the reader's feet.
                    socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket, if any; the next exchange connects anew."""
        with self._lock:  # so that cancel never shuts down a descriptor that was given away
            sock, self.sock = self.sock, None
            if sock is not None:
                sock.close()

    # What the SDKs call.

    def request(
        self,
        method: str,
        url: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send one request; a second one in the same exchange is refused."""
        if self._request is not None:
            raise self._failed(WireError("reset"))
        try:
            self._request = serialize(method, url, body, headers or {})
        except ValueError:
            raise self._failed(WireError("unsendable")) from None
        self.request_length = len(self._request)
        try:
            self._reused = self._still_usable()
            if self._reused:
                try:
                    self._send()
                    return
                except (ConnectionError, ssl.SSLError):
                    # A reused connection that was dead: nothing of the request was executed.
                    self._reused = False
            self._connect()
            self._send()
        except (OSError, WireError) as exc:
            raise self._failed(exc) from None

    def getresponse(self) -> "_SdkAnswer":
        """Read the answer. If a reused connection turns out to have been closed by the peer while
        idle, reconnect and send once more within the same deadline."""
        try:
            try:
                answer = self._read()
            except _ClosedWhileIdle:
                self._reused = False
                self._connect()
                self._send()
                answer = self._read()
        except (OSError, WireError) as exc:
            raise self._failed(exc) from None
        self._answer = answer
        return _SdkAnswer(answer)

    # One call.

    def _arm(self, seconds: float, interruptible: bool) -> None:
        with self._lock:
            if interruptible and self._cancelled:
                raise SourceCancelled("cancelled")
            self._interruptible = interruptible
        self._deadline = _monotonic() + seconds
        self._request = self._answer = self._failure = None

    def _still_usable(self) -> bool:
        """Whether the connection is open, fresh, and has nothing to read: a close notice or stray
        bytes would be taken for this request's answer."""
        if self.sock is None:
            return False
        if _monotonic() - self._idle_since <= self._max_idle_s:
            poll = select.poll()
            poll.register(self.sock, select.POLLIN)
            unread = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()
            if not unread and not poll.poll(0):
                return True
        self.close()
        return False

    def _connect(self) -> None:
        self.close()
        sock = dial(
            self._addresses(),
            deadline=self._deadline,
            connect_timeout_s=self._connect_timeout_s,
            tls=(self._tls or default_tls()) if self._https else None,
            server_name=self.host,
            adopt=self._adopt,
            discard=self.close,
        )
        self._adopt(sock)

    def _adopt(self, sock: socket.socket) -> None:
        with self._lock:
            self.sock = sock
            if self._interruptible and self._cancelled:
                raise WireError("cancelled")

    def _addresses(self) -> Sequence[Address]:
        if found := numeric(self.host, self.port):
            return found
        with self._lock:
            # One that never came back is waited for again: a stuck resolver must not collect
            # threads.
            if self._lookup is None or self._lookup.finished:
                self._lookup = Lookup(self.host, self.port)
            lookup = self._lookup
        return lookup.wait(self._deadline - _monotonic(), self._must_stop)

    def _must_stop(self) -> bool:
        return self._interruptible and self._cancelled

    def _send(self) -> None:
        assert self.sock is not None
        assert self._request is not None
        self._sent_at = _monotonic()
        self.sock.settimeout(self._left())
        self.sock.sendall(self._request)

    def _receive(self) -> bytes:
        assert self.sock is not None
        self.sock.settimeout(self._left())
        return self.sock.recv(_RECEIVE_BYTES)

    def _left(self) -> float:
        left = self._deadline - _monotonic()
        if left <= 0:
            raise TimeoutError("deadline")
        return left

    def _read(self) -> Answer:
        reader = AnswerReader(self._receive, self._arrival_clock, self._max_body)
        try:
            answer = reader.read()
        except (ConnectionError, WireError) as exc:
            if self._closed_while_idle(exc, reader):
                raise _ClosedWhileIdle from None
            raise
        if reader.keep_alive:
            self._idle_since = _monotonic()
        else:
            self.close()
        return answer

    def _closed_while_idle(self, exc: Exception, reader: AnswerReader) -> bool:
        """Whether the peer gave up the idle connection while our request was on its way. Later than
        a round trip it may have executed the request: a second pull would hide a second batch."""
        if reader.begun or not self._reused or self._must_stop():
            return False
        if isinstance(exc, WireError) and exc.code != "reset":
            return False
        return _monotonic() - self._sent_at <= RESEND_WINDOW_S

    def _failed(self, exc: OSError | WireError) -> "Interrupted":
        """Note the failure for `exchange` and return what may pass through the SDK."""
        self.close()
        if self._must_stop():
            self._failure = SourceCancelled("cancelled")
        else:
            code, cure = explain(exc)
            self._failure = SourceUnavailable(code, cure=cure)
        return Interrupted(self._failure.code)


class _ClosedWhileIdle(Exception):
    """The reused connection was closed before one byte of the answer came."""


class _SdkAnswer:
    """What the SDKs see of an answer. The body stays with us: one SDK would decode it as UTF-8 and
    fail, both would put it into exception texts."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self._headers = answer.headers

    def getheaders(self) -> list[tuple[str, str]]:
        # Both look up their request id case-sensitively and fail if it is missing.
        return list({"x-mns-request-id": "", "x-mq-request-id": "", **self._headers}.items())

    def read(self) -> bytes:
        return b""
