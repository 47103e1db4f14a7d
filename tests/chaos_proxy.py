"""A TCP proxy on loopback that misbehaves on command: what a network can do to a database.

    with ChaosProxy(("127.0.0.1", 5432)) as proxy:
        proxy.when(b"COMMIT", Fault.CUT_REPLY)
        ...  # connect to ("127.0.0.1", proxy.port)

Deterministic: a fault strikes at bytes that the client sends, or at once when told, never by time.
"""

import enum
import select
import socket
import struct
import threading
from types import TracebackType

_CHUNK = 1 << 16


class Fault(enum.Enum):
    """What happens to a connection at the bytes that were named."""

    STALL = "stall"  # they arrive; after that nothing goes either way, though all stays open
    CUT_REPLY = "cut reply"  # they arrive and are answered; the answer is dropped, both ends closed
    RESET = "reset"  # they do not arrive; both ends get a RST


class ChaosProxy:
    """Forwards connections to `upstream`. Told what to do from any thread."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._faults: list[tuple[bytes, Fault]] = []
        self._listener = _listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.is_black_hole = False  # new connections are accepted, and that is all
        self.latency_s = 0.0  # before each piece is passed on
        self.struck = 0  # how many faults have
        self._start()

    def __enter__(self) -> "ChaosProxy":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def when(self, sent: bytes, fault: Fault) -> None:
        """Let `fault` strike once, at the next piece from a client that holds `sent`."""
        with self._lock:
            self._faults.append((sent, fault))

    def limit(self, bytes_to_client: int) -> None:
        """Cut each open connection after so many more bytes to its client, in the middle of what it
        is being told."""
        for link in self._open():
            link.allowance = bytes_to_client

    def stall(self) -> None:
        """Stop all open connections without closing them."""
        for link in self._open():
            link.is_stalled = True

    def reset(self) -> None:
        """End all open connections with a RST to both ends."""
        for link in self._open():
            link.close(reset=True)

    def down(self) -> None:
        """Refuse new connections and close the open ones."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for link in self._open():
            link.close()
            link.thread.join()

    def up(self) -> None:
        """Listen again after `down`, on the same port."""
        self._listener = _listen(self.port)
        self._start()

    def _open(self) -> "list[_Link]":
        with self._lock:
            return list(self._links)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._accept, name="chaos-proxy", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._links.append(_Link(self, client))

    def strikes(self, piece: bytes) -> Fault | None:
        """Return the fault that a client's bytes call for, which is then spent."""
        with self._lock:
            for position, (sent, fault) in enumerate(self._faults):
                if sent in piece:
                    del self._faults[position]
                    self.struck += 1
                    return fault
        return None


class _Link:
    """One connection through the proxy, and its thread."""

    def __init__(self, proxy: ChaosProxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        self._closing = threading.Event()
        self.is_stalled = proxy.is_black_hole
        self.allowance: int | None = None
        self._cuts_reply = False
        self.thread = threading.Thread(target=self._run, name="chaos-link", daemon=True)
        self.thread.start()

    def close(self, *, reset: bool = False) -> None:
        """End both connections; the thread then ends too."""
        self._closing.set()
        for end in (self._client, self._server):
            if end is None or end.fileno() < 0:
                continue
            try:
                if reset:  # a RST instead of a FIN
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.close()
                else:
                    end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it was closed from the other side

    def _run(self) -> None:
        try:
            if not self._proxy.is_black_hole:
                self._server = socket.create_connection(self._proxy._upstream)
            while self._pass_on():
                pass
        except (OSError, ValueError):  # closed under us
            pass
        finally:
            for end in (self._client, self._server):
                if end is not None:
                    end.close()

    def _pass_on(self) -> bool:
        """Pass on what there is; return whether the link goes on."""
        ends = [end for end in (self._client, self._server) if end is not None]
        ready, _, _ = select.select(ends, [], [], 5)
        for end in ready:
            piece = end.recv(_CHUNK)
            if not piece:
                return False
            if self._proxy.latency_s:
                self._closing.wait(self._proxy.latency_s)
            if self.is_stalled or self._server is None:
                continue  # read and forgotten, so that the sender's TCP sees nothing amiss
            if end is self._client:
                self._to_server(self._server, piece)
            elif not self._to_client(piece):
                return False
        return not self._closing.is_set()

    def _to_server(self, server: socket.socket, piece: bytes) -> None:
        fault = self._proxy.strikes(piece)
        if fault is Fault.RESET:
            self.close(reset=True)
            return
        server.sendall(piece)
        self.is_stalled = self.is_stalled or fault is Fault.STALL
        self._cuts_reply = self._cuts_reply or fault is Fault.CUT_REPLY

    def _to_client(self, piece: bytes) -> bool:
        if self._cuts_reply:
            return False
        if self.allowance is not None:
            piece, cut = piece[: self.allowance], len(piece) >= self.allowance
            self.allowance -= len(piece)
            self._client.sendall(piece)
            return not cut
        self._client.sendall(piece)
        return True


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener
