"""The worker against a queue with visibility timeouts and a real SQLite file, on a manual clock."""

import threading
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine, text
from structlog.testing import capture_logs

from receiptd.clock import ManualClock
from receiptd.errors import SourceRefused, SourceUnavailable
from receiptd.gate import Gate
from receiptd.model import Origin, Reason
from receiptd.pipeline import Pipeline
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context
from receiptd.pullers.base import AckResult
from receiptd.pulse import Pulse
from receiptd.store import open_store
from receiptd.tally import Tally
from receiptd.worker import Pace, Worker, no_trace
from tests.databases import databases, fresh_url
from tests.fakes import VISIBILITY_S, FakePuller, FakeQueue, sms_report


class Crash(BaseException):
    """The process dies here; not an Exception, so that nothing in receiptd can survive it."""


class Rig:
    """One process' life: a store, a pipeline and a worker on a queue that outlives them."""

    def __init__(self, url, queue, *, trace=no_trace, pace_s=0.0):
        self.url = url
        self.queue = queue
        self.clock = queue.clock
        self._eye = create_engine(url, isolation_level="AUTOCOMMIT")
        self.store = open_store(self.url, self.clock, trace=trace)
        self.store.upgrade()
        self.stopping = threading.Event()
        self.source_gate = Gate(self.clock, spread=lambda: 0.5)
        self.store_gate = Gate(self.clock, spread=lambda: 0.5)
        self.puller = FakePuller(queue)
        self.tally = Tally(instance="test", source="fake", store=self.store, clock=self.clock)
        self.pulse = Pulse("fake/1", self.clock)
        self.worker = Worker(
            source="fake",
            open_puller=lambda: self.puller,
            pipeline=Pipeline(
                context=Context(provider="aliyun", account="main", origin=Origin.QUEUE),
                normalize=PROVIDER.normalizers["SmsReport"],
                store=self.store,
                clock=self.clock,
            ),
            pace=Pace(batch_size=16, wait_s=30.0, pace_s=pace_s),
            source_gate=self.source_gate,
            store_gate=self.store_gate,
            tally=self.tally,
            pulse=self.pulse,
            stopping=self.stopping,
            clock=self.clock,
            trace=trace,
        )
        self.worker._puller = self.puller
        queue.on_ack = self._must_be_visible
        self.early_acks = []

    def _must_be_visible(self, envelope_id):
        rows = self.rows("SELECT 1 FROM journal WHERE envelope_id = :id", id=envelope_id)
        if not rows:
            self.early_acks.append(envelope_id)

    def rows(self, query, **values):
        with self._eye.connect() as connection:
            return connection.execute(text(query), values).all()

    def drain(self, rounds=50):
        for _ in range(rounds):
            if not self.queue.bodies:
                return
            self.worker.run_once()

    def close(self):
        self.store.close()
        self._eye.dispose()


@pytest.fixture
def queue():
    return FakeQueue(ManualClock())


@pytest.fixture
def rig(tmp_path, queue):
    rig = Rig(f"sqlite:///{tmp_path}/receipts.db", queue)
    yield rig
    rig.close()


def statuses(rig):
    return rig.rows("SELECT biz_id, phone, status FROM receipts ORDER BY biz_id, phone")


POINTS = [
    "before_pull",
    "after_pull",
    "in_transaction",
    "before_commit",
    "after_commit",
    "before_ack",
    "during_ack",
    "after_ack",
]


@pytest.fixture(params=databases())
def url(request, tmp_path):
    with fresh_url(request.param, tmp_path) as url:
        yield url


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_after_a_death_at_any_step_every_receipt_has_one_row_and_the_queue_is_empty(
    url, queue, point, nth
):
    for number in range(200):  # more than one turn gathers
        queue.put(sms_report(number, success=number % 5 != 0))
    queue.put(b"no JSON")
    seen = 0

    def die(at):
        nonlocal seen
        if at == point:
            seen += 1
            if seen == nth:
                raise Crash(point)

    first = Rig(url, queue, trace=die)
    first.puller.between_handles = lambda: die("during_ack")
    with pytest.raises(Crash):
        first.drain()
    first.close()
    queue.clock.advance(VISIBILITY_S + 1)
    second = Rig(url, queue)
    second.drain()

    assert not queue.bodies
    assert not first.early_acks
    assert not second.early_acks
    assert len(statuses(second)) == 200
    assert sum(1 for row in statuses(second) if row.status == "failed") == 40
    assert second.rows("SELECT DISTINCT reason FROM journal WHERE outcome = 'quarantined'") == [
        (Reason.NOT_JSON,)
    ]
    second.close()


def test_one_bad_message_costs_the_other_fifteen_nothing(rig, queue):
    for number in range(15):
        queue.put(sms_report(number))
    queue.put(b"\xff\x00 not even text")

    rig.worker.run_once()

    assert not queue.bodies
    assert len(statuses(rig)) == 15
    assert max(queue.pulls.values()) == 1
    quarantined = rig.rows("SELECT body, encoding FROM journal WHERE outcome = 'quarantined'")
    assert quarantined == [("/wAgbm90IGV2ZW4gdGV4dA==", "base64")]


def test_a_row_that_the_database_refuses_is_quarantined_and_the_rest_is_stored(rig, queue):
    for number in range(3):
        queue.put(sms_report(number))
    good = rig.worker._pipeline._normalize

    def too_big_for_the_column(data, context):
        record = good(data, context)
        if record.out_id == "order-1":
            import msgspec

            return msgspec.structs.replace(record, segments=2**70)
        return record

    rig.worker._pipeline._normalize = too_big_for_the_column
    rig.worker.run_once()

    assert not queue.bodies
    assert len(statuses(rig)) == 2
    assert rig.rows("SELECT reason FROM journal WHERE outcome = 'quarantined'") == [
        (Reason.STORE_REJECTED,)
    ]


def test_a_bug_in_a_normalizer_quarantines_its_envelope_under_a_reason_of_its_own(rig, queue):
    for number in range(3):
        queue.put(sms_report(number))
    good = rig.worker._pipeline._normalize

    def buggy(data, context):
        if data["out_id"] == "order-1":
            raise ZeroDivisionError
        return good(data, context)

    rig.worker._pipeline._normalize = buggy
    rig.worker.run_once()

    assert not queue.bodies
    assert len(statuses(rig)) == 2
    assert rig.rows("SELECT reason FROM journal WHERE outcome = 'quarantined'") == [
        (Reason.UNEXPECTED_ERROR,)
    ]


def test_a_redelivery_merges_into_its_row(rig, queue):
    queue.put(sms_report(1))
    queue.put(sms_report(1))

    rig.worker.run_once()

    assert len(statuses(rig)) == 1
    assert rig.rows("SELECT count(*) FROM journal") == [(2,)]
    assert rig.tally.counts().changed == 1


def test_while_the_database_is_away_nothing_is_acked_and_the_batch_is_kept(rig, queue):
    queue.put(sms_report(1))
    blocker = create_engine(rig.url, isolation_level="AUTOCOMMIT")
    connection = blocker.connect()
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    connection.exec_driver_sql("BEGIN EXCLUSIVE")
    waits = 0
    wait = rig.clock.wait

    def release_after_some_waits(event, seconds):
        nonlocal waits
        waits += 1
        if waits == 8:
            assert not queue.acked
            connection.exec_driver_sql("ROLLBACK")
        return wait(event, seconds)

    rig.clock.wait = release_after_some_waits
    rig.worker.run_once()
    connection.close()
    blocker.dispose()

    assert waits >= 8
    assert queue.acked == ["m00001"]
    assert rig.puller.pulls == 1
    assert not rig.early_acks


@contextmanager
def outliving(rig):
    """Let each batch take longer than its handles work."""
    process = rig.worker._pipeline.process

    def take_too_long(envelopes):
        rig.clock.advance(VISIBILITY_S + 1)
        return process(envelopes)

    rig.worker._pipeline.process = take_too_long
    yield
    rig.worker._pipeline.process = process


def test_an_envelope_whose_time_has_passed_is_not_acked_and_merges_when_it_comes_again(rig, queue):
    queue.put(sms_report(1))
    with outliving(rig):
        rig.worker.run_once()
    assert not queue.acked
    assert rig.tally.counts().ack_expired == 1

    rig.drain()
    assert queue.acked == ["m00001"]
    assert len(statuses(rig)) == 1


def test_each_envelope_whose_time_has_passed_is_counted_once(rig, queue):
    for number in range(128):  # two calls' worth
        queue.put(sms_report(number))
    with outliving(rig):
        rig.worker.run_once()

    assert rig.tally.counts().ack_expired == rig.tally.counts().pulled == 128


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (SourceUnavailable("timeout"), ("warning", "source.lost")),
        (SourceRefused("AccessDenied"), ("error", "source.refused")),
    ],
)
def test_an_outage_of_the_source_is_told_once_with_its_end(rig, fault, told):
    rig.puller.pull_faults = [fault] * 3

    with capture_logs() as lines:
        for _ in range(5):
            rig.worker.run_once()

    first, last = [line for line in lines if line["event"].startswith("source.")]
    assert (first["log_level"], first["event"]) == told
    assert first["code"] == fault.code
    assert (last["event"], last["attempts"]) == ("source.recovered", 3)


@pytest.mark.parametrize("fault", [SourceUnavailable("timeout"), SourceRefused("AccessDenied")])
def test_a_source_that_fails_is_tried_seldom_and_drained_when_it_is_back(rig, queue, fault):
    rig.puller.pull_faults = [fault] * 1000
    while rig.clock.monotonic() < 600:
        rig.worker.run_once()
    assert rig.puller.pulls <= 12 + 9 * 4
    queue.put(sms_report(1))
    rig.puller.pull_faults = []
    began_at = rig.clock.monotonic()

    rig.drain()

    assert not queue.bodies
    assert rig.clock.monotonic() - began_at < 30


def test_a_broker_that_takes_no_acks_is_not_read_over_and_over(rig, queue):
    queue.put(sms_report(1))
    rig.puller.ack_faults = [SourceUnavailable("http_503")] * 1000

    while rig.clock.monotonic() < 600:
        rig.worker.run_once()

    assert len(statuses(rig)) == 1
    assert rig.puller.pulls <= 12 + 9 * 4
    assert not rig.source_gate.is_open
    rig.puller.ack_faults = []
    rig.clock.advance(VISIBILITY_S)
    rig.drain()
    assert not queue.bodies
    assert rig.source_gate.is_open


def test_a_broker_that_takes_no_handle_does_not_make_the_loop_spin(rig, queue):
    queue.put(sms_report(1))
    queue.delete = lambda handle: False
    receive = queue.receive

    def at_once(batch_size):
        queue.visible_at = dict.fromkeys(queue.visible_at, 0.0)
        return receive(batch_size)

    queue.receive = at_once
    while rig.clock.monotonic() < 60:
        rig.worker.run_once()

    assert 6 <= rig.puller.pulls <= 16


def test_a_long_poll_that_answers_empty_at_once_is_slowed_down_and_told_once(rig):
    rig.puller.empty_after_s = 0.01

    with capture_logs() as lines:
        while rig.clock.monotonic() < 60:
            rig.worker.run_once()

    assert 6 <= rig.puller.pulls <= 16
    [told] = [line for line in lines if line["event"] == "source.throttled"]
    assert (told["took_s"], told["wait_s"]) == (0.01, 1.0)  # the first pull asks only for a second


def test_the_turn_after_a_partial_batch_begins_with_the_configured_pause(tmp_path, queue):
    rig = Rig(f"sqlite:///{tmp_path}/receipts.db", queue, pace_s=0.005)
    queue.put(sms_report(1))
    rig.worker.run_once()
    assert rig.clock.monotonic() == 0

    queue.put(sms_report(2))
    rig.worker.run_once()

    assert rig.clock.monotonic() == pytest.approx(0.005)
    assert not queue.bodies
    rig.close()


def test_messages_further_apart_than_the_pause_are_taken_without_it(tmp_path, queue):
    rig = Rig(f"sqlite:///{tmp_path}/receipts.db", queue, pace_s=0.005)
    rig.puller.comes_after_s = 0.02
    for number in range(3):
        queue.put(sms_report(number))
        rig.worker.run_once()

    assert rig.clock.monotonic() == pytest.approx(3 * 0.02)
    rig.close()


def test_full_batches_that_come_at_once_share_a_transaction(rig, queue):
    commits = []
    process = rig.worker._pipeline.process

    def count(envelopes):
        commits.append(len(envelopes))
        return process(envelopes)

    rig.worker._pipeline.process = count
    for number in range(150):
        queue.put(sms_report(number))

    rig.worker.run_once()
    rig.worker.run_once()

    assert commits == [8 * 16, 22]
    assert not queue.bodies
    assert len(statuses(rig)) == 150


def test_a_slow_database_is_given_no_more_than_a_batch_at_a_time(rig, queue):
    commits = []
    process = rig.worker._pipeline.process

    def slowly(envelopes):
        commits.append(len(envelopes))
        rig.clock.advance(2)
        return process(envelopes)

    rig.worker._pipeline.process = slowly
    queue.put(sms_report(0))
    rig.worker.run_once()
    for number in range(32):
        queue.put(sms_report(number))
    rig.drain()

    assert commits == [1, 16, 16]


def test_what_was_gathered_before_a_failed_pull_is_stored_and_acked(rig, queue):
    for number in range(40):
        queue.put(sms_report(number))
    real = rig.puller.pull

    def fail_the_second(batch_size, wait_s):
        if rig.puller.pulls == 1:
            rig.puller.pull_faults = [SourceUnavailable("reset")]
        return real(batch_size, wait_s)

    rig.puller.pull = fail_the_second
    rig.worker.run_once()

    assert len(queue.acked) == 16
    assert rig.source_gate.is_open
    rig.drain()
    assert not queue.bodies


def asked_by(rig):
    """Return what the worker asks its puller for, as it comes: envelopes, and for how long."""
    real = rig.puller.pull
    asked = []

    def noted(batch_size, wait_s):
        asked.append((batch_size, wait_s))
        return real(batch_size, wait_s)

    rig.puller.pull = noted
    return asked


def test_the_longer_full_batches_come_the_more_are_asked_for_at_once(rig, queue):
    asked = asked_by(rig)
    for number in range(2 * 128 + 70):
        queue.put(sms_report(number))

    rig.worker.run_once()
    rig.worker.run_once()
    rig.worker.run_once()

    assert asked[:4] == [(16, 1.0), (16, 0.0), (32, 0.0), (64, 0.0)]
    assert asked[4:6] == [(64, 0.0), (64, 0.0)]
    assert asked[6:] == [(64, 0.0), (64, 0.0)]
    assert not queue.bodies


def test_when_a_backlog_ends_the_next_pull_waits_again(rig, queue):
    asked = asked_by(rig)
    for number in range(128):
        queue.put(sms_report(number))
    rig.worker.run_once()

    rig.worker.run_once()
    rig.worker.run_once()

    assert asked[4:] == [(64, 0.0), (16, 30.0)]
    assert rig.source_gate.is_open


def test_a_trickle_after_a_backlog_is_waited_for(rig, queue):
    asked = asked_by(rig)
    for number in range(128):
        queue.put(sms_report(number))
    rig.worker.run_once()

    for number in range(3):
        queue.put(sms_report(200 + number))
        rig.worker.run_once()

    assert asked[4:] == [(64, 0.0), (16, 30.0), (16, 30.0)]


def test_a_call_that_fails_beside_others_is_an_outage_of_the_source(rig, queue):
    queue.put(sms_report(1))
    queue.put(sms_report(2))
    error = SourceUnavailable("throttled")
    rig.puller.ack = lambda committed: AckResult(acked=1, failed=1, error=error)
    rig.worker.run_once()

    counts = rig.tally.counts()
    assert (counts.acked, counts.ack_failed) == (1, 1)
    assert not rig.source_gate.is_open


def test_after_a_failed_ack_the_rest_of_what_was_gathered_comes_again(rig, queue):
    for number in range(128):
        queue.put(sms_report(number))
    real = rig.puller.ack
    calls = 0

    def fail_the_second(committed):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise SourceUnavailable("timeout")
        return real(committed)

    rig.puller.ack = fail_the_second
    rig.worker.run_once()

    counts = rig.tally.counts()
    assert (counts.acked, counts.ack_failed, counts.in_flight) == (64, 64, 0)
    rig.clock.advance(VISIBILITY_S)
    rig.drain()
    assert not queue.bodies
    assert len(statuses(rig)) == 128


def test_a_bug_in_the_loop_is_logged_waited_out_and_survived(rig, queue):
    queue.put(sms_report(1))
    real = rig.puller.pull
    calls = 0

    def fail_once(batch_size, wait_s):
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError
        if not queue.bodies:
            rig.stopping.set()
        return real(batch_size, wait_s)

    rig.puller.pull = fail_once
    rig.worker.run()

    assert not queue.bodies
    assert rig.puller.closed


def test_a_stop_while_the_database_is_away_leaves_the_batch_unacked(rig, queue):
    queue.put(sms_report(1))
    blocker = create_engine(rig.url, isolation_level="AUTOCOMMIT")
    connection = blocker.connect()
    connection.exec_driver_sql("BEGIN EXCLUSIVE")
    wait = rig.clock.wait

    def stop_instead(event, seconds):
        rig.stopping.set()
        return wait(event, seconds)

    rig.clock.wait = stop_instead
    rig.worker.run_once()
    connection.close()
    blocker.dispose()

    assert not queue.acked
    assert statuses(rig) == []


def test_a_thread_that_dies_before_its_loop_is_missed(rig):
    def broken():
        raise ZeroDivisionError

    rig.worker._open_puller = broken
    with pytest.raises(ZeroDivisionError):
        rig.worker.run()
    rig.clock.advance(60)

    assert rig.pulse.is_late


def test_the_pulse_is_late_only_when_a_step_takes_longer_than_it_promised(rig, queue):
    queue.put(sms_report(1))
    rig.worker.run_once()
    assert not rig.pulse.is_late

    rig.clock.advance(3600)

    assert rig.pulse.is_late


def test_a_thread_in_a_long_poll_is_late_only_well_after_its_end(rig):
    late = []
    poll = rig.puller.pull

    def slow(batch_size, wait_s):
        for seconds in (wait_s + 10, 10):  # what a puller promises; then it hangs
            rig.clock.advance(seconds)
            late.append(rig.pulse.is_late)
        return poll(batch_size, 0)

    rig.worker.run_once()
    rig.puller.pull = slow
    rig.worker.run_once()

    assert late == [False, True]


def test_a_thread_whose_database_is_slow_is_late_only_after_its_own_limits(rig, queue):
    late = []
    save = rig.store.save

    def slow(entries):
        for seconds in (40, 10):  # what a server's limits add up to; then it hangs
            rig.clock.advance(seconds)
            late.append(rig.pulse.is_late)
        return save(entries)

    rig.store.save = slow
    queue.put(sms_report(1))
    rig.worker.run_once()

    assert late == [False, True]


def test_the_first_poll_is_brief_so_that_a_source_is_soon_known_to_answer(rig):
    began_at = rig.clock.monotonic()
    rig.worker.run_once()
    first = rig.clock.monotonic() - began_at
    rig.worker.run_once()

    assert first == 1
    assert rig.clock.monotonic() - began_at == 31


def test_nothing_is_in_flight_after_a_batch_whatever_became_of_it(rig, queue):
    queue.put(sms_report(1))
    rig.puller.ack_faults.append(SourceUnavailable("timeout"))
    rig.worker.run_once()
    queue.put(sms_report(2))
    rig.drain()

    assert rig.tally.counts().in_flight == 0
    assert rig.tally.counts().pulled > 1


def test_the_lag_is_counted_from_the_carriers_report(rig, queue):
    queue.put(sms_report(1))
    rig.worker.run_once()

    buckets, seconds = rig.tally.lags.receipt.buckets()
    assert dict(buckets)["+Inf"] == 1
    assert seconds >= 0
