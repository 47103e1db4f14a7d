"""One keep-alive connection to a broker: one deadline per call, a cap on what is read, no hidden
re-send, and an end from another thread.

The SDKs sign; they do not send. What they make of an answer (a connection without timeouts over
TLS, text that is decoded before anyone has looked at it) is gone round.
"""

import select
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from receiptd.clock import SystemClock
from receiptd.errors import SourceCancelled, SourceError, SourceUnavailable
from receiptd.pullers.dialing import Address, Lookup, dial, numeric
from receiptd.pullers.failures import explain
from receiptd.pullers.http1 import Answer, AnswerReader, WireError
from receiptd.tls import default_tls

CONNECT_TIMEOUT_S = 5.0  # several round trips around the world, a third of a visibility timeout
MAX_BODY_BYTES = 4 * 1024 * 1024  # 16 MNS messages of 64 KiB in base64 are 1.4 MiB
MAX_IDLE_S = (
    5.0  # older connections are closed before use: a broker or a NAT may have forgotten them
)
RESEND_WINDOW_S = 1.0  # an idle close that crossed our request shows within a round trip
_RECEIVE_BYTES = 64 * 1024
_monotonic = SystemClock().monotonic
_Result = TypeVar("_Result")


class Connection:
    """Used by one thread; only `cancel` comes from others.

    `monotonic` stamps the arrival of answers; deadlines are on the machine's monotonic clock,
    because sockets wait in real time.
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
        self._host = host
        self._port = port
        self._https = https
        self._tls = tls
        self._arrival_clock = monotonic
        self._connect_timeout_s = connect_timeout_s
        self._max_idle_s = max_idle_s
        self._max_body = max_body
        self._sock: socket.socket | None = None
        self._poll = select.poll()
        self._lock = threading.Lock()  # over the socket's identity, the call's kind and the lookup
        self._cancelled = False
        self._interruptible = False
        self._request: bytes | None = None  # sent, and its answer not read yet
        self._is_reused = False
        self._lookup: Lookup | None = None
        self._deadline = 0.0
        self._idle_since = 0.0
        self._sent_at = 0.0

    def exchange(self, request: bytes, seconds: float, *, interruptible: bool) -> Answer:
        """Send a request (http1.serialize) and return what came back.

        Takes at most `seconds`, whatever the peer does. Raises SourceCancelled if it is
        `interruptible` and `cancel` was called before or meanwhile, else SourceUnavailable.
        """
        self.begin(request, seconds, interruptible=interruptible)
        return self.finish()

    def begin(self, request: bytes, seconds: float, *, interruptible: bool) -> None:
        """Send a request whose answer `finish` returns, so that others can be sent meanwhile.

        Raises as `exchange`; then there is nothing to finish.
        """
        with self._lock:
            if interruptible and self._cancelled:
                raise SourceCancelled("cancelled")
            self._interruptible = interruptible
        if self._request is not None:
            self.close()  # nobody read its answer: it must not be taken for this one's
        self._request = request
        self._deadline = _monotonic() + seconds
        self._guarded(self._start)

    def finish(self) -> Answer:
        """Return the answer to what `begin` has sent. Raises as `exchange`."""
        answer = self._guarded(self._complete)
        self._over()
        return answer

    def _guarded(self, step: Callable[[], _Result]) -> _Result:
        try:
            return step()
        except (OSError, WireError) as exc:
            self.close()
            error = self._failure(exc)
            self._over()
        except BaseException:
            self.close()
            self._over()
            raise
        raise error  # outside the handler: what it knows may quote

    def _over(self) -> None:
        self._request = None
        self._interruptible = False

    def cancel(self) -> None:
        """End a running interruptible exchange and refuse later ones; leave any other alone."""
        with self._lock:
            self._cancelled = True
            if not self._interruptible:
                return
            if self._lookup is not None:
                self._lookup.wake()
            if self._sock is not None:
                # It may not be connected yet, or gone already: then _adopt sees the flag.
                with suppress(OSError):
                    # Not SSLSocket.shutdown: that one tears down TLS state under the reader's feet.
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket, if any; the next exchange connects anew."""
        with self._lock:  # so that cancel never shuts down a descriptor that was given away
            sock, self._sock = self._sock, None
            if sock is not None:
                sock.close()

    def _start(self) -> None:
        self._is_reused = False
        if self._still_usable():
            try:
                self._send()
            except (ConnectionError, ssl.SSLError):
                self.close()  # it was dead: nothing of the request was executed
            else:
                self._is_reused = True
                return
        self._connect()
        self._send()

    def _complete(self) -> Answer:
        if self._is_reused:
            with suppress(_ClosedWhileIdle):
                return self._read(reused=True)
            self._connect()
            self._send()
        return self._read(reused=False)

    def _still_usable(self) -> bool:
        """Whether the connection is open, fresh, and has nothing to read: a close notice or stray
        bytes would be taken for this request's answer."""
        if self._sock is None:
            return False
        if _monotonic() - self._idle_since <= self._max_idle_s:
            unread = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
            if not unread and not self._poll.poll(0):
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
            server_name=self._host,
            adopt=self._adopt,
            discard=self.close,
        )
        self._adopt(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # We wait ourselves: a socket with a timeout costs twice the system calls.
        sock.setblocking(False)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def _adopt(self, sock: socket.socket) -> None:
        with self._lock:
            self._sock = sock
            if self._interruptible and self._cancelled:
                raise WireError("cancelled")

    def _addresses(self) -> Sequence[Address]:
        if found := numeric(self._host, self._port):
            return found
        with self._lock:
            # One that never came back is waited for again: a stuck resolver must not collect
            # threads.
            if self._lookup is None or self._lookup.finished:
                self._lookup = Lookup(self._host, self._port)
            lookup = self._lookup
        return lookup.wait(self._deadline - _monotonic(), self._must_stop)

    def _must_stop(self) -> bool:
        return self._interruptible and self._cancelled

    def _send(self) -> None:
        assert self._sock is not None
        assert self._request is not None
        self._sent_at = _monotonic()
        rest = memoryview(self._request)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT)

    def _receive(self) -> bytes:
        assert self._sock is not None
        if not self._https:  # TLS may hold what it has already read
            self._wait(select.POLLIN)
        while True:
            try:
                return self._sock.recv(_RECEIVE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)

    def _wait(self, event: int) -> None:
        """Wait until the socket is ready. Raises TimeoutError at the deadline."""
        assert self._sock is not None
        if event != select.POLLIN:
            self._poll.modify(self._sock, event)
        left_s = max(self._deadline - _monotonic(), 0)
        try:
            # After the deadline, too: what has come while another's answer was waited for is taken.
            if not self._poll.poll(left_s * 1000):
                raise TimeoutError("deadline")
        finally:
            if event != select.POLLIN:
                self._poll.modify(self._sock, select.POLLIN)

    def _read(self, *, reused: bool) -> Answer:
        """Read the answer. Raises _ClosedWhileIdle if a `reused` connection turns out to have been
        closed by the peer while it was idle: then the request is to be sent once more."""
        reader = AnswerReader(self._receive, self._arrival_clock, self._max_body)
        try:
            answer = reader.read()
        except (ConnectionError, WireError) as exc:
            if reused and not reader.begun and self._was_closed_while_idle(exc):
                raise _ClosedWhileIdle from None
            raise
        if reader.keep_alive:
            self._idle_since = _monotonic()
        else:
            self.close()
        return answer

    def _was_closed_while_idle(self, exc: Exception) -> bool:
        """Whether the peer gave up the idle connection while our request was on its way. Later than
        a round trip it may have executed the request: a second pull would hide a second batch."""
        if self._must_stop() or (isinstance(exc, WireError) and exc.code != "reset"):
            return False
        return _monotonic() - self._sent_at <= RESEND_WINDOW_S

    def _failure(self, exc: OSError | WireError) -> SourceError:
        if self._must_stop():
            return SourceCancelled("cancelled")
        code, cure = explain(exc)
        return SourceUnavailable(code, cure=cure)


class _ClosedWhileIdle(Exception):
    """The reused connection was closed before one byte of the answer came."""
