"""Acks that fail: what is owed to the broker, and when the source is well again (A4, B11)."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import pytest
from structlog.testing import capture_logs

from receiptd.clock import ManualClock
from receiptd.errors import SourceRefused, SourceUnavailable
from receiptd.model import Committed
from receiptd.providers.jushita import PROVIDER as JUSHITA
from receiptd.sandbox import Fault, Sandbox
from receiptd.store import Store
from receiptd.unacked import Unacked
from receiptd.worker import Worker
from tests.fakes import VISIBILITY_S, FakePuller, FakeQueue, envelope, sms_report
from tests.reliability.rig import Broker, hired

ACK = ("delete", "ack")


@pytest.fixture(params=["mns", "rocketmq"])
def real(request: pytest.FixtureRequest, broker: Broker, sandbox: Sandbox, store: Store) -> Worker:
    """A worker on a real puller, for whom one message waits."""
    clock = ManualClock(datetime.now(UTC))
    is_shop = request.param == "rocketmq"
    sandbox.send_sms(["13900000002"], jushita=is_shop)
    # No long poll: the clock stands still in it, and an answer before its time is throttling.
    if is_shop:
        normalize = JUSHITA.normalizers["sms"]
        return hired(store, broker.rocketmq(), clock, wait_s=0.0, normalize=normalize)
    return hired(store, broker.mns(), clock, wait_s=0.0)


@pytest.mark.parametrize(
    "fault",
    [
        # On a connection that had been used before it is sent again, and then says "not there".
        pytest.param(Fault.build("reset", ACK, when="after", times=1), id="reset"),
        pytest.param(Fault.build("truncate", ACK, times=1), id="truncated"),
    ],
)
def test_an_outage_that_began_with_a_lost_answer_ends_though_nothing_is_left_to_ack(
    real: Worker, sandbox: Sandbox, fault: Fault
) -> None:
    sandbox.set_fault(fault)

    real.run_once()
    assert len(sandbox.acked) == 1  # the broker did it
    assert not real._source_gate.is_open  # but nobody told us

    with capture_logs() as lines:
        real.run_once()
    assert real._source_gate.is_open
    assert real._clock.monotonic() < 2.5  # two pauses
    assert lines[-1]["event"] == "source.recovered"
    assert list(sandbox.deliveries.values()) == [1]


def test_what_a_failed_ack_left_is_acked_before_it_comes_again(
    real: Worker, sandbox: Sandbox
) -> None:
    sandbox.set_fault(Fault.html(503, ACK, times=2))

    for _ in range(2):
        real.run_once()
        assert not sandbox.acked
        assert not real._source_gate.is_open

    real.run_once()
    assert len(sandbox.acked) == 1
    assert real._source_gate.is_open
    assert list(sandbox.deliveries.values()) == [1]


class Acks(FakePuller):
    """A puller that keeps what it was told to ack, and first does what `before` does."""

    def __init__(self, queue: FakeQueue) -> None:
        super().__init__(queue)
        self.tried: list[list[str]] = []
        self.before: Callable[[list[str]], None] = lambda ids: None

    def ack(self, committed):
        ids = [one.envelope.envelope_id for one in committed]
        self.tried.append(ids)
        self.before(ids)
        return super().ack(committed)


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue(ManualClock())


@pytest.fixture
def puller(queue: FakeQueue) -> Acks:
    return Acks(queue)


@pytest.fixture
def worker(store: Store, puller: Acks, queue: FakeQueue) -> Worker:
    return hired(store, puller, queue.clock, wait_s=30.0)


def test_while_nobody_answers_acks_nothing_is_pulled(
    worker: Worker, puller: Acks, queue: FakeQueue
) -> None:
    queue.put(sms_report(1))
    puller.ack_faults = [SourceUnavailable("timeout")] * 3
    worker.run_once()
    queue.put(sms_report(2))

    worker.run_once()
    worker.run_once()

    assert puller.pulls == 1
    assert puller.tried == [["m00001"]] * 3
    worker.run_once()
    assert not queue.bodies
    assert worker._source_gate.is_open


def test_a_handle_that_is_refused_for_ever_holds_up_nothing_else(
    worker: Worker, puller: Acks, queue: FakeQueue
) -> None:
    def refuse_the_first(ids: list[str]) -> None:
        if "m00001" in ids:
            raise SourceRefused("MalformedXML", http_status=400)

    queue.put(sms_report(1))
    puller.before = refuse_the_first
    worker.run_once()
    queue.put(sms_report(2))

    worker.run_once()

    assert queue.acked == ["m00002"]
    assert worker._source_gate.is_open  # this one was acked


def test_an_empty_answer_ends_no_outage_while_acks_are_refused(
    worker: Worker, puller: Acks, queue: FakeQueue
) -> None:
    queue.put(sms_report(1))
    puller.ack_faults = [SourceRefused("AccessDenied", http_status=403)] * 1000

    pulls = 0
    while queue.clock.monotonic() < VISIBILITY_S - 1:
        worker.run_once()
        assert not worker._source_gate.is_open
        pulls += 1

    assert puller.pulls == pulls


def test_a_dead_handle_is_not_acked_again(worker: Worker, puller: Acks, queue: FakeQueue) -> None:
    queue.put(sms_report(1))
    puller.ack_faults = [SourceUnavailable("timeout")]
    worker.run_once()
    queue.clock.advance(VISIBILITY_S + 1)

    worker.run_once()

    assert puller.tried == [["m00001"], ["m00001"]]  # the second time it had come again
    assert queue.pulls["m00001"] == 2
    assert queue.acked == ["m00001"]


def test_the_rest_of_a_batch_that_was_not_tried_is_acked_too(
    worker: Worker, puller: Acks, queue: FakeQueue
) -> None:
    for number in range(128):
        queue.put(sms_report(number))
    puller.ack_faults = [SourceUnavailable("timeout")]
    worker.run_once()
    assert len(queue.bodies) == 128

    worker.run_once()

    assert not queue.bodies
    assert [len(ids) for ids in puller.tried] == [64, 64, 64]
    assert max(queue.pulls.values()) == 1


def test_what_is_acked_again_is_counted_once(
    worker: Worker, puller: Acks, queue: FakeQueue
) -> None:
    queue.put(sms_report(1))
    puller.ack_faults = [SourceUnavailable("timeout")]
    worker.run_once()
    worker.run_once()

    counts = worker._tally.counts()
    assert (counts.pulled, counts.acked, counts.ack_failed, counts.in_flight) == (1, 0, 1, 0)


def committed(number: int, visible_until: float | None) -> Committed:
    one = envelope(b"{}", f"m{number}")
    return Committed(msgspec.structs.replace(one, visible_until=visible_until))


def test_what_one_thread_could_not_ack_another_settles(store: Store, queue: FakeQueue) -> None:
    unacked = Unacked(queue.clock)
    first, second = Acks(queue), Acks(queue)
    one = hired(store, first, queue.clock, wait_s=30.0, unacked=unacked)
    other = hired(store, second, queue.clock, wait_s=30.0, unacked=unacked)
    queue.put(sms_report(1))
    first.ack_faults = [SourceUnavailable("timeout")]

    one.run_once()
    other.run_once()

    assert second.tried == [["m00001"]]
    assert not queue.bodies


def owed(unacked: Unacked) -> list[str]:
    """Try to settle, and fail; returns the ids of what was tried."""
    tried: list[str] = []

    def fail(committed: list[Committed]) -> None:
        tried.extend(one.envelope.envelope_id for one in committed)
        raise SourceUnavailable("timeout")

    with suppress(SourceUnavailable):
        unacked.settle(fail)
    return tried


def test_what_cannot_be_settled_is_kept_and_what_is_settled_is_not() -> None:
    unacked = Unacked(ManualClock())
    unacked.keep([committed(1, 30.0)])
    unacked.keep([committed(2, 30.0)])

    assert owed(unacked) == ["m1", "m2"]
    assert owed(unacked) == ["m1", "m2"]
    unacked.settle(lambda committed: None)
    assert owed(unacked) == []


def test_a_handle_without_a_time_is_tried_for_half_a_minute() -> None:
    clock = ManualClock()
    unacked = Unacked(clock)
    unacked.keep([committed(1, None)])

    clock.advance(29)
    assert owed(unacked) == ["m1"]  # and this does not begin it anew
    clock.advance(2)
    assert owed(unacked) == []


def test_however_many_acks_fail_no_more_than_256_envelopes_are_kept() -> None:
    unacked = Unacked(ManualClock())
    unacked.keep([committed(number, 30.0) for number in range(300)])

    assert owed(unacked) == [f"m{number}" for number in range(44, 300)]
