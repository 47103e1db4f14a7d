"""Hosts that never answer, names that resolve as told, and one bare call over a connection."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from receiptd.pullers.connection import Connection
from receiptd.pullers.http1 import serialize
from tests.pullers.puller_harness import (
    PATIENCE_S,
)
from tests.pullers.scripted_server import (
    NOTHING,
    answer,
)

LONG_S = 30.0
SOON_S = 2.0  # alone it takes a millisecond; LONG_S if it did not work
EMPTY = answer(404, NOTHING)


@contextmanager
def black_hole() -> Iterator[int]:
    """Give a port whose SYNs are dropped: nobody accepts and the accept queue is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
    try:
        yield port
    finally:
        for filler in fillers:
            filler.close()
        listener.close()


def resolve_to(
    monkeypatch: pytest.MonkeyPatch, answer_names: Callable[[int], list[tuple[str, int]]]
) -> None:
    """Let every name resolve to these addresses; addresses stay what they are."""
    original = socket.getaddrinfo

    def fake(host: str, port: int, **options: Any) -> Any:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            return original(host, port, **options)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in answer_names(port)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", fake)


def plain(port: int, **options: Any) -> Connection:
    return Connection("127.0.0.1", port, https=False, **options)


def get(connection: Connection, seconds: float = PATIENCE_S) -> int:
    """Make one call and return its status."""
    request = serialize("GET", "/", b"", {"host": "x"})
    return connection.exchange(request, seconds, interruptible=True).status
