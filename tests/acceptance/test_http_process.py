"""HTTP in a real daemon: probes that follow what it does, a push that becomes a row, and a stop."""

import http.client
import json
import socket

import pytest

from receiptd.sandbox import Fault, Sandbox
from receiptd.sandbox.configuration import config_toml
from tests.acceptance.process import Receiptd, eventually
from tests.acceptance.scene import await_polls
from tests.fakes import sms_report

SECRET = "a-push-secret-of-24-char"
PUSHED = f"""
[sources.pushed]
puller = "push"
account = "main"
message_type = "SmsReport"
push_secret = "{SECRET}"
"""


@pytest.fixture
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def receiptd(tmp_path, sandbox, port):
    daemon = Receiptd(tmp_path, config_toml(sandbox.url) + PUSHED)
    yield daemon
    daemon.end()


def start(receiptd, port):
    receiptd.start(RECEIPTD_HTTP__LISTEN=f"127.0.0.1:{port}")


def ask(port, target, body=None):
    """Return the status and the JSON of one answer; (0, {}) if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET" if body is None else "POST", target, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except OSError:
        return 0, {}
    finally:
        connection.close()


def await_ready(port):
    eventually(lambda: ask(port, "/readyz")[0] == 200, 30, "readiness")


def test_a_push_is_a_row_beside_three_queues_and_the_stop_takes_a_second(receiptd, sandbox, port):
    start(receiptd, port)
    await_ready(port)
    await_polls(sandbox)
    status, answer = ask(port, f"/push/pushed/{SECRET}", b"[" + sms_report(1) + b"]")
    with socket.create_connection(("127.0.0.1", port)) as idle:
        idle.sendall(b"GET /livez HTTP/1.1\r\n")
        code, took_s = receiptd.stop()

    assert (status, answer["code"]) == (200, 0)
    assert receiptd.rows("SELECT status, origin FROM receipts") == [("delivered", "push")]
    assert code == 0
    assert took_s < 3  # a second on a machine that is not busy with other tests


def test_a_daemon_is_live_at_once_and_ready_when_its_brokers_answer(receiptd, sandbox, port):
    sandbox.set_fault(Fault.build("status", ("receive", "consume"), status=503))
    start(receiptd, port)
    away = "source sms_report: it does not answer"
    eventually(lambda: away in ask(port, "/readyz")[1].get("reason", ""), 30, "an outage")
    live, _ = ask(port, "/livez")
    sandbox.clear_faults()

    assert live == 200
    await_ready(port)


def test_while_the_database_is_away_at_the_start_it_is_live_and_says_what_it_waits_for(
    receiptd, port
):
    receiptd.url = "postgresql+psycopg://nobody@127.0.0.1:9/nothing"
    start(receiptd, port)
    eventually(lambda: ask(port, "/livez")[0] == 200, 30)
    status, report = ask(port, "/readyz")
    refused, _ = ask(port, "/v1/receipts")

    assert (status, refused) == (503, 503)
    assert "waits for the database" in report["reason"]
    assert receiptd.stop()[0] == 0


def test_a_port_that_is_taken_is_a_matter_of_configuration(receiptd, tmp_path, sandbox, port):
    start(receiptd, port)
    await_ready(port)
    other = Receiptd(tmp_path / "other", config_toml(sandbox.url))
    other.start(RECEIPTD_HTTP__LISTEN=f"127.0.0.1:{port}")

    assert other.process.wait(timeout=30) == 78
    assert "http.listen: is taken by another program" in other.log.read_text()
