"""A6: work that is slower than the visibility timeout is noticed, said, and answered by smaller
batches."""

from collections.abc import Sequence
from pathlib import Path

from structlog.testing import capture_logs

from receiptd.batch_size import BatchSize
from receiptd.clock import ManualClock
from receiptd.model import Envelope, Origin
from receiptd.pipeline import Pipeline, Processed
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context
from receiptd.store import Store
from receiptd.worker import Worker
from tests.databases import ask
from tests.fakes import VISIBILITY_S, FakePuller, FakeQueue, sms_report
from tests.reliability.rig import hired

# Sixteen take 40 s, and the queue gives 30.
_PER_ENVELOPE_S = 2.5


class SlowDatabase(Pipeline):
    """A pipeline whose every row takes its time."""

    seconds = _PER_ENVELOPE_S

    def process(self, envelopes: Sequence[Envelope]) -> Processed:
        assert isinstance(self._clock, ManualClock)
        self._clock.advance(self.seconds * len(envelopes))
        return super().process(envelopes)


def slowed(store: Store, queue: FakeQueue, batch_size: BatchSize) -> tuple[Worker, SlowDatabase]:
    pipeline = SlowDatabase(
        context=Context(provider="aliyun", account="main", origin=Origin.QUEUE),
        normalize=PROVIDER.normalizers["SmsReport"],
        store=store,
        clock=queue.clock,
    )
    puller = FakePuller(queue)
    return hired(
        store, puller, queue.clock, wait_s=30.0, pipeline=pipeline, batch_size=batch_size
    ), pipeline


def test_a_queue_is_drained_though_a_full_batch_takes_longer_than_its_visibility(
    store: Store, tmp_path: Path
) -> None:
    queue = FakeQueue(ManualClock())
    for number in range(64):
        queue.put(sms_report(number))
    batch_size = BatchSize("slow", 16)
    worker, pipeline = slowed(store, queue, batch_size)

    with capture_logs() as lines:
        for _ in range(60):
            if queue.bodies:
                worker.run_once()

    assert not queue.bodies
    assert batch_size.current == 8
    assert pipeline.seconds * batch_size.current < VISIBILITY_S
    assert ask(f"sqlite:///{tmp_path}/receiptd.db", "SELECT count(*) FROM receipts") == [(64,)]
    shrunk = [line for line in lines if line["event"] == "batch.shrunk"]
    assert shrunk == [
        {
            "event": "batch.shrunk",
            "log_level": "warning",
            "source": "slow",
            "acked": 0,
            "expired": 64,
            "batch_size": 8,
        }
    ]


def test_the_size_comes_back_after_the_slowness(store: Store) -> None:
    queue = FakeQueue(ManualClock())
    batch_size = BatchSize("slow", 16)
    worker, pipeline = slowed(store, queue, batch_size)
    for number in range(16):
        queue.put(sms_report(number))
    worker.run_once()
    assert batch_size.current == 8
    pipeline.seconds = 0.0

    with capture_logs() as lines:
        for number in range(400):
            queue.put(sms_report(number))
            queue.put(sms_report(number + 400))
            worker.run_once()
            if batch_size.current == 16:
                break

    assert number < 60
    assert [line["event"] for line in lines if line["event"].startswith("batch.")][-1] == (
        "batch.restored"
    )


def test_a_size_halves_down_to_one_and_no_further_and_says_so_once() -> None:
    size = BatchSize("slow", 16)

    with capture_logs() as lines:
        seen = []
        for _ in range(6):
            size.acked(acked=1, expired=2)
            seen.append(size.current)

    assert seen == [8, 4, 2, 1, 1, 1]
    assert len(lines) == 1


def test_a_few_dead_handles_change_nothing() -> None:
    size = BatchSize("busy", 16)

    for _ in range(100):
        size.acked(acked=15, expired=1)
        size.acked(acked=8, expired=8)

    assert size.current == 16


def test_a_source_that_was_configured_for_one_at_a_time_is_not_told_to_shrink() -> None:
    size = BatchSize("single", 1)

    with capture_logs() as lines:
        size.acked(acked=0, expired=1)

    assert size.current == 1
    assert not lines
