"""One HTTP POST that ends in time, whatever the other side does.

On httpcore, the engine below httpx: it follows no redirect, reads no proxy from the environment,
keeps no cookie and logs no URL, and its network backend is a public seam, where httpx has none: a
read timeout alone lets a server that sends a byte a second run for ever.
"""

import socket
import ssl
import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import httpcore
import msgspec

from receiptd.clock import Clock
from receiptd.errors import SourceCancelled, SourceError, SourceRefused, SourceUnavailable
from receiptd.providers.fields import parse_time
from receiptd.tls import default_tls

# Half of the whole: a host with a dead first address leaves time for its second.
CONNECT_TIMEOUT_S = 5.0
TIMEOUT_S = 10.0
# The largest answer in use, 50 rows of QuerySendDetails, stays below 100 KB.
MAX_BODY_BYTES = 4 << 20
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_IDLE_S = 20.0
_CONNECTIONS = 8


class Answer(msgspec.Struct, frozen=True):
    """What the server said; `date` is its own clock (UTC), None if it did not say."""

    status: int
    body: bytes
    date: datetime | None

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, {len(self.body)} bytes)"


class HttpClient:
    """A connection pool for POSTs. Thread-safe; connects lazily; certificates are verified.

    A call takes at most `timeout_s` from its start to the last byte, name resolution aside, which
    only the system's resolver can bound. Errors hold neither URL, body nor answer, and no cause.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        timeout_s: float = TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        max_body_bytes: int = MAX_BODY_BYTES,
        keep_alive: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._max_body_bytes = max_body_bytes
        self._keep_alive = keep_alive
        # Now, not at the first call: a daemon's first one may be an audit after five minutes.
        self._tls = tls or default_tls()
        self._network = _Network(clock, connect_timeout_s)
        self._pool: httpcore.ConnectionPool | None = None
        self._lock = threading.Lock()

    def post(
        self,
        url: str,
        body: bytes,
        content_type: str = FORM,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Answer:
        """Send `body` (already encoded as `content_type`) and return the answer, whatever its
        status.

        Raises SourceUnavailable (`timeout`, `unreachable`, `broken`, `too_big`), SourceRefused
        (`untrusted_certificate`), or SourceCancelled after `cancel`.
        """
        result = self._attempt(url, body, {"content-type": content_type, **headers})
        if isinstance(result, Answer):
            return result
        # Raised out here, so that no library's exception hangs on its __context__.
        raise SourceCancelled("cancelled") if self._network.cancelled else result

    def cancel(self) -> None:
        """End running calls at once, a call that still connects within its connect timeout, and
        refuse later ones. Safe from any thread."""
        self._network.cancel()

    def close(self) -> None:
        """Release the connections. Nothing may be called afterwards."""
        if self._pool is not None:
            self._pool.close()

    def _attempt(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer | SourceError:
        try:
            self._network.arm(self._timeout_s)
            return self._exchange(url, body, headers)
        except _TooBig:
            return SourceUnavailable("too_big", cure="check the endpoint: this is no API's answer")
        except httpcore.TimeoutException:
            return SourceUnavailable("timeout")
        except httpcore.ConnectError as error:
            if _untrusted(error):
                cure = "check the endpoint's name and the system's certificates"
                return SourceRefused("untrusted_certificate", cure=cure)
            return SourceUnavailable("unreachable", cure="check name resolution and egress rules")
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.UnsupportedProtocol,
            httpcore.ConnectionNotAvailable,
        ):
            return SourceUnavailable("broken")

    def _exchange(self, url: str, body: bytes, given: Mapping[str, str]) -> Answer:
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)
        headers: dict[bytes | str, bytes | str] = {
            "accept": JSON,
            "accept-encoding": "identity",
            "user-agent": "receiptd",
        }
        headers.update(given.items())
        with self._connections().stream(
            "POST", url, headers=headers, content=body, extensions={"timeout": timeouts}
        ) as response:
            chunks, size = [], 0
            for chunk in response.iter_stream():
                size += len(chunk)
                if size > self._max_body_bytes:
                    raise _TooBig
                chunks.append(chunk)
            return Answer(response.status, b"".join(chunks), _date(response.headers))

    def _connections(self) -> httpcore.ConnectionPool:
        with self._lock:
            if self._pool is None:
                self._pool = httpcore.ConnectionPool(
                    ssl_context=self._tls,
                    max_connections=_CONNECTIONS,
                    max_keepalive_connections=_CONNECTIONS if self._keep_alive else 0,
                    keepalive_expiry=_IDLE_S,
                    network_backend=self._network,
                )
            return self._pool


class _TooBig(Exception):
    pass


def _untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _date(headers: Iterable[tuple[bytes, bytes]]) -> datetime | None:
    for name, value in headers:
        if name.lower() == b"date":
            return parse_time(value.decode("latin-1"))
    return None


class _Network(httpcore.NetworkBackend):
    """Sockets that know the deadline of the call that their thread is in, and can be cut off."""

    def __init__(self, clock: Clock, connect_timeout_s: float) -> None:
        self.cancelled = False
        self._clock = clock
        self._connect_timeout_s = connect_timeout_s
        self._inner = httpcore.SyncBackend()
        self._call = threading.local()
        self._lock = threading.Lock()
        self._cords: set[socket.socket] = set()

    def arm(self, seconds: float) -> None:
        """Start a call of the calling thread that may take `seconds`."""
        self._call.deadline = self._clock.monotonic() + seconds
        self.left()

    def left(self) -> float:
        """Return the seconds that the calling thread's call has left; raise if there are none."""
        if self.cancelled:
            raise httpcore.ReadError
        seconds: float = self._call.deadline - self._clock.monotonic()
        if seconds <= 0:
            raise httpcore.ReadTimeout
        return seconds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        # Address by address: create_connection gives each of them the full timeout in turn.
        failure: Exception = httpcore.ConnectError()
        for address in _resolve(host, port):
            seconds = min(self.left(), self._connect_timeout_s)
            try:
                stream = self._inner.connect_tcp(
                    address, port, seconds, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            # A second handle on the same connection, because the first one goes into hiding while
            # TLS shakes hands.
            try:
                cord = stream.get_extra_info("socket").dup()
            except OSError as error:  # out of file descriptors
                stream.close()
                raise httpcore.ConnectError from error
            with self._lock:
                self._cords.add(cord)
            return _Stream(stream, self, cord)
        raise failure

    def release(self, cord: socket.socket) -> None:
        """Forget a connection that is closed."""
        with self._lock:
            self._cords.discard(cord)
            cord.close()

    def cancel(self) -> None:
        self.cancelled = True
        with self._lock:
            for cord in self._cords:
                try:
                    cord.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the other side was faster


def _resolve(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label beyond 63 characters
        raise httpcore.ConnectError from error
    return list(dict.fromkeys(str(address[4][0]) for address in found))


class _Stream(httpcore.NetworkStream):
    """A stream whose every step has at most what is left of the call."""

    def __init__(
        self, inner: httpcore.NetworkStream, network: _Network, cord: socket.socket
    ) -> None:
        self._inner = inner
        self._network = network
        self._cord = cord

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._network.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._network.left())

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            left = self._network.left()
            inner = self._inner.start_tls(ssl_context, server_hostname, left)
        except Exception:
            self.close()
            raise
        return _Stream(inner, self._network, self._cord)

    def close(self) -> None:
        self._inner.close()
        self._network.release(self._cord)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
