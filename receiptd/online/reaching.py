"""From a URL to an answer: name, connection, TLS, and the clock on the other side."""

import socket
import ssl
from collections.abc import Callable, Sequence

from receiptd.clock import Clock, SystemClock
from receiptd.online.steps import Fault, Step, Verdict, fail, in_turn, ok, warn
from receiptd.pullers.checks import Endpoint
from receiptd.pullers.dialing import Address, Lookup, dial, numeric
from receiptd.pullers.failures import explain
from receiptd.pullers.http1 import AnswerReader, WireError
from receiptd.tls import default_tls

SKEW_WARN_S = 60  # a token of ten minutes still works; worth knowing
SKEW_FAIL_S = 15 * 60  # from here on every service refuses what we sign
_MAX_BODY_BYTES = 4 << 20
_RECEIVE_BYTES = 64 * 1024
# Sockets wait in real time, whatever clock the check is given.
_monotonic = SystemClock().monotonic

# OpenSSL's X509_V_ERR_… -> what it means to an operator.
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_CA = (2, 18, 19, 20, 21)
_OTHER_NAME = (62, 64)


def reach(endpoint: Endpoint, clock: Clock, seconds: float) -> list[Step]:
    """Return the steps to `endpoint`, each bounded by `seconds`; nothing stays open.

    The last one sends `GET /`, unsigned: any answer tells the time.
    """
    road = _Road(endpoint, clock, seconds)
    acts: list[tuple[str, Callable[[], Verdict]]] = [("name", road.name), ("connect", road.connect)]
    if endpoint.https:
        acts.append(("tls", road.tls))
    acts.append(("clock", road.clock))
    try:
        return in_turn(acts, clock)
    finally:
        road.close()


class _Road:
    """The steps to one endpoint; each goes on with what the one before it got."""

    def __init__(self, endpoint: Endpoint, clock: Clock, seconds: float) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._seconds = seconds
        self._addresses: Sequence[Address] = ()
        self._socket: socket.socket | None = None

    def close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def name(self) -> Verdict:
        host, port = self._endpoint.host, self._endpoint.port
        if found := numeric(host, port):
            self._addresses = found
            return ok(f"{host} is an address")
        try:
            self._addresses = Lookup(host, port).wait(self._seconds, lambda: False)
        except OSError as exc:
            return _network(exc, host)
        addresses = dict.fromkeys(str(row[4][0]) for row in self._addresses)
        return ok(f"{host}: {', '.join(addresses)}")

    def connect(self) -> Verdict:
        try:
            self._socket = dial(
                self._addresses,
                deadline=_monotonic() + self._seconds,
                connect_timeout_s=self._seconds,
                tls=None,
                server_name=self._endpoint.host,
                adopt=self._adopt,
                discard=self.close,
            )
        except OSError as exc:
            return _network(exc, f"{self._endpoint.host}:{self._endpoint.port}")
        peer = self._socket.getpeername()
        return ok(f"{peer[0]}:{peer[1]}")

    def tls(self) -> Verdict:
        plain = self._socket
        assert plain is not None
        plain.settimeout(self._seconds)
        try:
            wrapped = default_tls().wrap_socket(plain, server_hostname=self._endpoint.host)
        except ssl.SSLCertVerificationError as exc:
            return fail(Fault.NETWORK, *_distrusted(exc, self._endpoint.host))
        except (ssl.SSLError, ValueError):  # ValueError: a name that SNI cannot carry
            return fail(
                Fault.NETWORK,
                f"{self._endpoint.host}:{self._endpoint.port} does not speak TLS",
                "check the port, and whether the endpoint is http://",
            )
        except OSError as exc:
            return _network(exc, f"{self._endpoint.host}:{self._endpoint.port}")
        self._socket = wrapped
        expires = (wrapped.getpeercert() or {}).get("notAfter", "")
        return ok(f"{wrapped.version()}, certificate valid until {expires}")

    def clock(self) -> Verdict:
        try:
            sent_at_s = self._ask_time()
        except (OSError, WireError) as exc:
            return _network(exc, f"{self._endpoint.host}:{self._endpoint.port}")
        if sent_at_s is None:
            return warn("the answer has no Date, so the clocks were not compared")
        skew_s = round(self._clock.now().timestamp() - sent_at_s)
        detail = f"this host's clock is {skew_s:+d} s off the server's"
        if abs(skew_s) > SKEW_FAIL_S:
            cure = "set the clock: timedatectl set-ntp true"
            return fail(Fault.CONFIGURATION, detail, cure)
        if abs(skew_s) > SKEW_WARN_S:
            return warn(detail, "set the clock: timedatectl set-ntp true")
        return ok(detail)

    def _ask_time(self) -> float | None:
        sock = self._socket
        assert sock is not None
        deadline = _monotonic() + self._seconds
        request = (
            f"GET / HTTP/1.1\r\nHost: {self._endpoint.netloc}\r\nUser-Agent: receiptd\r\n"
            "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
        )

        def left() -> float:
            seconds = deadline - _monotonic()
            if seconds <= 0:
                raise TimeoutError("deadline")
            return seconds

        def receive() -> bytes:
            sock.settimeout(left())
            return sock.recv(_RECEIVE_BYTES)

        sock.settimeout(left())
        sock.sendall(request.encode("ascii"))
        return AnswerReader(receive, _monotonic, _MAX_BODY_BYTES).read().sent_at_s

    def _adopt(self, sock: socket.socket) -> None:
        self._socket = sock


def _network(exc: OSError | WireError, where: str) -> Verdict:
    code, cure = explain(exc)
    return fail(Fault.NETWORK, f"{where}: {code}", cure)


def _distrusted(exc: ssl.SSLCertVerificationError, host: str) -> tuple[str, str]:
    """Return what is wrong with a certificate, and the cure."""
    code = exc.verify_code
    if code == _EXPIRED:
        return "the certificate has expired", "check this host's clock, then tell the provider"
    if code == _NOT_YET_VALID:
        return "the certificate is not valid yet", "check this host's clock"
    if code in _OTHER_NAME:
        return f"the certificate is not for {host}", "check the endpoint's name"
    if code in _UNKNOWN_CA:
        return (
            "the certificate is from an authority that this host does not trust",
            "install the system's certificates (ca-certificates); behind a proxy that opens TLS,"
            " name its authority in SSL_CERT_FILE",
        )
    return f"the certificate is not accepted ({code})", "check the endpoint and SSL_CERT_FILE"
