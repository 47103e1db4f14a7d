"""What Prometheus is told, and that it can read it."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from receiptd.clock import ManualClock
from receiptd.gate import Gate
from receiptd.metrics import QUERY_RESULTS, Histogram, Lags, Metrics
from receiptd.store.gauges import Gauges, OpenRows
from receiptd.tally import Counts
from receiptd.web.health import SourceView

# design.md section 11
NAMES = {
    "receiptd_envelopes_pulled_total",
    "receiptd_records_total",
    "receiptd_duplicates_total",
    "receiptd_acks_total",
    "receiptd_commit_seconds_bucket",
    "receiptd_commit_batch_size_bucket",
    "receiptd_receipt_lag_seconds_bucket",
    "receiptd_queue_lag_seconds_bucket",
    "receiptd_inflight",
    "receiptd_last_progress_timestamp_seconds",
    "receiptd_token_expires_timestamp_seconds",
    "receiptd_quarantined",
    "receiptd_awaited",
    "receiptd_overdue",
    "receiptd_lost_total",
    "receiptd_hours_to_loss",
    "receiptd_reconcile_queries_total",
    "receiptd_notify_pending",
    "receiptd_build_info",
    # not in it, and as public
    "receiptd_source_up",
    "receiptd_digest_mismatches_total",
    "receiptd_database_up",
}


class Tallied:
    def __init__(self, counts: Counts) -> None:
        self.lags = Lags()
        self._counts = counts

    def counts(self) -> Counts:
        return self._counts


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def metrics(clock):
    metrics = Metrics(clock)
    counts = Counts(
        pulled=20,
        digest_mismatches=1,
        records=15,
        changed=10,
        quarantined=2,
        acked=14,
        ack_expired=1,
        ack_failed=0,
        in_flight=5,
        last_pull_at=clock.now(),
        last_commit_at=clock.now(),
    )
    metrics.sources = [
        SourceView(
            name="sms",
            puller="mns",
            account="main",
            wait_s=30,
            tally=Tallied(counts),
            gate=Gate(clock),
            expires_at=lambda: clock.now() + timedelta(minutes=8),
        )
    ]
    metrics.queried("main", "answered")
    metrics.queried("main", "answered")
    metrics.lost("main", 3)
    metrics.committed(0.004, 2, 32)
    metrics.saw_database(True)
    oldest = clock.now() - timedelta(days=29)
    metrics.learned(Gauges({"main": OpenRows(7, 4, oldest)}, {"not_json": 2}, {"app": 1}))
    return metrics


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Return each value by its name and its labels' values."""
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found[sample.name, *sample.labels.values()] = sample.value
    return found


def test_all_names_of_the_design_are_there(metrics):
    assert {key[0] for key in samples(metrics)} >= NAMES


def test_every_name_begins_with_receiptd(metrics):
    assert all(key[0].startswith("receiptd_") for key in samples(metrics))


def test_the_counts_of_a_source_are_told(metrics, clock):
    told = samples(metrics)

    assert told["receiptd_envelopes_pulled_total", "sms"] == 20
    assert told["receiptd_digest_mismatches_total", "sms"] == 1
    assert told["receiptd_records_total", "stored", "sms"] == 15
    assert told["receiptd_records_total", "quarantined", "sms"] == 2
    assert told["receiptd_duplicates_total", "sms"] == 5
    assert told["receiptd_acks_total", "acked", "sms"] == 14
    assert told["receiptd_inflight", "sms"] == 5
    assert told["receiptd_source_up", "sms"] == 1
    assert told["receiptd_last_progress_timestamp_seconds", "sms", "pull"] == (
        clock.now().timestamp()
    )
    ends = told["receiptd_token_expires_timestamp_seconds", "sms"]
    assert ends - clock.now().timestamp() == 480


def test_what_reconciliation_and_the_database_know_is_told(metrics):
    told = samples(metrics)

    assert told["receiptd_reconcile_queries_total", "main", "answered"] == 2
    assert told["receiptd_lost_total", "main"] == 3
    assert (told["receiptd_awaited", "main"], told["receiptd_overdue", "main"]) == (7, 4)
    assert told["receiptd_hours_to_loss", "main"] == 24
    assert told["receiptd_quarantined", "not_json"] == 2
    assert told["receiptd_notify_pending", "app"] == 1


def test_a_transaction_is_counted_with_its_time_and_size(metrics):
    told = samples(metrics)

    assert told["receiptd_commit_seconds_bucket", "0.0025"] == 0
    assert told["receiptd_commit_seconds_bucket", "0.005"] == 1
    assert told["receiptd_commit_batch_size_bucket", "16.0"] == 0
    assert told["receiptd_commit_batch_size_sum",] == 32


def test_the_lag_of_a_batch_is_that_of_its_oldest(clock):
    lags = Lags()
    now = clock.now()

    lags.committed(now, now - timedelta(seconds=2), now - timedelta(hours=1))
    lags.committed(now, None, None)
    lags.committed(now, now + timedelta(seconds=5), None)

    queue, seconds = lags.queue.buckets()
    assert (dict(queue)["+Inf"], seconds) == (2, 2)
    assert dict(lags.receipt.buckets()[0])["3600.0"] == 1


def test_a_result_that_is_on_no_list_is_a_bug(metrics):
    with pytest.raises(ValueError, match="none of answered"):
        metrics.queried("main", "200 OK")
    assert len(QUERY_RESULTS) == 7


def test_a_database_is_up_or_away_or_nobody_knows_yet(metrics):
    key = ("receiptd_database_up",)

    assert samples(metrics)[key] == 1
    metrics.saw_database(False)
    assert samples(metrics)[key] == 0
    metrics.saw_database(None)
    assert key not in samples(metrics)


def test_before_anything_was_learned_there_is_still_an_answer(clock):
    assert ("receiptd_commit_seconds_count",) in samples(Metrics(clock))


@given(st.lists(st.floats(-10, 1e6, allow_nan=False)))
def test_a_histogram_counts_each_value_in_each_bucket_that_holds_it(values):
    bounds = (0.5, 1, 10)
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)

    buckets, total = histogram.buckets()

    assert [count for _, count in buckets] == [
        sum(value <= bound for value in values) for bound in (*bounds, math.inf)
    ]
    assert total == pytest.approx(sum(max(value, 0) for value in values))
