"""Getting a connected (and, for https, verified) socket before a deadline, whatever DNS and the
peer do."""

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from receiptd.clock import SystemClock

Address: TypeAlias = tuple[Any, ...]  # one row of getaddrinfo
_monotonic = SystemClock().monotonic


class NoAddress(OSError):
    """The host's name could not be resolved."""


class Lookup:
    """A getaddrinfo that can be left behind: it has no timeout of its own, so it runs in a daemon
    thread."""

    def __init__(self, host: str, port: int) -> None:
        self.finished = False
        self._changed = threading.Condition()
        self._addresses: Sequence[Address] = ()
        threading.Thread(
            target=self._resolve, args=(host, port), name="receiptd-dns", daemon=True
        ).start()

    def _resolve(self, host: str, port: int) -> None:
        with suppress(OSError, UnicodeError):  # no address is the answer
            self._addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self.finished = True
        self.wake()

    def wake(self) -> None:
        """Make `wait` look at its `stop` again; safe from any thread."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, seconds: float, stop: Callable[[], bool]) -> Sequence[Address]:
        """Return the addresses, or nothing once `stop` says so. Raises NoAddress, or TimeoutError
        if the answer took longer than `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self.finished or stop(), max(0.0, seconds))
        if not self.finished:
            if stop():
                return ()
            raise TimeoutError("dns")
        if not self._addresses:
            raise NoAddress("no address")
        return self._addresses


def numeric(host: str, port: int) -> Sequence[Address]:
    """Return the address if `host` is one already, else nothing; never asks DNS."""
    flags = socket.AI_NUMERICHOST
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError):
        return ()


def dial(
    addresses: Sequence[Address],
    *,
    deadline: float,
    connect_timeout_s: float,
    tls: ssl.SSLContext | None,
    server_name: str,
    adopt: Callable[[socket.socket], None],
    discard: Callable[[], None],
) -> socket.socket:
    """Connect to the first address that takes us; TLS handshake included.

    Each address gets `connect_timeout_s` or its share of what is left until `deadline` (monotonic),
    so that one dead address cannot eat the time of the others. `adopt` gets every socket before
    anything blocks on it, and whatever it raises ends the dialling; `discard` closes the one that
    was adopted last. Raises OSError; a certificate that
    is not accepted ends the dialling too, because the next address would show the same one.
    """
    last: OSError = TimeoutError("connect")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        left = deadline - _monotonic()
        if left <= 0:
            raise TimeoutError("connect")
        limit = _monotonic() + min(connect_timeout_s, left / (len(addresses) - tried))
        try:
            sock = socket.socket(family, kind, protocol)  # fails for a family this host lacks
            adopt(sock)
            _patience(sock, limit)
            sock.connect(address)
            adopt(sock)  # a shutdown while connecting looks like success
            if tls is not None:
                sock = tls.wrap_socket(
                    sock, server_hostname=server_name, do_handshake_on_connect=False
                )
                adopt(sock)  # wrapping moved the descriptor
                _patience(sock, limit)
                sock.do_handshake()
                adopt(sock)
        except ssl.SSLCertVerificationError:
            discard()
            raise
        except OSError as exc:
            discard()
            last = exc
        except BaseException:
            discard()
            raise
        else:
            return sock
    raise last


def _patience(sock: socket.socket, limit: float) -> None:
    left = limit - _monotonic()
    if left <= 0:
        raise TimeoutError("connect")
    sock.settimeout(left)
