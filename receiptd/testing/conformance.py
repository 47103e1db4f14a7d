"""The suite that every puller passes by itself, built in or third-party; delivery.py has the other.

Write a harness for your transport and subclass the suite in a test module of yours:

    from receiptd.testing.conformance import PullerConformance

    class TestTencentPuller(PullerConformance):
        @pytest.fixture
        def harness(self):
            with TencentHarness() as harness:      # has the methods of `Harness`
                yield harness

A harness works on a broker, real or simulated, that starts empty for each test. What it cannot do
it skips with a reason (`pytest.skip("this broker cannot ...")`), so that the hole stays visible.
The suite takes no time of its own: visibility timeouts pass when `expire` is called.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest

from receiptd.clock import SystemClock
from receiptd.errors import SourceCancelled
from receiptd.model import Committed, Envelope
from receiptd.pullers.base import AckResult, Puller

BATCH_SIZE = 16
MANY = 1000
THREADS = 4
LONG_WAIT_S = 30.0
CANCEL_LIMIT_S = 1.0  # SIGTERM in a long poll to exit is promised in a second
# A distributed queue may answer "empty" for one of its slices: only several in a row mean it.
_EMPTY_PULLS = 3
_MAX_ROUNDS = 20  # visibility timeouts that a lossy consumer may need
_monotonic = SystemClock().monotonic


class Harness(Protocol):
    """What the suite needs of a transport under test."""

    def open(self) -> Puller:
        """Return a new puller of the source under test; called in the thread that will use it."""
        ...

    def publish(self, bodies: Sequence[bytes]) -> None:
        """Put messages into the source; `pull` must return exactly these bodies."""
        ...

    def publish_unreadable(self) -> None:
        """Put one message there whose body the puller cannot get at (wrong encoding, damage)."""
        ...

    def depth(self) -> int:
        """Return how many messages are not acked yet, visible or not."""
        ...

    def expire(self) -> None:
        """Let the visibility timeout of everything pulled pass."""
        ...

    def answer_empty_once(self) -> None:
        """Let the next pull find nothing at once, without waiting, though it asked to wait."""
        ...

    def wait_until_polling(self) -> None:
        """Block until a pull waits at the broker."""
        ...


class PullerConformance:
    """The contract of `receiptd.pullers.base.Puller`, as tests. Subclasses give `harness`."""

    @pytest.fixture
    def harness(self) -> Harness:
        raise TypeError("give a `harness` fixture in your subclass")

    def test_a_thousand_envelopes_come_in_sequence_and_leave_the_source_empty(
        self, harness: Harness
    ) -> None:
        bodies = _bodies(MANY)
        harness.publish(bodies)
        puller = harness.open()

        pulled = drain(puller)

        puller.close()
        assert Counter(envelope.body for envelope in pulled) == Counter(bodies)
        assert harness.depth() == 0

    def test_a_thousand_envelopes_are_shared_out_among_four_threads(self, harness: Harness) -> None:
        bodies = _bodies(MANY)
        harness.publish(bodies)

        def consume() -> list[bytes]:
            puller = harness.open()
            try:
                return [envelope.body for envelope in drain(puller)]
            finally:
                puller.close()

        with ThreadPoolExecutor(THREADS) as pool:
            shares = [task.result() for task in [pool.submit(consume) for _ in range(THREADS)]]

        assert Counter(body for share in shares for body in share) == Counter(bodies)
        assert harness.depth() == 0

    def test_batches_that_are_not_acked_come_again_until_the_source_is_empty(
        self, harness: Harness
    ) -> None:
        bodies = _bodies(MANY)
        harness.publish(bodies)
        puller = harness.open()

        seen = _drain_losing_batches(harness, puller)

        puller.close()
        assert set(seen) == set(bodies)
        assert harness.depth() == 0

    def test_nothing_is_lost_when_the_puller_is_replaced_in_the_middle(
        self, harness: Harness
    ) -> None:
        bodies = _bodies(MANY)
        harness.publish(bodies)
        first = harness.open()
        seen: Counter[bytes] = Counter()
        for _ in range(20):
            envelopes = first.pull(BATCH_SIZE, 0)
            seen.update(envelope.body for envelope in envelopes)
            first.ack([Committed(envelope) for envelope in envelopes])
        abandoned = first.pull(BATCH_SIZE, 0)
        first.close()

        second = harness.open()
        seen += _drain_losing_batches(harness, second)

        second.close()
        assert abandoned
        assert set(seen) == set(bodies)
        assert harness.depth() == 0

    def test_a_pull_acks_nothing_and_neither_does_close(self, harness: Harness) -> None:
        harness.publish(_bodies(BATCH_SIZE))
        puller = harness.open()

        pulled = puller.pull(BATCH_SIZE, 0)
        left = harness.depth()
        puller.close()

        assert pulled
        assert (left, harness.depth()) == (BATCH_SIZE, BATCH_SIZE)

    def test_an_envelope_that_was_not_acked_comes_again_with_a_higher_count(
        self, harness: Harness
    ) -> None:
        harness.publish(_bodies(1))
        puller = harness.open()
        first = _pull_one(puller)

        hidden = puller.pull(BATCH_SIZE, 0)
        harness.expire()
        second = _pull_one(puller)

        puller.close()
        assert hidden == []
        assert (second.envelope_id, second.body) == (first.envelope_id, first.body)
        if first.pull_count is not None:
            assert second.pull_count is not None
            assert second.pull_count > first.pull_count

    def test_acking_an_expired_handle_is_no_error_and_acks_nothing(self, harness: Harness) -> None:
        harness.publish(_bodies(1))
        puller = harness.open()
        late = _pull_one(puller)
        harness.expire()

        result = puller.ack([Committed(late)])

        puller.close()
        assert result.acked == 0
        assert result.expired == 1
        assert harness.depth() == 1

    def test_acking_once_more_what_another_thread_acked_is_no_error(self, harness: Harness) -> None:
        harness.publish(_bodies(1))
        puller, other = harness.open(), harness.open()
        committed = [Committed(_pull_one(puller))]
        puller.ack(committed)

        result = other.ack(committed)  # as after an ack whose answer was lost

        puller.close()
        other.close()
        assert result.failed == 0
        assert result.error is None
        assert harness.depth() == 0

    def test_an_unreadable_message_costs_the_others_nothing(self, harness: Harness) -> None:
        bodies = _bodies(BATCH_SIZE - 1)
        harness.publish(bodies[:7])
        harness.publish_unreadable()
        harness.publish(bodies[7:])
        puller = harness.open()

        pulled = drain(puller)

        puller.close()
        flawed = [envelope for envelope in pulled if envelope.flaw is not None]
        assert Counter(one.body for one in pulled if one.flaw is None) == Counter(bodies)
        assert len(flawed) == 1
        assert flawed[0].handle
        assert harness.depth() == 0

    def test_envelopes_without_a_handle_are_passed_over(self, harness: Harness) -> None:
        puller = harness.open()
        without = Envelope(source="any", envelope_id="", body=b"", handle="")

        result = puller.ack([Committed(without)])

        puller.close()
        assert result == AckResult()

    def test_an_empty_source_gives_an_empty_list(self, harness: Harness) -> None:
        puller = harness.open()

        pulled = puller.pull(BATCH_SIZE, 0)

        puller.close()
        assert pulled == []

    def test_an_empty_answer_before_the_wait_is_over_is_returned_at_once(
        self, harness: Harness
    ) -> None:
        harness.answer_empty_once()
        puller = harness.open()
        started = _monotonic()

        pulled = puller.pull(BATCH_SIZE, LONG_WAIT_S)

        puller.close()
        assert pulled == []
        assert _monotonic() - started < LONG_WAIT_S / 2

    def test_cancel_ends_a_long_poll_and_acks_still_work_after_it(self, harness: Harness) -> None:
        harness.publish(_bodies(1))
        with ThreadPoolExecutor(1) as owner:  # a puller belongs to one thread
            puller = owner.submit(harness.open).result()
            pulled = owner.submit(puller.pull, BATCH_SIZE, 0).result()
            polling = owner.submit(puller.pull, BATCH_SIZE, LONG_WAIT_S)
            harness.wait_until_polling()

            started = _monotonic()
            puller.cancel()
            ended = polling.exception(timeout=LONG_WAIT_S)
            took_s = _monotonic() - started
            later = owner.submit(puller.pull, BATCH_SIZE, 0).exception()
            acked = owner.submit(puller.ack, [Committed(one) for one in pulled]).result()
            owner.submit(puller.close).result()

        assert isinstance(ended, SourceCancelled)
        assert took_s < CANCEL_LIMIT_S
        assert isinstance(later, SourceCancelled)
        assert acked == AckResult(acked=1)
        assert harness.depth() == 0

    def test_close_may_come_before_any_call_and_after_cancel(self, harness: Harness) -> None:
        untouched = harness.open()
        untouched.close()

        cancelled = harness.open()
        cancelled.cancel()
        cancelled.cancel()
        cancelled.close()


def drain(puller: Puller, lose_every: int | None = None) -> list[Envelope]:
    """Pull and ack until nothing comes; each `lose_every`-th batch is not acked."""
    pulled: list[Envelope] = []
    batches = empty = 0
    while empty < _EMPTY_PULLS:
        envelopes = puller.pull(BATCH_SIZE, 0)
        empty = 0 if envelopes else empty + 1
        batches += bool(envelopes)
        pulled += envelopes
        if envelopes and not (lose_every and batches % lose_every == 0):
            puller.ack([Committed(envelope) for envelope in envelopes])
    return pulled


def _drain_losing_batches(harness: Harness, puller: Puller) -> Counter[bytes]:
    """Drain over several visibility timeouts, not acking every tenth batch."""
    seen: Counter[bytes] = Counter()
    for _ in range(_MAX_ROUNDS):
        seen.update(envelope.body for envelope in drain(puller, lose_every=10))
        if harness.depth() == 0:
            break
        harness.expire()
    return seen


def _pull_one(puller: Puller) -> Envelope:
    for _ in range(_EMPTY_PULLS):
        if pulled := puller.pull(BATCH_SIZE, 0):
            return pulled[0]
    raise AssertionError("the message did not come")


def _bodies(count: int) -> list[bytes]:
    return [f'{{"biz_id":"9000000000{number:05d}^0"}}'.encode() for number in range(count)]
