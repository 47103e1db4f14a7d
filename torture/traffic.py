"""Receipts that flow while the daemon dies and comes back: over MNS, over RocketMQ, and pushed."""

import hashlib
import http.client
import itertools
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from receiptd.sandbox import AckEvent, Sandbox, Scenario
from receiptd.sandbox.receipts import sms_report
from torture.evidence import Key, Truth

MNS, ROCKETMQ, PUSH = "mns", "rocketmq", "push"
PULLERS = (MNS, ROCKETMQ, PUSH)

# A broker hides what it handed out for a minute or so; nobody wants to wait that long 1,575 times.
VISIBILITY_S = 1.0
_SCENARIO = Scenario(seed=7, failed=0.2, duplicates=0.05, reordered=0.2)

# At about 400 receipts a second each batch is a full one, or nearly.
_SEND_EACH = 8
_SEND_EVERY_S = 0.02

_PUSH_CLIENTS = 3
_PUSH_RECEIPTS = 5
_PUSH_AGAIN_S = 0.01  # while the daemon is dead
_PUSH_TIMEOUT_S = 2.0
_PUSH_SECRET = "pushed-by-the-torture"

_COMMON = """\
[database]
url = {database}
upgrade_on_start = false
[http]
listen = {listen}
[reconcile]
enabled = false  # it would find what the queue lost
"""
_MNS = """\
[accounts.main]
provider = "aliyun"
access_key_id = "testAK"
access_key_secret = "testSK"
endpoints = {{ dysms = {url}, dybase = {url}, mns = {url} }}
[sources.receipts]
puller = "mns"
account = "main"
message_type = "SmsReport"
queue = {queue}
credentials = "token"
threads = {threads}
"""
_ROCKETMQ = """\
[accounts.shop]
provider = "jushita"
app_key = "12345678"
app_secret = "topSecret"
access_key_id = "testAK"
access_key_secret = "testSK"
[sources.receipts]
puller = "rocketmq"
account = "shop"
endpoint = {url}
instance_id = "MQ_INST_torture"
topic = {topic}
group = "GID_receiptd"
threads = {threads}
"""
_PUSH = """\
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


class Traffic(Protocol):
    """One kind of source, with receipts in it. `on_ack` is called with the envelope's id at the
    moment of each ack."""

    def config(self, database_url: str, *, threads: int = 2) -> str: ...
    def flow(self) -> None: ...
    def end_flow(self) -> None: ...
    def is_drained(self) -> bool: ...
    def truth(self) -> Truth: ...
    def close(self) -> None: ...


def open_traffic(puller: str, on_ack: Callable[[str], None]) -> Traffic:
    """Return the traffic of a kind of source; it does not flow yet."""
    return PushTraffic(on_ack) if puller == PUSH else BrokerTraffic(puller, on_ack)


class BrokerTraffic:
    """The sandbox is the broker."""

    def __init__(self, puller: str, on_ack: Callable[[str], None]) -> None:
        self._jushita = puller == ROCKETMQ
        self.sandbox = Sandbox(
            scenario=_SCENARIO, visibility_s=VISIBILITY_S, invisible_s=VISIBILITY_S
        )
        self._on_ack = on_ack
        self.sandbox.on_ack = self._acked
        self.sandbox.start()
        self._phones = (f"139{number:08d}" for number in itertools.count())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="feed")

    def config(self, database_url: str, *, threads: int = 2) -> str:
        """Return the config.toml of the daemon."""
        q = json.dumps
        common = _COMMON.format(database=q(database_url), listen='""')
        url = q(self.sandbox.url)
        if self._jushita:
            return common + _ROCKETMQ.format(url=url, topic=q(self._queue()), threads=threads)
        return common + _MNS.format(url=url, queue=q(self._queue()), threads=threads)

    def send(self, count: int) -> None:
        """Let `count` SMS be reported."""
        phones = list(itertools.islice(self._phones, count))
        self.sandbox.send_sms(phones, jushita=self._jushita)

    def flow(self) -> None:
        """Send all the time."""
        self._thread.start()

    def end_flow(self) -> None:
        """Send no more."""
        self._ended.set()
        self._thread.join()

    def is_drained(self) -> bool:
        """Whether all has been acked."""
        return self.sandbox.depth(self._queue()) == 0

    def truth(self) -> Truth:
        """Return what was sent and handed out."""
        statuses: dict[Key, str] = {}
        for one in self.sandbox.truth():
            assert one.outcome is not None
            statuses[one.biz_id, "+86" + one.phone] = one.outcome
        return Truth(statuses, self.sandbox.deliveries)

    def close(self) -> None:
        """Stop the broker. Raises what went wrong in it."""
        self.sandbox.stop()
        if self.sandbox.errors:
            raise self.sandbox.errors[0]

    def _acked(self, event: AckEvent) -> None:
        self._on_ack(event.message_id)

    def _queue(self) -> str:
        return self.sandbox.topic if self._jushita else self.sandbox.queue("SmsReport")

    def _feed(self) -> None:
        while not self._ended.wait(_SEND_EVERY_S):
            self.send(_SEND_EACH)


class PushTraffic:
    """The provider's side of HTTP batch push: posts, and posts again until it is told code 0."""

    def __init__(self, on_ack: Callable[[str], None]) -> None:
        self._on_ack = on_ack
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._statuses: dict[Key, str] = {}
        self._deliveries: Counter[str] = Counter()
        self._ended = threading.Event()
        self._given_up = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, name=f"push/{number}")
            for number in range(_PUSH_CLIENTS)
        ]

    def config(self, database_url: str, *, threads: int = 2) -> str:
        """Return the config.toml of the daemon."""
        q = json.dumps
        common = _COMMON.format(database=q(database_url), listen=q(f"127.0.0.1:{self._port}"))
        return common + _PUSH.format(secret=q(_PUSH_SECRET), threads=threads)

    def flow(self) -> None:
        """Push all the time."""
        for thread in self._threads:
            thread.start()

    def end_flow(self) -> None:
        """Push nothing new."""
        self._ended.set()

    def is_drained(self) -> bool:
        """Whether each body was answered with code 0."""
        return self._ended.is_set() and not any(one.is_alive() for one in self._threads)

    def truth(self) -> Truth:
        """Return what was pushed, and how often."""
        with self._lock:
            return Truth(dict(self._statuses), dict(self._deliveries))

    def close(self) -> None:
        """Push no more, not even what was refused."""
        self._given_up.set()
        self.end_flow()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _client(self) -> None:
        connection = self._connection()
        while not self._ended.is_set():
            body = self._body()
            envelope_id = hashlib.sha256(body).hexdigest()[:32]
            while not self._post(connection, envelope_id, body):
                if self._given_up.wait(_PUSH_AGAIN_S):
                    return
            self._on_ack(envelope_id)
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PUSH_TIMEOUT_S)

    def _body(self) -> bytes:
        with self._lock:
            reports = [self._report(next(self._numbers)) for _ in range(_PUSH_RECEIPTS)]
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
                self._deliveries[envelope_id] += _PUSH_RECEIPTS
            connection.request("POST", f"/push/receipts/{_PUSH_SECRET}", body)
            answer = connection.getresponse()
            answered: object = json.loads(answer.read() or b"null")
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()
            return False
        is_taken = isinstance(answered, dict) and answered.get("code") == 0
        return answer.status == 200 and is_taken
