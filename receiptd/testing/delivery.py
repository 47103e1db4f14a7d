"""The suite for a puller under the real worker, pipeline and store, as the daemon runs it.

Whatever fails in between, in the end every message is a row exactly once, the source is empty, and
nothing was acked that another connection to the database could not read at that moment.

    from receiptd.testing.delivery import DeliveryConformance

    class TestKafkaDelivery(DeliveryConformance):
        @pytest.fixture
        def harness(self):
            with KafkaHarness() as harness:      # has the methods of `DeliveryHarness`
                yield harness

The messages are Aliyun's, because a puller does not look into them. They go to a SQLite file in
`tmp_path`; give another `url` fixture for another database.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest

from receiptd.clock import SystemClock
from receiptd.errors import StoreUnavailable
from receiptd.model import Reason
from receiptd.testing.conformance import CANCEL_LIMIT_S, LONG_WAIT_S, MANY, THREADS, Harness
from receiptd.testing.life import BATCH_SIZE, Crash, Life, read_back

# Steps of the worker and of the store after which a batch is in each of its states.
STEPS = ("after_pull", "in_transaction", "before_commit", "after_commit", "before_ack", "after_ack")
_monotonic = SystemClock().monotonic


class DeliveryHarness(Harness, Protocol):
    """What this suite needs of a transport, beside what `PullerConformance` does."""

    def cut(self) -> None:
        """Break all connections of the open pullers, as a network does."""
        ...

    def cut_next_answer(self) -> None:
        """Let the next pull's answer break off when the broker has handed its messages out."""
        ...


class DeliveryConformance:
    """At least once in, exactly one row out, as tests. Subclasses give `harness`."""

    # A transport that is slow may take fewer: so many that each is still several turns of a worker,
    # which takes up to eight batches in one.
    many = MANY
    some = 20 * BATCH_SIZE

    @pytest.fixture
    def harness(self) -> DeliveryHarness:
        raise TypeError("give a `harness` fixture in your subclass")

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/conformance.db"

    @pytest.mark.parametrize("threads", [1, THREADS])
    def test_every_message_becomes_one_row(
        self, harness: DeliveryHarness, url: str, threads: int
    ) -> None:
        bodies = _publish(harness, self.many)
        life = Life(harness, url, self.many, threads=threads)

        life.run()

        _accounted_for(harness, url, bodies, life)

    # Small batches, so that there are enough commits, though workers share them.
    @pytest.mark.parametrize(("threads", "batch_size"), [(1, 6), (THREADS, 3)])
    def test_every_tenth_commit_may_fail(
        self, harness: DeliveryHarness, url: str, threads: int, batch_size: int
    ) -> None:
        bodies = _publish(harness, self.many)
        flaky = _EveryTenth()
        life = Life(harness, url, self.many, threads=threads, batch_size=batch_size, trace=flaky)

        life.run()

        assert flaky.failed
        _accounted_for(harness, url, bodies, life)

    @pytest.mark.parametrize("step", ["before_pull", "before_ack"])
    def test_a_connection_that_is_cut_in_the_middle_costs_nothing(
        self, harness: DeliveryHarness, url: str, step: str
    ) -> None:
        bodies = _publish(harness, self.some)
        life = Life(harness, url, self.some, trace=_once(step, 2, harness.cut))

        life.run()

        _accounted_for(harness, url, bodies, life)

    def test_an_answer_that_breaks_off_costs_nothing(
        self, harness: DeliveryHarness, url: str
    ) -> None:
        bodies = _publish(harness, self.some)
        life = Life(harness, url, self.some, trace=_once("before_pull", 2, harness.cut_next_answer))

        life.run()

        _accounted_for(harness, url, bodies, life)

    @pytest.mark.parametrize("step", STEPS)
    def test_after_a_crash_at_any_step_the_next_life_finishes_the_work(
        self, harness: DeliveryHarness, url: str, step: str
    ) -> None:
        bodies = _publish(harness, self.some)

        def die() -> None:
            raise Crash(step)

        first = Life(harness, url, self.some, trace=_once(step, 2, die))
        with pytest.raises(Crash):
            first.run()
        left = harness.depth()
        second = Life(harness, url, self.some)
        second.run()

        assert left > 0
        _accounted_for(harness, url, bodies, first, second)

    def test_one_garbage_body_in_sixteen_is_quarantined_and_the_others_are_rows(
        self, harness: DeliveryHarness, url: str
    ) -> None:
        bodies = [_report(number) for number in range(self.some)]
        garbage = [b"no receipt: %d" % number for number in range(self.some // BATCH_SIZE)]
        for number, poison in enumerate(garbage):
            harness.publish(bodies[number * 15 : number * 15 + 7])
            harness.publish([poison])
            harness.publish(bodies[number * 15 + 7 : number * 15 + 15])
        good = bodies[: 15 * len(garbage)]
        life = Life(harness, url, self.some)

        life.run()

        _accounted_for(harness, url, good, life, refused={Reason.NOT_JSON.value: set(garbage)})

    def test_a_message_that_the_puller_cannot_read_is_quarantined_too(
        self, harness: DeliveryHarness, url: str
    ) -> None:
        bodies = _publish(harness, BATCH_SIZE - 1)
        harness.publish_unreadable()
        life = Life(harness, url, BATCH_SIZE)

        life.run()

        refused = {reason: kept for reason, kept in read_back(url).bodies.items() if reason}
        assert len(refused) == 1
        _accounted_for(harness, url, bodies, life, refused=refused)

    def test_an_empty_answer_before_its_time_stops_nothing(
        self, harness: DeliveryHarness, url: str
    ) -> None:
        harness.answer_empty_once()
        bodies = _publish(harness, self.some)
        # It waits, because only then is such an answer early; so the last ack must end it.
        ends = _when_empty(harness, lambda: life.stop())
        life = Life(harness, url, self.some, wait_s=LONG_WAIT_S, trace=ends)

        life.run()

        _accounted_for(harness, url, bodies, life)

    def test_a_stop_in_a_long_poll_ends_the_life_within_a_second(
        self, harness: DeliveryHarness, url: str
    ) -> None:
        bodies = _publish(harness, BATCH_SIZE)
        life = Life(harness, url, BATCH_SIZE, wait_s=LONG_WAIT_S)
        with ThreadPoolExecutor(1) as process:
            living = process.submit(life.run)
            harness.wait_until_polling()

            began_at = _monotonic()
            life.stop()
            living.result(timeout=LONG_WAIT_S)
            took_s = _monotonic() - began_at

        assert took_s < CANCEL_LIMIT_S
        _accounted_for(harness, url, bodies, life)

    def test_a_stop_lets_the_batch_in_hand_be_committed_and_acked(
        self, harness: DeliveryHarness, url: str
    ) -> None:
        bodies = _publish(harness, self.some)
        life = Life(harness, url, self.some, trace=_once("before_commit", 2, lambda: life.stop()))

        life.run()

        stored = read_back(url)
        assert 0 < harness.depth() < self.some
        assert sum(stored.rows.values()) == self.some - harness.depth()
        assert stored.bodies[""] < set(bodies)
        assert not life.early


class _EveryTenth:
    """A store whose every tenth commit fails: in turn before it, so that nothing is stored, and
    after it, so that nobody hears of it. Both begin an outage of the database."""

    def __init__(self) -> None:
        self.failed = 0
        self._commits = 0

    def __call__(self, step: str) -> None:
        # One transaction at a time, so this needs no lock.
        self._commits += step == "before_commit"
        fails_at = "after_commit" if self.failed % 2 else "before_commit"
        if step == fails_at and self._commits % 10 == 0:
            self.failed += 1
            raise StoreUnavailable("every tenth commit fails")


def _once(step: str, nth: int, do: Callable[[], object]) -> Callable[[str], None]:
    """Return a trace that does something when a step is taken for the `nth` time."""
    seen = 0

    def trace(at: str) -> None:
        nonlocal seen
        seen += at == step
        if at == step and seen == nth:
            do()

    return trace


def _when_empty(harness: Harness, do: Callable[[], object]) -> Callable[[str], None]:
    """Return a trace that does something when all is acked."""

    def trace(at: str) -> None:
        if at == "after_ack" and harness.depth() == 0:
            do()

    return trace


def _publish(harness: Harness, count: int) -> list[bytes]:
    bodies = [_report(number) for number in range(count)]
    harness.publish(bodies)
    return bodies


def _report(number: int) -> bytes:
    """Return an SmsReport of its own SMS; every fifth was not delivered."""
    delivered = number % 5 != 0
    return json.dumps(
        {
            "biz_id": _biz_id(number),
            "phone_number": f"139{number:08d}",
            "success": delivered,
            "err_code": "DELIVERED" if delivered else "MK:0001",
            "send_time": "2026-05-06 15:08:09",
            "report_time": "2026-05-06 15:08:14",
        }
    ).encode()


def _biz_id(number: int) -> str:
    return f"9000000000{number:08d}^0"


def _accounted_for(
    harness: Harness,
    url: str,
    bodies: Sequence[bytes],
    *lives: Life,
    refused: dict[str, set[bytes]] | None = None,
) -> None:
    """Every body is a row, once, and in the journal; the source is empty; nothing was early."""
    stored = read_back(url)
    assert [early for life in lives for early in life.early] == []
    assert harness.depth() == 0
    assert stored.rows == Counter(_row(body) for body in bodies)
    assert stored.bodies == {"": set(bodies), **(refused or {})}


def _row(body: bytes) -> tuple[str, str]:
    report = json.loads(body)
    return report["biz_id"], "delivered" if report["success"] else "failed"
