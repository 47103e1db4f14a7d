"""A raw-socket broker that does on each connection exactly what a script says."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

DATE = "Mon, 06 May 2024 07:08:09 GMT"
DATE_EPOCH_MS = 1_714_979_289_000
NOTHING = (
    b'<?xml version="1.0"?><Error xmlns="http://mns.aliyuncs.com/doc/v1">'
    b"<Code>MessageNotExist</Code><Message>Message not exist.</Message>"
    b"<RequestId>663881B9463338E6D1A3D4F1</RequestId><HostId>http://x</HostId></Error>"
)


class Gone(Exception):
    """The client hung up; the script of this connection ends."""


class Peer:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket, server: "ScriptedServer") -> None:
        self.sock = sock
        self.server = server
        self._buffer = b""

    def request(self) -> bytes:
        """Read one whole request, record it and return it."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        lower = head.lower()
        length = 0
        if b"content-length:" in lower:
            length = int(lower.partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(rest) < length:
            self._more()
            rest = self._buffer.partition(b"\r\n\r\n")[2]
        self._buffer = rest[length:]
        whole = head + b"\r\n\r\n" + rest[:length]
        with self.server.changed:
            self.server.requests.append(whole)
            self.server.changed.notify_all()
        return whole

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise Gone
        self._buffer += data

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes, pause_s: float = 0.02) -> None:
        """Send byte by byte, until the server stops."""
        for index in range(len(data)):
            if self.server.stopping.wait(pause_s):
                return
            self.sock.sendall(data[index : index + 1])

    def hang(self) -> None:
        """Say nothing more, until the server stops."""
        self.server.stopping.wait()

    def wait_for_hangup(self) -> None:
        """Block until the client closes its side."""
        while self.sock.recv(65536):
            pass

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Script = Callable[[Peer], object]


class ScriptedServer:
    """Runs the n-th script on the n-th connection, the last one on all that follow."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.stopping = threading.Event()
        self.changed = threading.Condition()
        self._scripts = scripts
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for sock in self._open:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        self._listener.close()

    def wait_for(self, predicate: Callable[["ScriptedServer"], bool]) -> None:
        """Block until `predicate` holds; it is looked at after each connection and request."""
        with self.changed:
            assert self.changed.wait_for(lambda: predicate(self), 10)

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            # Without it Nagle holds an answer back behind the TLS tickets, and reset() drops it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            with self.changed:
                self.connections += 1
                self.changed.notify_all()
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock, script))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, script: Script) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            script(Peer(sock, self))
        except (Gone, OSError):
            pass
        finally:
            sock.close()


def answer(status: int, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """Return a whole HTTP answer; `length` overrides Content-Length."""
    lines = [
        f"HTTP/1.1 {status} Text",
        f"Date: {DATE}",
        "x-mns-request-id: 663881B9463338E6D1A3D4F1",
    ]
    lines += headers
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(data: bytes) -> Script:
    """Answer each request on the connection with these bytes."""

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(data)

    return script


def once(data: bytes, then: Callable[[Peer], object] = lambda peer: None) -> Script:
    """Answer one request, then do something, then close."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(data)
        then(peer)

    return script


def batch(*messages: bytes) -> bytes:
    """Return the document of a batch."""
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        b'<Messages xmlns="http://mns.aliyuncs.com/doc/v1/">' + b"".join(messages) + b"</Messages>"
    )


def message(kind: str, number: int = 1, body: bytes = b"e30=") -> bytes:
    """Return a sound `<Message>` of either broker."""
    next_name = b"NextVisibleTime" if kind == "mns" else b"NextConsumeTime"
    count_name = b"DequeueCount" if kind == "mns" else b"ConsumedTimes"
    return (
        b"<Message><MessageId>id-%d</MessageId><ReceiptHandle>handle-%d</ReceiptHandle>"
        b"<MessageBody>%s</MessageBody><%s>%d</%s><%s>1</%s></Message>"
    ) % (
        number,
        number,
        body,
        next_name,
        DATE_EPOCH_MS + 30_000,
        next_name,
        count_name,
        count_name,
    )
