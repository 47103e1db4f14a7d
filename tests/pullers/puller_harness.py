"""What the puller tests share: credentials, pullers with short deadlines, conformance harnesses."""

import ssl
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from receiptd.clock import Clock, SystemClock
from receiptd.model import Committed, Credentials, Envelope
from receiptd.pullers.base import Puller
from receiptd.pullers.broker import Limits
from receiptd.pullers.mns import MnsPuller
from receiptd.pullers.rocketmq import RocketMqPuller
from receiptd.sandbox import Fault, ManualClock, Sandbox
from tests.chaos_proxy import ChaosProxy

QUEUE = "Alicom-Queue-1092397003988387-SmsReport"
TOPIC = "jst-sms-report"
KINDS = ("mns", "rocketmq")
DEADLINE_S = 0.3  # where a test is about the deadline: long for loopback, short for a test
PATIENCE_S = 20.0  # where it is not: no busy machine may fail it
GROUP = "GID_receiptd"
INSTANCE = "MQ_INST_1_abc"


class KeyRing:
    """Credentials as the daemon hands them out: `later` are what a refusal brings."""

    def __init__(self, *later: Credentials, first: Credentials | None = None) -> None:
        self._now = first or Credentials("testAK", "testSK")
        self._later = list(later)
        self.refusals: list[Credentials] = []

    def current(self) -> Credentials:
        return self._now

    def refused(self, used: Credentials) -> bool:
        self.refusals.append(used)
        if not self._later:
            return False
        self._now = self._later.pop(0)
        return True

    def cancel(self) -> None:
        self._later.clear()


@cache
def authority() -> trustme.CA:
    """Return the certificate authority of this test run."""
    return trustme.CA()


def server_tls(*names: str, not_after: datetime | None = None) -> ssl.SSLContext:
    """Return a server's context with a certificate for `names` (by default for loopback)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names = names or ("127.0.0.1", "localhost")
    authority().issue_cert(*names, not_after=not_after).configure_cert(context)
    return context


def trust_the_authority(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let this process trust `authority`, as an operator would: with SSL_CERT_FILE."""
    path = folder / "ca.pem"
    authority().cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


def sandbox_over(scheme: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Sandbox:
    """Return a sandbox on virtual time, to be entered; over https this process trusts it."""
    trust_the_authority(monkeypatch, folder)
    return Sandbox(tls=server_tls() if scheme == "https" else None, virtual_time=True)


class SandboxHarness:
    """What the conformance suites need, over the sandbox on virtual time. To be cut, it needs a
    proxy in front of it."""

    hidden_s = 30.0
    _IN_ITS_HEAD = 100  # bytes of an answer, or of its TLS record

    def __init__(self, sandbox: Sandbox, proxy: ChaosProxy | None = None) -> None:
        self.sandbox = sandbox
        self.proxy = proxy

    @property
    def url(self) -> str:
        if self.proxy is None:
            return self.sandbox.url
        return f"{urlsplit(self.sandbox.url).scheme}://127.0.0.1:{self.proxy.port}"

    def cut(self) -> None:
        assert self.proxy is not None
        self.proxy.reset()

    def cut_next_answer(self) -> None:
        assert self.proxy is not None
        self.proxy.limit(self._IN_ITS_HEAD)

    def expire(self) -> None:
        assert isinstance(self.sandbox.clock, ManualClock)
        self.sandbox.clock.advance(self.hidden_s + 1)

    def answer_empty_once(self) -> None:
        self.sandbox.set_fault(Fault.build("empty", ("receive", "consume"), times=1))

    def wait_until_polling(self) -> None:
        assert self.sandbox.wait_until(lambda: self.sandbox.polls_waiting() == 1)


class MnsHarness(SandboxHarness):
    @property
    def queue(self) -> str:
        return self.sandbox.queue("SmsReport")

    def open(self) -> Puller:
        return MnsPuller("sms", self.url, self.queue, KeyRing(), SystemClock())

    def publish(self, bodies: Sequence[bytes]) -> None:
        for body in bodies:
            self.sandbox.send_mns(self.queue, body)

    def publish_unreadable(self) -> None:
        self.sandbox.send_mns(self.queue, b'{"raw":"json, not base64"}', encode=False)

    def depth(self) -> int:
        return self.sandbox.depth(self.queue)


class RocketMqHarness(SandboxHarness):
    hidden_s = 300.0

    def open(self) -> Puller:
        return RocketMqPuller("shop", self.url, self.sandbox.topic, GROUP, KeyRing(), SystemClock())

    def publish(self, bodies: Sequence[bytes]) -> None:
        for body in bodies:
            self.sandbox.publish_mq(self.sandbox.topic, body.decode())

    def publish_unreadable(self) -> None:
        self.sandbox.send_raw_mq(
            self.sandbox.topic,
            "<Message><MessageId>{id}</MessageId><ReceiptHandle>{handle}</ReceiptHandle>"
            "<MessageBody>a & b</MessageBody></Message>",
        )

    def depth(self) -> int:
        return self.sandbox.depth(self.sandbox.topic, GROUP)


def make_puller(
    kind: str,
    url: str,
    credentials: KeyRing | None = None,
    clock: Clock | None = None,
    seconds: float = PATIENCE_S,
    **limits: float,
) -> MnsPuller | RocketMqPuller:
    """Return a puller whose deadlines are all `seconds`, unless told otherwise."""
    all_of_them = {"pull_spare_s": seconds, "ack_s": seconds, "connect_s": seconds, **limits}
    credentials, clock = credentials or KeyRing(), clock or SystemClock()
    if kind == "mns":
        return MnsPuller("sms", url, QUEUE, credentials, clock, limits=Limits(**all_of_them))
    return RocketMqPuller(
        "shop", url, TOPIC, GROUP, credentials, clock, limits=Limits(**all_of_them)
    )


def committed(*handles: str) -> list[Committed]:
    """Return envelopes with these handles, as if their transaction were durable."""
    return [
        Committed(Envelope(source="sms", envelope_id=f"id-{handle}", body=b"{}", handle=handle))
        for handle in handles
    ]
