"""A real server on loopback over a real store, and a client that sends what it is told."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from receiptd.client import accounts
from receiptd.clock import Clock, SystemClock
from receiptd.config import Settings
from receiptd.gate import Gate
from receiptd.metrics import Metrics
from receiptd.pullers.push import Inbox
from receiptd.pulse import Pulse
from receiptd.store import Store, open_store
from receiptd.web.guest import Http

TOKEN = "a-token-of-24-characters"
SECRET = "a-push-secret-of-24-char"
PATIENCE_S = 20


class Answer:
    """What came back."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        self.body = answer.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's word."""
        return str(self.json["error"]["code"])


class Running:
    """One daemon's HTTP with an empty database, without the daemon."""

    def __init__(self, url: str, *, token: str = "", clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.settings = Settings.model_validate(
            {
                "database": {"url": url},
                "http": {"listen": "127.0.0.1:0", "token": token},
                "accounts": {
                    "main": {"provider": "aliyun"},
                    "shop": {"provider": "jushita"},
                    "live": {"provider": "polyv", "receipts_account": "main"},
                },
                "sources": {
                    "pushed": {"puller": "push", "account": "main", "push_secret": SECRET},
                },
            }
        )
        self.store: Store = open_store(url, self.clock)
        self.store.upgrade()
        self.metrics = Metrics(self.clock)
        self.inbox = Inbox(self.clock)
        self.gate = Gate(self.clock, spread=lambda: 0.5)
        self.pulses: list[Pulse] = []
        self.http = Http(
            settings=self.settings,
            accounts=accounts(self.settings),
            store=self.store,
            metrics=self.metrics,
            inboxes={"pushed": self.inbox},
            store_gate=self.gate,
            pulses=self.pulses,
            clock=self.clock,
        )
        self.http.serve([])

    def ask(
        self,
        method: str,
        target: str,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request; a body that is no bytes goes as JSON."""
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.http.port, timeout=PATIENCE_S)
        try:
            connection.request(method, target, body, sent)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, target: str, **headers: str) -> Answer:
        return self.ask("GET", target, headers=headers)

    def record(self, *sends: dict[str, object]) -> Answer:
        return self.ask("POST", "/v1/sends", list(sends))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.http.port), timeout=PATIENCE_S)

    def close(self) -> None:
        self.http.begin_stop()
        self.http.wait_stopped()
        self.store.close()


@contextmanager
def running(url: str, **options: Any) -> Iterator[Running]:
    one = Running(url, **options)
    try:
        yield one
    finally:
        one.close()


def own(number: int, **fields: object) -> dict[str, object]:
    """Return a send in our own shape."""
    return {
        "account": "main",
        "biz_id": f"9000000000000{number:05d}^0",
        "phone": f"139{number:08d}",
        "submitted_at": "2026-11-20T08:00:00+08:00",
        **fields,
    }


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes, or resets."""
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except ConnectionError:
        pass
    return data
