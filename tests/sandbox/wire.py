"""A raw client: it signs requests, sees the bytes of the answers, and hides nothing."""

import http.client
import re
import socket
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from receiptd.sandbox import Sandbox
from receiptd.sandbox.signature import sign_queue_request

HANDLES = '<ReceiptHandles xmlns="http://mns.aliyuncs.com/doc/v1/">{}</ReceiptHandles>'


@dataclass(frozen=True)
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def all(self, name: str) -> list[str]:
        found = re.findall(rf"<{name}>(.*?)</{name}>".encode(), self.body, re.DOTALL)
        return [one.decode() for one in found]

    def first(self, name: str) -> str:
        return self.all(name)[0]


class Wire:
    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.key, self.secret, self.token = "testAK", "testSK", ""
        self.conn = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)

    def close(self) -> None:
        self.conn.close()

    def signed(
        self, method: str, target: str, body: bytes = b"", *, scheme: str = "", **headers: str
    ) -> dict[str, str]:
        scheme = scheme or ("MQ" if target.startswith("/topics") else "MNS")
        result = {f"x-{scheme.lower()}-version": "2015-06-06", "date": formatdate(usegmt=True)}
        if body:
            result["content-type"] = "text/xml;charset=UTF-8"
        if self.token:
            result["security-token"] = self.token
        result |= {name.replace("_", "-"): value for name, value in headers.items()}
        signature = sign_queue_request(self.secret, method, target, result, f"x-{scheme.lower()}-")
        return {"authorization": f"{scheme} {self.key}:{signature}"} | result

    def call(self, method: str, target: str, body: bytes = b"", **headers: str) -> Reply:
        return self.send(method, target, body, self.signed(method, target, body, **headers))

    def send(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Reply:
        self.conn.request(method, target, body or None, headers)
        response = self.conn.getresponse()
        return Reply(response.status, response.getheaders(), response.read())

    def receive(self, queue: str, batch: int = 16, wait_s: int = 0) -> Reply:
        return self.call(
            "GET", f"/queues/{queue}/messages?numOfMessages={batch}&waitseconds={wait_s}"
        )

    def consume(self, topic: str, group: str = "GID", wait_s: int = 0) -> Reply:
        return self.call(
            "GET",
            f"/topics/{topic}/messages?consumer={group}&ns=I&numOfMessages=16&waitseconds={wait_s}",
        )

    def delete(self, queue: str, *handles: str) -> Reply:
        return self.call("DELETE", f"/queues/{queue}/messages", handles_body(*handles))

    def ack(self, topic: str, *handles: str, group: str = "GID") -> Reply:
        target = f"/topics/{topic}/messages?consumer={group}&ns=I"
        return self.call("DELETE", target, handles_body(*handles))

    def raw(self, method: str, target: str, timeout_s: float = 10) -> socket.socket:
        """Send a signed request on a socket of its own and return the socket."""
        lines = [f"{method} {target} HTTP/1.1", "host: sandbox"]
        lines += [f"{name}: {value}" for name, value in self.signed(method, target).items()]
        sock = socket.create_connection(("127.0.0.1", self.sandbox.port), timeout=timeout_s)
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        return sock


def handles_body(*handles: str) -> bytes:
    inner = "".join(f"<ReceiptHandle>{handle}</ReceiptHandle>" for handle in handles)
    return HANDLES.format(inner).encode()


def everything(sock: socket.socket) -> bytes:
    """Read until the other side ends the connection."""
    received = b""
    while chunk := sock.recv(65536):
        received += chunk
    return received


def sdk_error(call: Any, *args: Any) -> Any:
    """Return the SDK exception that a call raises."""
    try:
        call(*args)
    except Exception as error:
        return error
    raise AssertionError("no exception")
