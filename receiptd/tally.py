"""The counts of one source, shared by its threads: for the progress table, the log and the status
line."""

import threading
from collections.abc import Sequence
from datetime import datetime

import msgspec

from receiptd.clock import Clock
from receiptd.errors import StoreError
from receiptd.log import get_logger
from receiptd.metrics import Lags
from receiptd.model import Envelope
from receiptd.pipeline import Processed
from receiptd.store import Store

# design.md section 5: the progress table is written at most every 5 s.
PUBLISH_EVERY_S = 5.0
# A line per batch would be hundreds a second under load; a line per minute with its sums says the
# same.
_LOG_EVERY_S = 60.0


class Counts(msgspec.Struct, kw_only=True):
    """What one source has done since this process started."""

    pulled: int = 0
    redelivered: int = 0
    digest_mismatches: int = 0  # bodies without the MD5 that the broker stated
    records: int = 0
    changed: int = 0
    quarantined: int = 0
    acked: int = 0
    ack_expired: int = 0
    ack_failed: int = 0
    in_flight: int = 0  # pulled, and neither acked nor given up
    last_pull_at: datetime | None = None
    last_commit_at: datetime | None = None


class Tally:
    """See the module. Thread-safe."""

    def __init__(self, *, instance: str, source: str, store: Store, clock: Clock) -> None:
        self._instance = instance
        self._source = source
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._counts = Counts()
        self._logged = Counts()
        self._publish_at = clock.monotonic() + PUBLISH_EVERY_S
        self._log_at = clock.monotonic() + _LOG_EVERY_S
        self._log = get_logger(source=source)
        self.lags = Lags()

    def pulled(self, envelopes: Sequence[Envelope]) -> None:
        """Count a poll that returned, empty or not."""
        again = sum(1 for one in envelopes if (one.pull_count or 1) > 1)
        mismatches = sum(1 for one in envelopes if one.digest_differs)
        with self._lock:
            self._counts.pulled += len(envelopes)
            self._counts.redelivered += again
            self._counts.digest_mismatches += mismatches
            self._counts.in_flight += len(envelopes)
            self._counts.last_pull_at = self._clock.now()

    def committed(self, processed: Processed, seconds: float) -> None:
        """Count a batch that is durable; it took `seconds`."""
        now = self._clock.now()
        times = [one.envelope.enqueued_at for one in processed.committed]
        self.lags.committed(now, min(filter(None, times), default=None), processed.reported_at)
        with self._lock:
            self._counts.records += processed.records
            self._counts.changed += processed.changed
            self._counts.quarantined += processed.quarantined
            self._counts.last_commit_at = now
        self._log.debug(
            "batch.committed",
            pulled=len(processed.committed),
            changed=processed.changed,
            duplicate=processed.records - processed.changed,
            quarantined=processed.quarantined,
            took_s=round(seconds, 4),
        )

    def acked(self, *, acked: int, expired: int, failed: int) -> None:
        """Count what became of a batch's handles."""
        with self._lock:
            self._counts.acked += acked
            self._counts.ack_expired += expired
            self._counts.ack_failed += failed

    def released(self, envelopes: Sequence[Envelope]) -> None:
        """Count envelopes that are out of hand: acked, or left to come again."""
        with self._lock:
            self._counts.in_flight -= len(envelopes)

    def counts(self) -> Counts:
        """Return a copy of the counts."""
        with self._lock:
            return msgspec.structs.replace(self._counts)

    def publish(self, *, now: bool = False) -> bool:
        """Write the progress row if it is due (or `now`), and the summary line if that is due.

        Returns False if the database did not take it: no news here, the batch that waits for it
        tells.
        """
        moment = self._clock.monotonic()
        with self._lock:
            due = now or moment >= self._publish_at
            if due:
                self._publish_at = moment + PUBLISH_EVERY_S
            log_due = now or moment >= self._log_at
            if log_due:
                self._log_at = moment + _LOG_EVERY_S
                before, self._logged = self._logged, msgspec.structs.replace(self._counts)
        if log_due and self._logged.pulled > before.pulled:
            self._log_summary(before, self._logged)
        if due:
            try:
                self._store.record_progress(self._instance, self._source, self.counts())
            except StoreError:
                return False
        return True

    def _log_summary(self, before: Counts, after: Counts) -> None:
        self._log.info(
            "source.progress",
            pulled=after.pulled - before.pulled,
            redelivered=after.redelivered - before.redelivered,
            records=after.records - before.records,
            changed=after.changed - before.changed,
            quarantined=after.quarantined - before.quarantined,
            acked=after.acked - before.acked,
            ack_expired=after.ack_expired - before.ack_expired,
            ack_failed=after.ack_failed - before.ack_failed,
        )
