"""Visibility, the life of handles, long polls, and time that passes at once."""

import threading
from collections.abc import Callable

import pytest

from receiptd.sandbox import ManualClock, Sandbox, Scenario
from tests.sandbox.wire import Reply, Wire

Wires = Callable[[Sandbox], Wire]


class Polling:
    """A long poll that runs in a thread of its own."""

    def __init__(self, poll: Callable[[], Reply]) -> None:
        self.reply: Reply | None = None
        self._thread = threading.Thread(target=lambda: setattr(self, "reply", poll()))
        self._thread.start()

    def result(self) -> Reply:
        self._thread.join(10)
        assert self.reply is not None
        return self.reply


def test_a_received_message_comes_back_when_its_time_is_over(frozen: Sandbox, wire: Wires) -> None:
    queue = frozen.queue("SmsReport")
    message_id = frozen.send_mns(queue, "x")
    client = wire(frozen)
    first = client.receive(queue)
    frozen.clock.advance(29.9)
    hidden = client.receive(queue)
    frozen.clock.advance(0.1)

    second = client.receive(queue)

    assert hidden.first("Code") == "MessageNotExist"
    assert int(first.first("NextVisibleTime")) - int(first.first("EnqueueTime")) == 30_000
    assert second.first("DequeueCount") == "2"
    assert second.first("FirstDequeueTime") == first.first("FirstDequeueTime")
    assert frozen.deliveries == {message_id: 2}
    assert frozen.state["redeliveries"] == 1


def test_only_the_latest_handle_works_and_only_while_it_hides(frozen: Sandbox, wire: Wires) -> None:
    queue = frozen.queue("SmsReport")
    frozen.send_mns(queue, "x")
    client = wire(frozen)
    first = client.receive(queue).first("ReceiptHandle")
    frozen.clock.advance(30)

    expired = client.delete(queue, first)
    second = client.receive(queue).first("ReceiptHandle")
    outdated = client.delete(queue, first)
    latest = client.delete(queue, second)

    assert (expired.status, expired.first("ErrorCode")) == (404, "MessageNotExist")
    assert (outdated.status, outdated.first("ReceiptHandle")) == (404, first)
    assert latest.status == 204


def test_a_message_that_is_never_taken_is_gone_after_the_retention(
    frozen: Sandbox, wire: Wires
) -> None:
    queue = frozen.queue("SmsReport")
    frozen.send_mns(queue, "x")
    frozen.clock.advance(4 * 86400 + 1)

    assert wire(frozen).receive(queue).status == 404
    assert frozen.depth(queue) == 0


def test_a_long_poll_wakes_when_a_message_is_sent(sandbox: Sandbox, wire: Wires) -> None:
    queue, client = sandbox.queue("SmsReport"), wire(sandbox)
    polling = Polling(lambda: client.receive(queue, wait_s=30))
    assert sandbox.wait_until(lambda: sandbox.polls_waiting() == 1)

    sandbox.send_mns(queue, "x")

    assert polling.result().first("MessageBody") == "eA=="
    assert sandbox.polls_waiting() == 0


def test_a_long_poll_of_a_group_wakes_when_something_is_published(
    sandbox: Sandbox, wire: Wires
) -> None:
    client = wire(sandbox)
    polling = Polling(lambda: client.consume(sandbox.topic, wait_s=30))
    assert sandbox.wait_until(lambda: sandbox.polls_waiting() == 1)

    sandbox.publish_mq(sandbox.topic, "x")

    assert polling.result().first("MessageBody") == "x"


def test_a_long_poll_wakes_when_a_hidden_message_shows_again(wire: Wires) -> None:
    with Sandbox(visibility_s=0.1) as sandbox:
        queue, client = sandbox.queue("SmsReport"), wire(sandbox)
        sandbox.send_mns(queue, "x")
        client.receive(queue)

        again = client.receive(queue, wait_s=30)

        assert again.first("DequeueCount") == "2"


def test_a_long_poll_wakes_when_a_delayed_receipt_is_due(wire: Wires) -> None:
    with Sandbox(scenario=Scenario(delay_s=0.1)) as sandbox:
        sandbox.send_sms(["13900000001"])

        assert wire(sandbox).receive(sandbox.queue("SmsReport"), wait_s=30).status == 200


def test_one_message_wakes_one_of_many_polls(sandbox: Sandbox, wire: Wires) -> None:
    queue = sandbox.queue("SmsReport")
    clients = [wire(sandbox) for _ in range(5)]
    pollings = [
        Polling(lambda client=client: client.receive(queue, wait_s=30))  # type: ignore[misc]
        for client in clients
    ]
    assert sandbox.wait_until(lambda: sandbox.polls_waiting() == 5)

    for n in range(5):
        sandbox.send_mns(queue, str(n))
        assert sandbox.wait_until(lambda n=n: sandbox.polls_waiting() == 4 - n)  # type: ignore[misc]

    assert {polling.result().status for polling in pollings} == {200}


def test_a_poll_whose_client_is_gone_takes_nothing(sandbox: Sandbox, wire: Wires) -> None:
    queue = sandbox.queue("SmsReport")
    target = f"/queues/{queue}/messages?numOfMessages=16&waitseconds=30"
    sock = wire(sandbox).raw("GET", target)
    assert sandbox.wait_until(lambda: sandbox.polls_waiting() == 1)
    sock.close()
    assert sandbox.wait_until(lambda: sandbox.polls_waiting() == 0)

    sandbox.send_mns(queue, "x")

    assert wire(sandbox).receive(queue).first("DequeueCount") == "1"


def test_turning_the_clock_ends_a_long_poll(frozen: Sandbox, wire: Wires) -> None:
    queue, client = frozen.queue("SmsReport"), wire(frozen)
    polling = Polling(lambda: client.receive(queue, wait_s=30))
    assert frozen.wait_until(lambda: frozen.polls_waiting() == 1)

    frozen.clock.advance(31)

    assert polling.result().first("Code") == "MessageNotExist"


def test_turning_the_clock_brings_a_delayed_receipt_to_a_waiting_poll(wire: Wires) -> None:
    scenario = Scenario(delay_s=3600)
    with Sandbox(scenario=scenario, virtual_time=True) as sandbox:
        queue, client = sandbox.queue("SmsReport"), wire(sandbox)
        sandbox.send_sms(["13900000001"])
        assert client.receive(queue).status == 404
        assert sandbox.depth(queue) == 1

        sandbox.clock.advance(3600)

        assert client.receive(queue).status == 200


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        ManualClock().advance(-1)


def test_real_time_cannot_be_turned(sandbox: Sandbox) -> None:
    with pytest.raises(RuntimeError, match="virtual time"):
        sandbox.clock.advance(1)
