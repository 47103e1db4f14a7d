"""What Prometheus is told (design.md section 11).

Counting costs the receipts' way next to nothing: plain numbers, a histogram's step once a batch or
a transaction, and the rest is put together when somebody asks. Labels are bounded: names from the
configuration and words from closed lists.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from receiptd import __version__
from receiptd.clock import Clock

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
QUERY_RESULTS = (
    "answered", "waiting", "nothing", "undecided", "unavailable", "refused", "put_off",
)  # fmt: skip

_COMMIT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_QUEUE_LAG_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
# A carrier may answer after three days; more is a receipt that was replayed or redelivered late.
_RECEIPT_LAG_S = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400, 259200)


class Histogram:
    """Counts values by size. Thread-safe."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._lock = threading.Lock()
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value; what is below zero (two clocks) counts as zero."""
        value = max(value, 0.0)
        place = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[place] += 1
            self._sum += value

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Return the cumulative counts by upper bound, as Prometheus has them, and the sum."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        found: list[tuple[str, float]] = []
        seen = 0
        for bound, count in zip((*map(str, map(float, self._bounds)), "+Inf"), counts, strict=True):
            seen += count
            found.append((bound, seen))
        return found, total


class Lags:
    """How late the records of one source became durable.

    Of each batch its oldest: one step instead of sixteen, and what it hides is on the good side. A
    quantile of it is never better than that of the records.
    """

    def __init__(self) -> None:
        self.queue = Histogram(_QUEUE_LAG_S)
        self.receipt = Histogram(_RECEIPT_LAG_S)

    def committed(
        self, now: datetime, enqueued_at: datetime | None, reported_at: datetime | None
    ) -> None:
        """Count a batch: when its oldest was put into the queue, and reported by the carrier."""
        if enqueued_at is not None:
            self.queue.observe((now - enqueued_at).total_seconds())
        if reported_at is not None:
            self.receipt.observe((now - reported_at).total_seconds())


class SourceCounts(Protocol):
    """What one source has done since this process started."""

    @property
    def pulled(self) -> int: ...
    @property
    def digest_mismatches(self) -> int: ...
    @property
    def records(self) -> int: ...
    @property
    def changed(self) -> int: ...
    @property
    def quarantined(self) -> int: ...
    @property
    def acked(self) -> int: ...
    @property
    def ack_expired(self) -> int: ...
    @property
    def ack_failed(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def last_pull_at(self) -> datetime | None: ...
    @property
    def last_commit_at(self) -> datetime | None: ...


class Watched(Protocol):
    """One source, as far as its figures go."""

    @property
    def name(self) -> str: ...
    @property
    def lags(self) -> Lags: ...
    @property
    def is_up(self) -> bool: ...
    @property
    def token_expires_at(self) -> datetime | None: ...
    def counts(self) -> SourceCounts: ...


class Open(Protocol):
    """An account's sends whose end is not known; `overdue` are due to be asked about."""

    @property
    def rows(self) -> int: ...
    @property
    def overdue(self) -> int: ...
    @property
    def oldest(self) -> datetime | None: ...


class Figures(Protocol):
    """What only the database knows."""

    @property
    def open(self) -> Mapping[str, Open]: ...  # by account
    @property
    def quarantined(self) -> Mapping[str, int]: ...  # by reason
    @property
    def notify_pending(self) -> Mapping[str, int]: ...  # by endpoint


class Metrics:
    """The figures of one process. Thread-safe."""

    def __init__(self, clock: Clock, *, window: timedelta = timedelta(days=30)) -> None:
        """`window` is how long a provider can be asked about a send."""
        self._clock = clock
        self._window = window
        self._lock = threading.Lock()
        self._queries: Counter[tuple[str, str]] = Counter()
        self._lost: Counter[str] = Counter()
        self._commit_seconds = Histogram(_COMMIT_S)
        self._commit_rows = Histogram(_BATCH_ROWS)
        self._figures: Figures | None = None
        self._is_database_up: bool | None = None
        self.sources: Sequence[Watched] = ()

    def committed(self, seconds: float, batches: int, entries: int) -> None:
        """Count a transaction of the group commit."""
        self._commit_seconds.observe(seconds)
        self._commit_rows.observe(entries)

    def queried(self, account: str, result: str) -> None:
        """Count a question about a send; `result` is one of QUERY_RESULTS."""
        if result not in QUERY_RESULTS:
            raise ValueError(f"{result!r} is none of {', '.join(QUERY_RESULTS)}")
        with self._lock:
            self._queries[account, result] += 1

    def lost(self, account: str, count: int) -> None:
        """Count sends that nobody can be asked about any more."""
        with self._lock:
            self._lost[account] += count

    def learned(self, figures: Figures) -> None:
        """Take what the database said last."""
        self._figures = figures

    def saw_database(self, is_up: bool | None) -> None:
        """Take whether the database takes and gives rows; None: nobody has asked it yet."""
        self._is_database_up = is_up

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        # Imported here: 1.3 MB that a daemon that nobody scrapes never needs.
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.process_collector import ProcessCollector

        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(namespace="receiptd", registry=registry)
        return generate_latest(registry)

    def collect(self) -> "Iterator[Metric]":
        """Yield the families, as a collector of prometheus_client does."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
            return CounterMetricFamily(f"receiptd_{name}", text, labels=labels)

        def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"receiptd_{name}", text, labels=labels)

        def histogram(
            name: str, text: str, values: Mapping[str, Histogram], *labels: str
        ) -> HistogramMetricFamily:
            family = HistogramMetricFamily(f"receiptd_{name}", text, labels=labels)
            for label, value in values.items():
                buckets, total = value.buckets()
                family.add_metric([label] if labels else [], buckets, total)
            return family

        build = gauge("build_info", "The version that runs", "version")
        build.add_metric([__version__], 1)
        yield build
        yield histogram("commit_seconds", "Time of a transaction", {"": self._commit_seconds})
        yield histogram(
            "commit_batch_size", "Envelope parts in a transaction", {"": self._commit_rows}
        )
        lags = {one.name: one.lags for one in self.sources}
        yield histogram(
            "queue_lag_seconds",
            "Put into the queue to durable, of the oldest in each batch",
            {name: one.queue for name, one in lags.items()},
            "source",
        )
        yield histogram(
            "receipt_lag_seconds",
            "Reported by the carrier to durable, of the oldest in each batch",
            {name: one.receipt for name, one in lags.items()},
            "source",
        )
        yield from self._of_sources(counter, gauge)
        yield from self._of_reconciliation(counter)
        yield from self._of_database(gauge)

    def _of_sources(self, counter: "_Counters", gauge: "_Gauges") -> "Iterator[Metric]":
        pulled = counter("envelopes_pulled", "Envelopes pulled", "source")
        mismatches = counter(
            "digest_mismatches", "Bodies without the MD5 that the broker stated", "source"
        )
        records = counter("records", "Records made durable", "source", "outcome")
        duplicates = counter("duplicates", "Records that said nothing new", "source")
        acks = counter("acks", "Handles acked, by what the broker said", "source", "result")
        inflight = gauge("inflight", "Envelopes pulled and not yet acked", "source")
        up = gauge("source_up", "Whether the source answers", "source")
        last = gauge(
            "last_progress_timestamp_seconds", "Last poll that returned, last commit",
            "source", "step",
        )  # fmt: skip
        token = gauge("token_expires_timestamp_seconds", "When the queue's token ends", "source")
        for source in self.sources:
            name, counts = source.name, source.counts()
            pulled.add_metric([name], counts.pulled)
            mismatches.add_metric([name], counts.digest_mismatches)
            records.add_metric([name, "stored"], counts.records)
            records.add_metric([name, "quarantined"], counts.quarantined)
            duplicates.add_metric([name], counts.records - counts.changed)
            for result, count in (
                ("acked", counts.acked),
                ("expired", counts.ack_expired),
                ("failed", counts.ack_failed),
            ):
                acks.add_metric([name, result], count)
            inflight.add_metric([name], counts.in_flight)
            up.add_metric([name], source.is_up)
            for step, at in (("pull", counts.last_pull_at), ("commit", counts.last_commit_at)):
                if at is not None:
                    last.add_metric([name, step], at.timestamp())
            if (expires_at := source.token_expires_at) is not None:
                token.add_metric([name], expires_at.timestamp())
        yield from (pulled, mismatches, records, duplicates, acks, inflight, up, last, token)

    def _of_reconciliation(self, counter: "_Counters") -> "Iterator[Metric]":
        with self._lock:
            asked, given_up = dict(self._queries), dict(self._lost)
        queries = counter("reconcile_queries", "Questions about sends", "account", "result")
        for (account, result), count in sorted(asked.items()):
            queries.add_metric([account, result], count)
        lost = counter("lost", "Sends that ended as lost", "account")
        for account, count in sorted(given_up.items()):
            lost.add_metric([account], count)
        yield from (queries, lost)

    def _of_database(self, gauge: "_Gauges") -> "Iterator[Metric]":
        up = gauge("database_up", "Whether the database takes and gives rows")
        if self._is_database_up is not None:
            up.add_metric([], self._is_database_up)
        yield up
        figures = self._figures
        if figures is None:
            return
        awaited = gauge("awaited", "Sends whose end is not known", "account")
        overdue = gauge("overdue", "Sends that are due to be asked about", "account")
        hours = gauge("hours_to_loss", "Until nobody knows about the oldest of them", "account")
        now = self._clock.now()
        for account, one in sorted(figures.open.items()):
            awaited.add_metric([account], one.rows)
            overdue.add_metric([account], one.overdue)
            if one.oldest is not None:
                left = one.oldest + self._window - now
                hours.add_metric([account], left.total_seconds() / 3600)
        quarantined = gauge("quarantined", "Journal rows in quarantine", "reason")
        for reason, count in sorted(figures.quarantined.items()):
            quarantined.add_metric([reason], count)
        pending = gauge("notify_pending", "Notifications not delivered yet", "endpoint")
        for endpoint, count in sorted(figures.notify_pending.items()):
            pending.add_metric([endpoint], count)
        yield from (awaited, overdue, hours, quarantined, pending)


class _Counters(Protocol):
    def __call__(self, name: str, text: str, *labels: str) -> "CounterMetricFamily": ...


class _Gauges(Protocol):
    def __call__(self, name: str, text: str, *labels: str) -> "GaugeMetricFamily": ...
