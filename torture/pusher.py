"""Receipts that the provider pushes, again and again until it is told that they are stored."""

import hashlib
import http.client
import itertools
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from receiptd.sandbox.receipts import sms_report
from torture.evidence import Key, Truth
from torture.lives import common_config

_CLIENTS = 3
_RECEIPTS = 5
_AGAIN_S = 0.01  # while the daemon is dead
_TIMEOUT_S = 2.0
_SECRET = "pushed-by-the-torture"

_CONFIG = """\
[accounts.main]
provider = "aliyun"
access_key_id = "testAK"
access_key_secret = "testSK"
[sources.receipts]
puller = "push"
account = "main"
message_type = "SmsReport"
push_secret = {secret}
threads = {threads}
"""


class PushTraffic:
    """The provider's side of HTTP batch push: posts, and posts again until it is told code 0."""

    def __init__(self, on_ack: Callable[[str], None]) -> None:
        self._on_ack = on_ack
        # Kept, so that nobody else is given the port while the daemon is dead, least of all a
        # client of ours, which would then be connected to itself.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self._port: int = self._place.getsockname()[1]
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._statuses: dict[Key, str] = {}
        self._deliveries: Counter[str] = Counter()
        self._ended = threading.Event()
        self._given_up = threading.Event()
        self._pool = ThreadPoolExecutor(_CLIENTS)
        self._clients: list[Future[None]] = []

    def config(self, database_url: str, *, threads: int = 2) -> str:
        """Return the config.toml of the daemon."""
        q = json.dumps
        common = common_config(database_url, listen=f"127.0.0.1:{self._port}")
        return common + _CONFIG.format(secret=q(_SECRET), threads=threads)

    def flow(self) -> None:
        """Push all the time."""
        self._clients = [self._pool.submit(self._client) for _ in range(_CLIENTS)]

    def end_flow(self) -> None:
        """Push nothing new."""
        self._ended.set()

    def is_drained(self) -> bool:
        """Whether each body was answered with code 0."""
        return self._ended.is_set() and all(client.done() for client in self._clients)

    def truth(self) -> Truth:
        """Return what was pushed, and how often."""
        with self._lock:
            return Truth(dict(self._statuses), dict(self._deliveries))

    def close(self) -> None:
        """Push no more, not even what was refused. Raises what went wrong in a client."""
        self._given_up.set()
        self.end_flow()
        self._pool.shutdown()
        self._place.close()
        for client in self._clients:
            client.result()

    def _client(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        while not self._ended.is_set():
            body = self._body()
            envelope_id = hashlib.sha256(body).hexdigest()[:32]
            while not self._post(connection, envelope_id, body):
                if self._given_up.wait(_AGAIN_S):
                    return
            self._on_ack(envelope_id)
        connection.close()

    def _body(self) -> bytes:
        with self._lock:
            reports = [self._report(next(self._numbers)) for _ in range(_RECEIPTS)]
        return b"[" + b",".join(reports) + b"]"

    def _report(self, number: int) -> bytes:
        phone, biz_id, success = f"139{number:08d}", f"{900_000 + number}^0", number % 5 != 0
        self._statuses[biz_id, "+86" + phone] = "delivered" if success else "failed"
        now = time.time()
        return sms_report(
            biz_id=biz_id,
            phone=phone,
            out_id="",
            code="DELIVERED" if success else "MK:0001",
            success=success,
            sent_at=now,
            reported_at=now,
        )

    def _post(self, connection: http.client.HTTPConnection, envelope_id: str, body: bytes) -> bool:
        try:
            if connection.sock is None:
                connection.connect()  # nothing was handed out if nobody listens
            with self._lock:
                self._deliveries[envelope_id] += _RECEIPTS
            connection.request("POST", f"/push/receipts/{_SECRET}", body)
            answer = connection.getresponse()
            answered: object = json.loads(answer.read() or b"null")
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()
            return False
        is_taken = isinstance(answered, dict) and answered.get("code") == 0
        return answer.status == 200 and is_taken
