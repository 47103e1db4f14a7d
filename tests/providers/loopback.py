"""A raw-socket server on loopback that does to each connection what its script says."""

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Script = Callable[["Peer"], None]


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self.sock = sock
        self.stopping = stopping

    def request(self) -> bytes:
        """Read one whole request; raises ConnectionError if the client hung up."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        while len(body) < length:
            body += self._more()
        return head + b"\r\n\r\n" + body

    def _more(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError
        return data

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes) -> None:
        """Send byte by byte until the client hangs up or the test ends."""
        for index in range(len(data)):
            self.send(data[index : index + 1])
            if self.stopping.wait(0.02):
                return

    def hang(self) -> None:
        """Say nothing more until the test ends."""
        self.stopping.wait()


class Loopback:
    """Runs `script` on every connection, each in a thread; records whole requests."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._socks: list[socket.socket] = []
        self.connections = 0
        self.accepted = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._socks:
            sock.close()
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._socks.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        self.accepted.set()
        with sock:
            try:
                self._script(Peer(sock, self._stopping))
            except OSError:
                return


def response(
    body: bytes, *, status: str = "200 OK", headers: bytes = b"", length: int | None = None
) -> bytes:
    """Return a whole HTTP answer; `length` lies about its size."""
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n".encode() + headers + b"\r\n" + body


def answering(whole: bytes) -> Script:
    """Return a script that gives the same answer to each request of a connection."""

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(whole)

    return script
