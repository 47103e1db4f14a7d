"""The seam at the SDKs' `http.conn`, and what the SDKs sign: fails if an SDK changes under us."""

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import receiptd
from receiptd.model import Credentials
from tests.pullers.puller_harness import KINDS, KeyRing, committed, make_puller
from tests.pullers.scripted_server import DATE, NOTHING, ScriptedServer, always, answer

PACKAGE = Path(receiptd.__file__).parent
VECTOR_QUEUE = "Alicom-Queue-1000000000000001-SmsReport"
VECTOR_KEYS = Credentials("testId", "testSecret")


@pytest.mark.parametrize(
    ("distribution", "pinned"), [("aliyun-mns-sdk", "1.3.0"), ("mq-http-sdk", "1.0.3")]
)
def test_the_sdks_are_those_that_the_seam_was_proven_on(distribution: str, pinned: str) -> None:
    assert version(distribution) == pinned


@pytest.mark.parametrize("kind", KINDS)
def test_the_sdks_sign_and_never_send(kind: str) -> None:
    with ScriptedServer(always(answer(404, NOTHING))) as server:
        puller = make_puller(kind, server.url)
        puller.pull(16, 0)
        assert puller._client.http.conn.sock is None
        assert puller._client.http.logger is None
        assert puller._client.logger is None
        puller.close()
    assert len(server.requests) == 1


@pytest.fixture
def frozen_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both SDKs call time.strftime through their own module."""
    import mns.mns_client
    import mq_http_sdk.mq_client

    class Time:
        @staticmethod
        def strftime(*_: object) -> str:
            return DATE

        @staticmethod
        def gmtime() -> None:
            return None

    monkeypatch.setattr(mns.mns_client, "time", Time)
    monkeypatch.setattr(mq_http_sdk.mq_client, "time", Time)


def headers_of(request: bytes) -> dict[str, str]:
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


@pytest.mark.usefixtures("frozen_date")
class TestSignatures:
    """The vectors of wire-formats.md 5.5 and 6.4."""

    def test_an_mns_receive_is_signed_as_documented(self) -> None:
        request = self._request("mns", queue=VECTOR_QUEUE)

        target = f"/queues/{VECTOR_QUEUE}/messages?numOfMessages=16&waitseconds=30"
        headers = headers_of(request)
        assert request.startswith(f"GET {target} HTTP/1.1\r\n".encode())
        assert headers["authorization"] == "MNS testId:lX7jiHQPKR0qwAZeGxmkL/GyL6o="
        assert headers["date"] == DATE
        assert "security-token" not in headers

    def test_a_rocketmq_receive_carries_the_namespace_and_the_tag(self) -> None:
        request = self._request("rocketmq", topic="sms_receipt", tag="A||B")

        assert request.startswith(
            b"GET /topics/sms_receipt/messages?consumer=GID_receiptd&ns=MQ_INST_1_abc"
            b"&numOfMessages=16&waitseconds=30&tag=A%7C%7CB HTTP/1.1\r\n"
        )

    def test_a_rocketmq_receive_is_signed_as_documented(self) -> None:
        request = self._request("rocketmq", topic="sms_receipt")

        headers = headers_of(request)
        assert headers["authorization"] == "MQ testId:b9mvNsQvQBIkgT+Z5RKi14Ui7i8="
        assert headers["x-mq-version"] == "2015-06-06"

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_token_is_sent_beside_the_signature(self, kind: str) -> None:
        request = self._request(kind, keys=Credentials("testId", "testSecret", "STS.token"))

        assert headers_of(request)["security-token"] == "STS.token"

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_ack_carries_its_handles_in_the_body(self, kind: str) -> None:
        with ScriptedServer(always(answer(204))) as server:
            puller = make_puller(kind, server.url)
            puller.ack(committed("h1", "h&2"))
            puller.close()

        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        service = {"mns": b"mns", "rocketmq": b"mq"}[kind]
        assert b"content-type: text/xml;charset=UTF-8" in head
        assert body == (
            b'<?xml version="1.0" encoding="utf-8"?>'
            b'<ReceiptHandles xmlns="http://%s.aliyuncs.com/doc/v1/">'
            b"<ReceiptHandle>h1</ReceiptHandle><ReceiptHandle>h&amp;2</ReceiptHandle>"
            b"</ReceiptHandles>" % service
        )

    @staticmethod
    def _request(
        kind: str,
        *,
        queue: str = "",
        topic: str = "",
        tag: str = "",
        keys: Credentials = VECTOR_KEYS,
    ) -> bytes:
        from receiptd.clock import SystemClock
        from receiptd.pullers.base import Puller
        from receiptd.pullers.mns import MnsPuller
        from receiptd.pullers.rocketmq import RocketMqPuller

        with ScriptedServer(always(answer(404, NOTHING))) as server:
            ring, clock = KeyRing(first=keys), SystemClock()
            puller: Puller
            if kind == "mns":
                puller = MnsPuller("s", server.url, queue or "q", ring, clock)
            else:
                puller = RocketMqPuller(
                    "s",
                    server.url,
                    topic or "t",
                    "GID_receiptd",
                    ring,
                    clock,
                    instance_id="MQ_INST_1_abc",
                    tag=tag,
                )
            puller.pull(16, 30)
            puller.close()
        return server.requests[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ((16, 30), (16, 30)),
        ((0, 0), (1, 0)),
        ((99, 99), (16, 30)),
        ((3, 1.9), (3, 1)),
        ((1, -1), (1, 0)),
    ],
)
def test_batch_size_and_wait_stay_within_what_the_brokers_allow(
    kind: str, asked: tuple[int, float], sent: tuple[int, int]
) -> None:
    with ScriptedServer(always(answer(404, NOTHING))) as server:
        puller = make_puller(kind, server.url)
        puller.pull(*asked)
        puller.close()
    assert f"numOfMessages={sent[0]}&waitseconds={sent[1]} ".encode() in server.requests[0]


def test_the_sdks_are_imported_in_their_own_modules_only() -> None:
    importers: dict[str, set[str]] = {"mns": set(), "mq_http_sdk": set()}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                if (top := name.partition(".")[0]) in importers:
                    importers[top].add(path.relative_to(PACKAGE).as_posix())
    assert importers == {"mns": {"pullers/mns.py"}, "mq_http_sdk": {"pullers/rocketmq.py"}}


def test_nothing_sets_the_locale_because_the_sdks_format_dates_with_it() -> None:
    callers = [
        path.name for path in PACKAGE.rglob("*.py") if "setlocale(" in path.read_text("utf-8")
    ]
    assert callers == []


def test_the_rest_of_the_pullers_comes_without_the_sdks() -> None:
    code = (
        "import sys, receiptd.pullers.base, receiptd.pullers.broker, receiptd.pullers.connection\n"
        "print([name for name in ('mns', 'mq_http_sdk', 'pytest') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
