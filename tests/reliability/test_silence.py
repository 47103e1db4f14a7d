"""S1: no secret and no phone in anything that comes out, whatever goes wrong, with all being
logged."""

import base64
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from receiptd import __version__
from receiptd.clock import ManualClock, SystemClock
from receiptd.config import AccountSettings
from receiptd.gate import Gate
from receiptd.model import CredentialsSource, Origin
from receiptd.pipeline import Pipeline
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context
from receiptd.pullers.broker import Limits
from receiptd.pullers.mns import MnsPuller
from receiptd.pullers.rocketmq import RocketMqPuller
from receiptd.pulse import Pulse
from receiptd.sandbox import Fault, Sandbox, Scenario
from receiptd.sandbox.configuration import config_toml
from receiptd.store import open_store
from receiptd.tally import Tally
from receiptd.worker import Pace, Worker
from tests.acceptance.process import Receiptd, eventually
from tests.acceptance.scene import await_polls, left, phones
from tests.acceptance.test_daemon_process import FAULTS
from tests.canaries import (
    CANARY_CONTENT,
    CANARY_KEY_ID,
    CANARY_PHONE,
    CANARY_SECRET,
    assert_holds_no_canary,
)
from tests.chaos_proxy import ChaosProxy
from tests.databases import POSTGRESQL, SQLITE, fresh_url
from tests.fakes import sms_report

DATABASE_PASSWORD = "canaryDatabasePassword0123"
HTTP_TOKEN = "canaryHttpToken0123456789"
PUSH_SECRET = "canaryPushSecret-0123456789"
OUR_SECRETS = (DATABASE_PASSWORD, HTTP_TOKEN, PUSH_SECRET)
# What the sandbox hands out: its handles (8-, and base64 of a number), tokens, signatures (SHA-1 in
# base64, as a header or as a parameter), and numbers of phones that are no part of a longer one.
LOOKS_SECRET = re.compile(
    r"8-MDAw[\w-]{8,}|STS\.\w+|CAIS[\w-]{20,}|(?<![\w+/])[A-Za-z0-9+/]{27}=(?!=)"
    r"|Signature=(?!\*)\S+|(?<!\d)1[3-9]\d{9}(?!\d)|(?<!\d)861[3-9]\d{9}(?!\d)"
)


def assert_silent(text: str) -> None:
    """Fail if any canary, or anything that looks like a secret of the sandbox's, is in `text`."""
    assert_holds_no_canary(text)
    for secret in OUR_SECRETS:
        assert secret not in text
        assert base64.b64encode(f"receiptd:{secret}".encode()).decode() not in text
    found = LOOKS_SECRET.search(text)
    assert found is None, text[max(0, found.start() - 100) : found.end() + 20]


def test_what_looks_secret_is_found() -> None:
    for secret in (
        "8-MDAwMDAwMDAwMS0xNzc",
        "STS.0a1b2c",
        "Signature=abc",
        "MNS testAK:Ctyxt29cMHJkUm2yLC3OCCSBT1c=",
        '"+8613900000001"',
    ):
        with pytest.raises(AssertionError):
            assert_silent(secret)
    assert_silent("9000000001390000000^0 [139****0001] 2026-05-06T15:08:09Z")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(
        scenario=Scenario(seed=5, failed=0.2, poison=0.1, poison_on_the_wire=True),
        access_keys={CANARY_KEY_ID: CANARY_SECRET},
        visibility_s=3,
        invisible_s=3,
    ) as sandbox:
        yield sandbox


class Hands:
    """A worker on a real puller, whose gates' pauses take no time."""

    def __init__(self, kind: str, sandbox: Sandbox, url: str) -> None:
        account = AccountSettings.model_validate(
            {
                "provider": "aliyun",
                "access_key_id": CANARY_KEY_ID,
                "access_key_secret": CANARY_SECRET,
                "endpoints": {"dybase": sandbox.url},
            }
        )
        clock = ManualClock()
        how = "token" if kind == "mns" else "access_key"
        keys = PROVIDER.credentials(account, how, "SmsReport", SystemClock())
        self.store = open_store(url, clock)
        self.store.upgrade()
        self.puller = _puller(kind, sandbox, keys)
        self.worker = Worker(
            source="hands",
            open_puller=lambda: self.puller,
            pipeline=Pipeline(
                context=Context(provider="aliyun", account="main", origin=Origin.QUEUE),
                normalize=PROVIDER.normalizers["SmsReport"],
                store=self.store,
                clock=clock,
            ),
            pace=Pace(batch_size=16, wait_s=0.2, pace_s=0.0),
            source_gate=Gate(clock),
            store_gate=Gate(clock),
            tally=Tally(instance="test", source="hands", store=self.store, clock=clock),
            pulse=Pulse("hands/1", clock),
            stopping=threading.Event(),
            clock=clock,
        )
        self.worker._puller = self.puller

    def close(self) -> None:
        self.puller.close()
        self.store.close()


def _puller(kind: str, sandbox: Sandbox, keys: CredentialsSource) -> MnsPuller | RocketMqPuller:
    limits = Limits(pull_spare_s=0.2, ack_s=0.3, connect_s=0.3)
    queue = sandbox.queue("SmsReport")
    if kind == "mns":
        return MnsPuller("hands", sandbox.url, queue, keys, SystemClock(), limits=limits)
    return RocketMqPuller(
        "hands", sandbox.url, sandbox.topic, "GID", keys, SystemClock(), limits=limits
    )


@pytest.mark.parametrize("kind", ["mns", "rocketmq"])
def test_no_fault_of_a_broker_makes_a_worker_tell_a_secret(
    kind: str, sandbox: Sandbox, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with fresh_url(SQLITE, tmp_path) as url:
        hands = Hands(kind, sandbox, url)
        names = {**FAULTS, "hang in the token's call": [Fault.html(502, ("rpc",))]}
        for name, faults in names.items():
            sandbox.send_sms(phones(16), jushita=kind == "rocketmq")
            sandbox.send_sms([CANARY_PHONE], jushita=kind == "rocketmq")
            for fault in faults:
                sandbox.set_fault(fault)
            if "token" in name:
                sandbox.expire_tokens()
            for _ in range(2):
                hands.worker.run_once()
            sandbox.clear_faults()
            hands.worker.run_once()
        hands.close()
    out, err = capfd.readouterr()

    assert err.count("source.lost") + err.count("source.refused") > 5
    assert "batch.committed" in err
    assert_silent(out + err)


def run(daemon: Receiptd, *arguments: str) -> str:
    """Return everything that a command of receiptd's prints."""
    result = subprocess.run(
        [sys.executable, "-m", "receiptd", *arguments],
        cwd=daemon.folder,
        env={
            **{name: value for name, value in os.environ.items() if "RECEIPTD_" not in name},
            "RECEIPTD_CONFIG": str(daemon.folder / "config.toml"),
            "RECEIPTD_DATABASE__URL": daemon.url,
            "RECEIPTD_HTTP__LISTEN": "",
            "RECEIPTD_LOG__LEVEL": "debug",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


def ask(port: int, target: str, token: str = "", body: bytes | None = None) -> str:
    """Return the whole answer, head and body; "" if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET" if body is None else "POST", target, body, headers)
        answer = connection.getresponse()
        return f"{answer.status} {answer.getheaders()} {answer.read().decode()}"
    except OSError:
        return ""
    finally:
        connection.close()


def test_a_daemon_tells_no_secret_anywhere_not_even_as_it_crashes(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    config = config_toml(
        sandbox.url, access_key_id=CANARY_KEY_ID, access_key_secret=CANARY_SECRET
    ) + (
        f'[sources.pushed]\npuller = "push"\naccount = "main"\nmessage_type = "SmsReport"\n'
        f'push_secret = "{PUSH_SECRET}"\n[http]\ntoken = "{HTTP_TOKEN}"\n'
    )
    with fresh_url(POSTGRESQL) as direct:
        address = make_url(direct)
        assert address.host is not None
        assert address.port is not None
        with ChaosProxy((address.host, address.port)) as proxy:
            through = address.set(host="127.0.0.1", port=proxy.port, password=DATABASE_PASSWORD)
            url = through.render_as_string(hide_password=False)
            daemon = Receiptd(tmp_path, config, url=url)
            try:
                said = _live_through_it(daemon, sandbox, proxy, port)
            finally:
                daemon.end()

    assert "store.lost" in said
    assert "source.refused" in said
    assert "Fatal Python error: Aborted" in said
    assert "receiptd_envelopes_pulled_total" in said
    assert __version__ in said
    assert_silent(said)


def _live_through_it(daemon: Receiptd, sandbox: Sandbox, proxy: ChaosProxy, port: int) -> str:
    """Return all that was said, by the daemon until its crash and by all others who were asked."""
    said = []
    daemon.start(
        RECEIPTD_LOG__LEVEL="debug",
        RECEIPTD_HTTP__LISTEN=f"127.0.0.1:{port}",
        PYTHONFAULTHANDLER="1",
    )
    await_polls(sandbox)
    biz_id = sandbox.send_sms([CANARY_PHONE])
    sandbox.send_sms(phones(60))
    sandbox.send_mns(sandbox.queue("SmsReport"), f'{{"{CANARY_PHONE}": "{CANARY_CONTENT}"'.encode())
    ask(port, f"/push/pushed/{PUSH_SECRET}", body=sms_report(1, phone=CANARY_PHONE))
    eventually(lambda: left(sandbox) == 0, 20)
    for target in ("/", "/livez", "/readyz", "/metrics", "/openapi.json", "/v1/receipts"):
        said.append(ask(port, target))
        if target not in ("/", "/v1/receipts"):  # they show what is asked for, behind the token
            said.append(ask(port, target, HTTP_TOKEN))
    said += [
        ask(port, "/push/pushed/wrong", body=CANARY_PHONE.encode()),
        ask(port, "/v1/receipts?limit=none&cursor=%00", HTTP_TOKEN),
        ask(port, "/v1/sends", HTTP_TOKEN, f'{{"{CANARY_PHONE}'.encode()),
        run(daemon, "check", "--json"),
        run(daemon, "check", "--online", "--json", "--timeout", "5"),
        run(daemon, "status", "--json"),
        run(daemon, "explain", biz_id, "--json"),
        run(daemon, "quarantine", "list", "--json"),
        run(daemon, "replay", "--quarantined", "--dry-run"),
    ]
    sandbox.set_fault(Fault.error("AccessDenied", ("receive", "consume")))
    sandbox.send_sms(phones(20, first=100))  # ends the long polls; the next ones are refused
    eventually(lambda: "source.refused" in daemon.log.read_text(), 30)
    sandbox.clear_faults()
    proxy.down()
    ask(port, f"/push/pushed/{PUSH_SECRET}", body=sms_report(2, phone=CANARY_PHONE))
    eventually(lambda: "store.lost" in daemon.log.read_text(), 40)
    said += [ask(port, "/readyz"), ask(port, "/metrics"), run(daemon, "check", "--json")]
    proxy.up()
    daemon.send(signal.SIGABRT)
    assert daemon.process is not None
    daemon.process.wait(timeout=20)
    return "\n".join([*said, daemon.log.read_text()])
