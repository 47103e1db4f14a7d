"""The delivery suite for the push puller: on its inbox, and with a provider that posts each body to
a real HTTP server, again and again until it is told code 0."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from receiptd.model import Committed, Envelope
from receiptd.pullers.base import AckResult, Puller
from receiptd.pullers.push import PushPuller
from receiptd.testing.delivery import DeliveryConformance, DeliveryHarness
from tests.acceptance.process import eventually
from tests.pullers.test_push import Provider
from tests.web.http_harness import PATIENCE_S, SECRET, Running, running

CLIENTS = 8
_PAUSE_S = 0.005  # before what was not stored is posted again


class PushingProvider:
    """The provider's side, and the puller on the inbox of the server that it posts to."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._open: set[bytes] = set()  # not answered with code 0 yet
        self._underway: set[http.client.HTTPConnection] = set()
        self._connections: list[http.client.HTTPConnection] = []
        self._local = threading.local()
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._acked = self._heard = self._unheard = 0

    def open(self) -> Puller:
        return _Counted(self, PushPuller("life", self._server.inbox))

    def publish(self, bodies: Sequence[bytes]) -> None:
        with self._lock:
            self._open.update(bodies)
        for body in bodies:
            self._pool.submit(self._deliver, body)

    def publish_unreadable(self) -> None:
        self.publish([b" "])

    def depth(self) -> int:
        # Code 0 is on its way when `ack` returns.
        eventually(lambda: self._heard + self._unheard >= self._acked, PATIENCE_S)
        return len(self._open)

    def expire(self) -> None:
        """Wait until it is posted again: the provider does so by itself."""
        inbox = self._server.inbox
        eventually(lambda: bool(inbox._waiting) or not self._open, PATIENCE_S)

    def answer_empty_once(self) -> None:
        pytest.skip("an inbox is not asked over a network: it never answers before its time")

    def cut_next_answer(self) -> None:
        pytest.skip("an inbox is not asked over a network: its answer cannot break off")

    def cut(self) -> None:
        with self._lock:
            self._unheard += len(self._underway)
            for one in self._underway:
                with suppress(OSError, AttributeError):  # not connected yet, or not any more
                    one.sock.shutdown(socket.SHUT_RDWR)

    def wait_until_polling(self) -> None:
        eventually(lambda: not self._open and self._server.inbox.waiters == 1, PATIENCE_S)

    def acked(self, count: int) -> None:
        with self._lock:
            self._acked += count

    def close(self) -> None:
        self._ended.set()
        self.cut()
        self._pool.shutdown(cancel_futures=True)
        for one in self._connections:
            one.close()

    def _deliver(self, body: bytes) -> None:
        while not self._ended.is_set():
            if self._post(body):
                with self._lock:
                    self._heard += 1
                    self._open.discard(body)
                return
            self._ended.wait(_PAUSE_S)

    def _post(self, body: bytes) -> bool:
        connection = self._connection()
        with self._lock:
            self._underway.add(connection)
        try:
            connection.request("POST", f"/push/pushed/{SECRET}", body)
            return bool(json.loads(connection.getresponse().read())["code"] == 0)
        except (OSError, http.client.HTTPException):
            connection.close()  # and it connects again
            return False
        finally:
            with self._lock:
                self._underway.discard(connection)

    def _connection(self) -> http.client.HTTPConnection:
        """Return the connection of the calling thread, which outlives its posts."""
        if not hasattr(self._local, "connection"):
            port = self._server.http.port
            self._local.connection = http.client.HTTPConnection("127.0.0.1", port)
            self._connections.append(self._local.connection)
        connection: http.client.HTTPConnection = self._local.connection
        return connection


class _Counted:
    """A puller whose acks its provider will hear of."""

    def __init__(self, provider: PushingProvider, puller: PushPuller) -> None:
        self._provider = provider
        self._puller = puller

    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        return self._puller.pull(batch_size, wait_s)

    def ack(self, committed: Sequence[Committed]) -> AckResult:
        result = self._puller.ack(committed)
        self._provider.acked(result.acked)
        return result

    def cancel(self) -> None:
        self._puller.cancel()

    def close(self) -> None:
        self._puller.close()


class TestPush(DeliveryConformance):
    @pytest.fixture
    def harness(self) -> DeliveryHarness:
        return Provider()


class TestPushOverHttp(DeliveryConformance):
    # A thousand posts would take longer than all that is done with them, and no more than one comes
    # from each client at a time.
    many = 200
    some = 10 * CLIENTS

    @pytest.fixture
    def harness(self, url: str) -> Iterator[DeliveryHarness]:
        with running(url) as server:
            provider = PushingProvider(server)
            yield provider
            provider.close()


def test_push_over_https() -> None:
    pytest.skip("receiptd's HTTP has no TLS of its own: a proxy in front of it brings that")
