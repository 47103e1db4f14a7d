"""The counts of a source: what the progress table and the log are told, and when."""

from datetime import timedelta

import msgspec
import pytest
from structlog.testing import capture_logs

from receiptd.clock import ManualClock
from receiptd.errors import StoreUnavailable
from receiptd.model import Committed
from receiptd.pipeline import Processed
from receiptd.tally import PUBLISH_EVERY_S, Tally
from tests.fakes import envelope


class Progress:
    """Keeps what was written, or is away."""

    def __init__(self):
        self.written = []
        self.away = False

    def record_progress(self, instance, source, counts):
        if self.away:
            raise StoreUnavailable("away")
        self.written.append((instance, source, counts))


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def progress():
    return Progress()


@pytest.fixture
def tally(clock, progress):
    return Tally(instance="host:1", source="sms", store=progress, clock=clock)


def work(tally, **pulled):
    one = envelope(b"{}")
    tally.pulled([msgspec.structs.replace(one, **pulled)])
    tally.committed(Processed([Committed(one)], records=1, changed=1, quarantined=0), 0.01)
    tally.acked(acked=1, expired=0, failed=0)


def test_the_progress_row_is_written_at_most_every_five_seconds(tally, clock, progress):
    for _ in range(100):
        work(tally)
        tally.publish()
        clock.advance(0.5)

    assert len(progress.written) == pytest.approx(50 / PUBLISH_EVERY_S, abs=1)
    instance, source, counts = progress.written[-1]
    assert (instance, source) == ("host:1", "sms")
    assert counts.pulled == counts.acked
    assert counts.last_commit_at is not None


def test_the_counts_are_the_sums_of_what_was_told(tally):
    one = envelope(b"{}")
    for _ in range(2):
        tally.pulled([one, one, one])
        tally.committed(Processed([Committed(one)] * 3, records=5, changed=4, quarantined=2), 0.01)
        tally.acked(acked=1, expired=3, failed=6)

    counts = tally.counts()
    assert (counts.pulled, counts.records, counts.changed, counts.quarantined) == (6, 10, 8, 4)
    assert (counts.acked, counts.ack_expired, counts.ack_failed) == (2, 6, 12)
    assert counts.last_pull_at is not None


def test_the_summary_says_what_was_added_since_the_one_before(tally, clock):
    with capture_logs() as lines:
        for times in (1, 2):
            for _ in range(times):
                tally.pulled([msgspec.structs.replace(envelope(b"{}"), pull_count=2)])
                tally.committed(Processed([], records=2, changed=3, quarantined=4), 0.01)
                tally.acked(acked=5, expired=6, failed=7)
            clock.advance(61)
            tally.publish()

    summaries = [line for line in lines if line["event"] == "source.progress"]
    names = ("pulled", "redelivered", "records", "changed", "quarantined")
    acks = ("acked", "ack_expired", "ack_failed")
    assert [[line[name] for name in names + acks] for line in summaries] == [
        [1, 1, 2, 3, 4, 5, 6, 7],
        [2, 2, 4, 6, 8, 10, 12, 14],
    ]


def test_redeliveries_are_counted_apart(tally):
    work(tally)
    work(tally, pull_count=3)

    assert tally.counts().redelivered == 1


def test_bodies_that_do_not_have_the_stated_digest_are_counted(tally):
    work(tally)
    work(tally, digest_differs=True)

    assert tally.counts().digest_mismatches == 1


def test_a_database_that_is_away_is_told_and_not_raised(tally, progress):
    progress.away = True

    assert tally.publish(now=True) is False


def test_an_idle_source_logs_no_summary_and_a_busy_one_a_line_a_minute(tally, clock):
    with capture_logs() as lines:
        for _ in range(10):
            clock.advance(61)
            tally.publish()
        work(tally)
        clock.advance(61)
        tally.publish()

    summaries = [line for line in lines if line["event"] == "source.progress"]
    assert len(summaries) == 1
    assert summaries[0]["pulled"] == 1


def test_what_is_in_flight_was_pulled_and_not_released(tally):
    envelopes = [envelope(b"{}", "m1"), envelope(b"{}", "m2")]
    tally.pulled(envelopes)
    pulled = tally.counts().in_flight
    tally.released(envelopes)

    assert (pulled, tally.counts().in_flight) == (2, 0)


def test_a_batch_is_as_late_as_its_oldest(tally, clock):
    times = [clock.now() - timedelta(seconds=seconds) for seconds in (5, 40, 9)]
    committed = [
        Committed(msgspec.structs.replace(envelope(b"{}"), enqueued_at=at)) for at in (*times, None)
    ]
    reported_at = clock.now() - timedelta(hours=1)
    tally.committed(
        Processed(committed, records=4, changed=4, quarantined=0, reported_at=reported_at), 0.01
    )

    assert tally.lags.queue.buckets()[1] == 40
    assert tally.lags.receipt.buckets()[1] == 3600
