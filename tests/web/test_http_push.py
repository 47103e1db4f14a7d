"""HTTP batch push from the socket to the row: `{"code":0}` means durable."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from receiptd.gate import Gate
from receiptd.model import Origin
from receiptd.pipeline import Pipeline
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context
from receiptd.pullers.push import PushPuller
from receiptd.pulse import Pulse
from receiptd.tally import Tally
from receiptd.worker import Pace, Worker
from tests.fakes import sms_report
from tests.row_counts import by_outcome, by_status
from tests.web.http_harness import SECRET, Running

TARGET = f"/push/pushed/{SECRET}"


class SlowStore:
    """The store, with a gate before the transaction."""

    def __init__(self, server: Running) -> None:
        self._store = server.store
        self.may_commit = threading.Event()
        self.may_commit.set()

    def save(self, entries):
        assert self.may_commit.wait(20)
        return self._store.save(entries)


@pytest.fixture
def slow(server) -> SlowStore:
    return SlowStore(server)


@pytest.fixture
def worker(server, slow) -> Iterator[Worker]:
    stopping = threading.Event()
    worker = Worker(
        source="pushed",
        open_puller=lambda: PushPuller("pushed", server.inbox),
        pipeline=Pipeline(
            context=Context(provider="aliyun", account="main", origin=Origin.PUSH),
            normalize=PROVIDER.normalizers["SmsReport"],
            store=slow,
            clock=server.clock,
        ),
        pace=Pace(batch_size=16, wait_s=30, pace_s=0),
        source_gate=Gate(server.clock),
        store_gate=server.gate,
        tally=Tally(instance="i", source="pushed", store=server.store, clock=server.clock),
        pulse=Pulse("pushed/1", server.clock),
        stopping=stopping,
        clock=server.clock,
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield worker
    slow.may_commit.set()
    stopping.set()
    worker.cancel()
    thread.join(20)


def array(*numbers: int) -> bytes:
    return b"[" + b",".join(sms_report(number) for number in numbers) + b"]"


def rows(server: Running) -> dict[str, int]:
    return by_status(server.store)


def test_the_check_is_answered_as_a_push_is(server):
    answer = server.get(TARGET)

    assert (answer.status, answer.json["code"]) == (200, 0)


def test_an_array_is_answered_once_all_its_receipts_are_rows(server, worker):
    answer = server.ask("POST", TARGET, array(1, 2, 3))

    assert (answer.status, answer.json["code"]) == (200, 0)
    assert rows(server) == {"delivered": 3}
    assert {one["origin"] for one in server.get("/v1/receipts").json["receipts"]} == {"push"}


def test_what_is_not_durable_in_time_is_answered_with_an_error_and_merges_when_it_comes_again(
    server, worker, slow
):
    slow.may_commit.clear()
    late = server.ask("POST", TARGET, array(1, 2))
    nothing = rows(server)
    slow.may_commit.set()
    with ThreadPoolExecutor(4) as provider:
        again = list(provider.map(lambda _: server.ask("POST", TARGET, array(1, 2)), range(8)))

    assert (late.status, late.json["code"]) == (503, 1)
    assert nothing == {}
    assert {one.json["code"] for one in again} <= {0, 1}
    assert rows(server) == {"delivered": 2}


def test_without_a_worker_the_answer_is_an_error_within_the_providers_time(server):
    began_at = server.clock.monotonic()

    answer = server.ask("POST", TARGET, array(1))

    assert (answer.status, answer.json["code"]) == (503, 1)
    assert 0.6 < server.clock.monotonic() - began_at < 5
    assert server.inbox.take(16, 0, threading.Event()) == []


def test_more_than_can_be_stored_in_time_is_refused_at_once(server):
    deliveries = [server.inbox.put(b"{}") for _ in range(64)]

    answer = server.ask("POST", TARGET, array(1))

    assert (answer.status, answer.json["code"]) == (503, 1)
    assert len(deliveries) == 64


def test_what_cannot_be_understood_is_quarantined_and_taken(server, worker):
    answer = server.ask("POST", TARGET, b"[" + sms_report(1) + b',{"x":1},3]')

    assert answer.json["code"] == 0
    assert rows(server) == {"delivered": 1}
    assert by_outcome(server.store) == {"stored": 1, "quarantined": 2}


@pytest.mark.parametrize(
    "target", ["/push/pushed/wrong-secret-000", "/push/nobody/" + SECRET, "/push/pushed/"]
)
def test_a_wrong_secret_is_as_good_as_no_path(server, worker, target, capfd):
    for method in ("GET", "POST"):
        answer = server.ask(method, target, array(1) if method == "POST" else None)
        assert (answer.status, answer.code) == (404, "not_found")

    assert rows(server) == {}
    assert "wrong-secret" not in capfd.readouterr().err


def test_a_push_needs_no_token_and_no_known_name(server, worker):
    answer = server.ask("POST", TARGET, array(1), {"Host": "receipts.example"})

    assert answer.json["code"] == 0


def test_a_daemon_that_stops_or_starts_takes_no_push(server, worker):
    server.http._health.is_stopping = True

    assert server.ask("POST", TARGET, array(1)).json["code"] == 1
    assert rows(server) == {}


def test_the_answer_is_utf8_json_with_a_number(server):
    body = server.get(TARGET).body

    assert json.loads(body.decode()) == {"code": 0, "msg": "成功"}
