"""The server itself: HTTP as other SDKs speak it, TLS, the switches, and life as a process."""

import json
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from mns.account import Account

from receiptd.sandbox import Fault, Sandbox
from receiptd.sandbox.configuration import config_toml
from receiptd.sandbox.server import listen_address, serve
from tests.pullers.puller_harness import server_tls, trust_the_authority
from tests.sandbox.clients import TA_QUERY, polyv_call, top_call, top_params
from tests.sandbox.wire import Wire, everything, handles_body

Wires = Callable[[Sandbox], Wire]


def test_an_absolute_form_target_is_signed_without_its_host(sandbox: Sandbox, wire: Wires) -> None:
    queue = sandbox.queue("SmsReport")
    sandbox.send_mns(queue, "x")
    client = wire(sandbox)
    target = f"/queues/{queue}/messages"

    reply = client.send("GET", sandbox.url + target, b"", client.signed("GET", target))

    assert reply.first("MessageBody") == "eA=="


def test_a_client_that_expects_to_continue_is_told_to(sandbox: Sandbox, wire: Wires) -> None:
    queue = sandbox.queue("SmsReport")
    sandbox.send_mns(queue, "x")
    client = wire(sandbox)
    body = handles_body(client.receive(queue).first("ReceiptHandle"))
    target = f"/queues/{queue}/messages"
    headers = client.signed("DELETE", target, body) | {
        "host": "sandbox",
        "content-length": str(len(body)),
        "expect": "100-continue",
        "connection": "close",
    }
    lines = [f"DELETE {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]

    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=10) as sock:
        sock.sendall("\r\n".join(lines).encode())
        interim = sock.recv(1000)
        sock.sendall(body)
        final = everything(sock)

    assert interim.startswith(b"HTTP/1.1 100 ")
    assert final.startswith(b"HTTP/1.1 204 ")


def test_one_connection_serves_many_requests(sandbox: Sandbox, wire: Wires) -> None:
    client = wire(sandbox)
    for _ in range(3):
        client.receive(sandbox.queue("SmsReport"))

    assert {event.connection for event in sandbox.requests} == {1}
    assert sandbox.request_counts == {"receive": 3}


def test_what_is_not_http_is_told_so(sandbox: Sandbox) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=10) as sock:
        sock.sendall(b"\x16\x03\x01 hello\r\n\r\n")

        assert everything(sock).startswith(b"HTTP/1.1 400 ")


def test_nothing_is_served_elsewhere(sandbox: Sandbox, wire: Wires) -> None:
    assert wire(sandbox).send("GET", "/favicon.ico", b"", {}).status == 404


def test_the_sdk_works_over_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    trust_the_authority(monkeypatch, tmp_path)

    with Sandbox(tls=server_tls()) as sandbox:
        account = Account(sandbox.url, "testAK", "testSK", "")
        queue = account.get_queue(sandbox.queue("SmsReport"))
        sandbox.send_mns(queue.queue_name, "x")
        message = queue.receive_message(1)
        queue.delete_message(message.receipt_handle)
        account.get_client().close_connection()

    assert sandbox.url.startswith("https://")
    assert message.message_body == b"x"
    assert sandbox.depth(queue.queue_name) == 0


def test_a_broker_that_was_down_comes_back_with_its_messages(sandbox: Sandbox, wire: Wires) -> None:
    queue, port = sandbox.queue("SmsReport"), sandbox.port
    sandbox.send_mns(queue, "x")
    client = wire(sandbox)
    client.receive(sandbox.queue("SmsUp"))
    sandbox.stop()
    with pytest.raises(OSError):  # noqa: PT011 (refused or reset, as the system has it)
        client.receive(queue)
    client.close()

    sandbox.restart()

    assert sandbox.port == port
    assert client.receive(queue).status == 200


def test_open_connections_can_be_cut(sandbox: Sandbox, wire: Wires) -> None:
    sock = wire(sandbox).raw("GET", f"/queues/{sandbox.queue('SmsUp')}/messages?waitseconds=30")
    assert sandbox.wait_until(lambda: sandbox.polls_waiting() == 1)

    sandbox.close_connections()

    assert everything(sock) == b""
    sock.close()


def test_the_state_can_be_asked_for(sandbox: Sandbox, wire: Wires) -> None:
    sandbox.send_sms(["13900000001"])

    reply = wire(sandbox).send("GET", "/_sandbox/state", b"", {})

    state = json.loads(reply.body)
    assert state["sends"] == 1
    assert state["fates"] == {"delivered": 1}
    assert state["depths"][sandbox.queue("SmsReport")] == 1


def test_scenario_and_faults_can_be_put(sandbox: Sandbox, wire: Wires) -> None:
    client = wire(sandbox)
    put = [
        client.send("PUT", "/_sandbox/scenario", b"lost = 1", {}).status,
        client.send("PUT", "/_sandbox/faults", b'[{"kind":"empty"}]', {}).status,
    ]
    sandbox.send_sms(["13900000001"])

    assert put == [204, 204]
    assert sandbox.sends[0].fate == "lost"
    assert client.receive(sandbox.queue("SmsUp")).status == 404
    toml = b'[[faults]]\nkind = "status"\nstatus = 502\ntimes = 1\n'
    assert client.send("PUT", "/_sandbox/faults", toml, {}).status == 204
    assert client.receive(sandbox.queue("SmsUp")).status == 502
    sandbox.set_fault(Fault.html(502))
    assert client.send("DELETE", "/_sandbox/faults", b"", {}).status == 204
    assert client.receive(sandbox.queue("SmsUp")).status == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("PUT", "scenario", b"colour = 1", b"colour"),
        ("PUT", "scenario", b"=", b"Invalid"),
        ("PUT", "faults", b'[{"kind":"dance"}]', b"kind"),
        ("PUT", "faults", b"fault = 1", b"fault"),
        ("POST", "publish", b"x", b"queue"),
        ("POST", "clock?advance=5", b"", b"virtual time"),
    ],
)
def test_wrong_switches_are_refused_with_the_reason(
    sandbox: Sandbox, wire: Wires, method: str, path: str, body: bytes, says: bytes
) -> None:
    reply = wire(sandbox).send(method, f"/_sandbox/{path}", body, {})

    assert reply.status == 400
    assert says in reply.body


def test_messages_can_be_published_over_http(sandbox: Sandbox, wire: Wires) -> None:
    client = wire(sandbox)
    queue = sandbox.queue("SmsReport")
    client.send("POST", f"/_sandbox/publish?queue={queue}", b"x", {})
    client.send("POST", f"/_sandbox/publish?topic={sandbox.topic}&tag=t", b"y", {})

    assert client.receive(queue).first("MessageBody") == "eA=="
    assert client.consume(sandbox.topic).first("MessageTag") == "t"


def test_virtual_time_can_be_turned_over_http(frozen: Sandbox, wire: Wires) -> None:
    before = frozen.clock.now()

    wire(frozen).send("POST", "/_sandbox/clock?advance=60", b"", {})

    assert frozen.clock.now() == before + 60


def test_the_printed_configuration_is_toml_with_all_sources() -> None:
    text = config_toml("http://127.0.0.1:8700", queue_prefix="P-", access_key_secret='a"b')

    config = tomllib.loads(text)

    assert config["accounts"]["main"]["access_key_secret"] == 'a"b'
    assert config["accounts"]["main"]["endpoints"].keys() == {"dysms", "dybase", "mns"}
    assert config["sources"]["sms_report"]["queue"] == "P-SmsReport"
    assert config["sources"]["sms_up"]["credentials"] == "token"
    assert config["sources"]["jushita"]["puller"] == "rocketmq"


def test_the_printed_configuration_has_polyv_if_asked_for() -> None:
    without = tomllib.loads(config_toml("http://127.0.0.1:8700"))
    text = config_toml("http://127.0.0.1:8700", with_polyv=True)

    accounts = tomllib.loads(text)["accounts"]

    assert "live" not in without["accounts"]
    assert accounts.pop("live") == {
        "provider": "polyv",
        "app_id": "exampleapp",
        "app_secret": "polyvSecret",
        "receipts_account": "main",
        "endpoints": {"polyv": "http://127.0.0.1:8700"},
    }
    assert accounts == without["accounts"]


def test_the_keys_of_all_gateways_reach_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sandbox] = []
    monkeypatch.setattr(Sandbox, "serve", lambda self, ready: (self.start(), ready()))
    serve("127.0.0.1:0", top_keys={"1": "s1"}, polyv_apps={"2": "s2"}, ready=seen.append)
    (sandbox,) = seen

    top = top_call(sandbox, top_params("taobao.time.get", app_key="1", secret="s1"))
    rejected = top_call(sandbox, top_params(TA_QUERY, secret="topSecret"))
    accepted = top_call(sandbox, top_params(TA_QUERY, app_key="1", secret="s1"))
    polyv = polyv_call(sandbox, ["13900000001"], appId="2", secret="s2")
    sandbox.stop()

    codes = [one["error_response"]["code"] for one in (top, rejected, accepted)]
    assert codes == [22, 29, 40]  # no such method; no such key; let in, and an argument is missing
    assert polyv[0] == 200


def test_the_truth_can_be_asked_for_over_http(sandbox: Sandbox, wire: Wires) -> None:
    biz_id = sandbox.send_sms(["13900000001"], out_id="o-1")

    answer = wire(sandbox).send("GET", "/_sandbox/truth", b"", {})

    assert json.loads(answer.body) == [["aliyun", biz_id, "13900000001", "o-1", "delivered"]]


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:8700", ("127.0.0.1", 8700)), (":0", ("127.0.0.1", 0)), ("[::1]:1", ("::1", 1))],
)
def test_a_listen_address_is_read(text: str, address: tuple[str, int]) -> None:
    assert listen_address(text) == address


@pytest.mark.parametrize("text", ["8700", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"])
def test_what_is_no_listen_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        listen_address(text)


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_the_process_serves_until_a_signal(signal_name: str) -> None:
    code = (
        "from receiptd.sandbox.server import serve\n"
        "serve('127.0.0.1:0', ready=lambda sandbox: print(sandbox.url, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(b"GET /_sandbox/state HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = everything(sock)
        process.send_signal(getattr(__import__("signal"), signal_name))

        assert process.wait(10) == 0
    assert answer.startswith(b"HTTP/1.1 200 ")
