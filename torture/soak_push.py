"""Receipts that the provider pushes to the daemon, until it is told that they are stored."""

import http.client
import itertools
import json
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

PUSH_SECRET = "pushed-by-the-soak"
_CLIENTS = 3
_AGAIN_S = 0.05
_TIMEOUT_S = 10.0
# Which of a hundred posts are spoilt.
_CUT, _HUNG_UP, _SENT_AGAIN = 0, 33, 66


class Pusher:
    """The provider's side of HTTP batch push: posts, and posts again until it is told code 0.

    Of a hundred posts, one is cut in the middle of its body, one does not wait for its answer, and
    one is posted again though all was well.
    """

    def __init__(self, port: int, on_ack: Callable[[bytes], None]) -> None:
        """`on_ack` is called with a body at the moment that the daemon says it is stored."""
        self._port = port
        self._on_ack = on_ack
        self._bodies: queue.Queue[tuple[bytes, int] | None] = queue.Queue(4 * _CLIENTS)
        self._lock = threading.Lock()
        self._left = 0
        self._posts = itertools.count(1)
        self._given_up = threading.Event()
        self.handed_out = 0  # records, each time that their body may have arrived
        self._pool = ThreadPoolExecutor(_CLIENTS, thread_name_prefix="push")
        self._clients: list[Future[None]] = [
            self._pool.submit(self._client) for _ in range(_CLIENTS)
        ]

    def push(self, reports: list[bytes], stopped: threading.Event) -> None:
        """Hand over a body; waits for room."""
        self._put(b"[" + b",".join(reports) + b"]", len(reports), stopped)

    def push_poison(self, body: bytes) -> None:
        """Hand over a body that cannot be understood."""
        self._put(body, 1, self._given_up)

    def left(self) -> int:
        """Return how many bodies were not answered with code 0 yet."""
        return self._left

    def close(self) -> None:
        """Push no more. Raises what went wrong in a client."""
        self._given_up.set()
        for _ in self._clients:
            self._bodies.put(None)
        self._pool.shutdown()
        for client in self._clients:
            client.result()

    def _put(self, body: bytes, records: int, stopped: threading.Event) -> None:
        with self._lock:
            self._left += 1
        while not stopped.is_set():
            try:
                self._bodies.put((body, records), timeout=_AGAIN_S)
                return
            except queue.Full:
                pass

    def _client(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        while (taken := self._bodies.get()) is not None:
            body, records = taken
            while not self._given_up.is_set() and not self._post(connection, body, records):
                self._given_up.wait(_AGAIN_S)
            with self._lock:
                self._left -= 1
        connection.close()

    def _post(self, connection: http.client.HTTPConnection, body: bytes, records: int) -> bool:
        """Return whether the daemon said that it is stored, and this is the end of it."""
        with self._lock:
            nth = next(self._posts) % 100
            self.handed_out += records
        try:
            if nth == _CUT:
                self._cut(connection, body)
                return False
            connection.request("POST", f"/push/pushed/{PUSH_SECRET}", body)
            if nth == _HUNG_UP:
                connection.close()
                return False
            answer = connection.getresponse()
            answered: object = json.loads(answer.read() or b"null")
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()
            return False
        if answer.status != 200 or not isinstance(answered, dict) or answered.get("code") != 0:
            return False
        self._on_ack(body)
        return nth != _SENT_AGAIN

    def _cut(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        connection.putrequest("POST", f"/push/pushed/{PUSH_SECRET}")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[: len(body) // 2])
        connection.close()
