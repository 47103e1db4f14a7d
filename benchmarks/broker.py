"""The benchmark's broker: one MNS queue on loopback, as fast as Python can be.

It is no sandbox: it checks no signature and forgets nothing, so that what is measured is the
client. One process of its own; the parent commands it over a pipe (`Broker` in fleet.py).
"""

import asyncio
import os
import re
import time
from collections.abc import Callable
from email.utils import formatdate
from multiprocessing.connection import Connection

from benchmarks.mailbox import Poll, Queue

MAX_BATCH = 16
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_NUMBER = re.compile(rb"[?&]numOfMessages=(\d+)")
_WAIT = re.compile(rb"[?&]waitseconds=(\d+)")
_HEAD = (
    b"HTTP/1.1 %s\r\nServer: AliyunMQS\r\nDate: %s\r\nContent-Type: text/xml;charset=utf-8\r\n"
    b"Connection: keep-alive\r\nx-mns-request-id: 5F290C926D472878\r\n"
    b"x-mns-version: 2015-06-06\r\n"
)


class Peer(asyncio.Protocol):
    """One connection: a request at a time, its answer after the round trip's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, queue: Queue, round_trip_s: float) -> None:
        self._loop = loop
        self._queue = queue
        self._round_trip_s = round_trip_s
        self._buffer = b""
        self._poll: Poll | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._poll is not None:
            self._queue.forget(self._poll)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            end += 4
            head = self._buffer[:end]
            if (length := _LENGTH.search(head)) is not None:
                end += int(length[1])
                if len(self._buffer) < end:
                    return
            request, self._buffer = self._buffer[:end], self._buffer[end:]
            self._take(request)

    def _take(self, request: bytes) -> None:
        if request.startswith(b"GET /queues/"):
            target = request[: request.index(b"\r\n")]
            count, wait = _NUMBER.search(target), _WAIT.search(target)
            number = min(int(count[1]), MAX_BATCH) if count else 0
            self._poll = Poll(number, self._reply)
            self._queue.receive(self._poll, float(wait[1]) if wait else 0.0)
        elif request.startswith(b"DELETE /queues/"):
            self._queue.delete(request)
            self._reply("204 No Content", b"")
        else:  # the daemon's other questions, to the gateway: nothing here speaks for it
            self._reply("404 Not Found", b"")

    def _reply(self, status: str, body: bytes) -> None:
        head = _head(status, int(time.time()))
        if status[:3] == "204":
            answer = head + b"\r\n"
        else:
            answer = b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)
        if self._round_trip_s:
            self._loop.call_later(self._round_trip_s, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)


_heads: dict[tuple[str, int], bytes] = {}


def _head(status: str, second: int) -> bytes:
    """Return the head of an answer of this second, rendered once."""
    if (head := _heads.get((status, second))) is None:
        head = _HEAD % (status.encode(), formatdate(second, usegmt=True).encode())
        _heads[status, second] = head
    return head


def serve(control: Connection, core: int | None, round_trip_s: float) -> None:
    """Be the broker until the parent says `stop` or is gone: tell the port, then obey."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    asyncio.run(_serve(control, round_trip_s))


async def _serve(control: Connection, round_trip_s: float) -> None:
    loop = asyncio.get_running_loop()
    queue = Queue(loop)
    server = await loop.create_server(
        lambda: Peer(loop, queue, round_trip_s), "127.0.0.1", 0, backlog=512
    )
    ended = asyncio.Event()
    commands: dict[str, Callable[..., object]] = {
        "prepare": queue.prepare,
        "begin": queue.begin,
        "flow": queue.flow,
        "counts": queue.counts,
        "lags_s": queue.lags_s,
        "stop": ended.set,
    }

    def obey() -> None:
        try:
            name, arguments = control.recv()
        except EOFError:
            ended.set()
            return
        control.send(commands[name](*arguments))

    loop.add_reader(control.fileno(), obey)
    control.send(server.sockets[0].getsockname()[1])
    await ended.wait()
    loop.remove_reader(control.fileno())
    server.close()
