"""From envelopes to committed envelopes: decode, normalize and store, in one transaction where
possible.

This is the only place that decides what may be acked: it mints `Committed`, and only after the
commit.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from receiptd.clock import Clock
from receiptd.errors import ConfigError, InvalidEnvelope, StoreRejected, StoreUnavailable
from receiptd.log import get_logger
from receiptd.model import (
    Committed,
    Entry,
    Envelope,
    Kind,
    Notice,
    Outcome,
    Reason,
    Receipt,
    Record,
    Uplink,
)
from receiptd.providers.base import Context, Normalizer
from receiptd.providers.decode import decode
from receiptd.store import SaveResult

_log = get_logger()

_KINDS: dict[type[Record], Kind] = {
    Receipt: Kind.RECEIPT,
    Uplink: Kind.UPLINK,
    Notice: Kind.NOTICE,
}


class Saver(Protocol):
    """The part of the store that the pipeline needs."""

    def save(self, entries: Sequence[Entry]) -> SaveResult:
        """Return once `entries` are durable. Raises StoreUnavailable or StoreRejected, having
        stored nothing."""
        ...


class Processed(msgspec.Struct, frozen=True):
    """What became of one batch."""

    committed: list[Committed]
    records: int  # understood
    changed: int  # records that made or changed a row; the rest were duplicates
    quarantined: int  # journal rows that could not be understood
    refused: Sequence[Entry] = ()  # those rows
    reported_at: datetime | None = None  # the earliest of the receipts'


class Pipeline:
    """Processes the batches of one source. Thread-safe: it has no state of its own."""

    def __init__(
        self,
        *,
        context: Context,
        normalize: Normalizer,
        store: Saver,
        clock: Clock,
        understood: Outcome = Outcome.STORED,
    ) -> None:
        """`understood` is the outcome of an entry with a record: a replay has its own."""
        self._context = context
        self._normalize = normalize
        self._store = store
        self._clock = clock
        self._understood = understood

    def process(self, envelopes: Sequence[Envelope]) -> Processed:
        """Store a batch and return what may now be acked: all of it.

        What cannot be understood is stored as quarantined, in the same transaction. Raises
        StoreUnavailable if the database is away; then nothing may be acked, and the same batch
        can be processed again.
        """
        received_at = self._clock.now()
        entries = [self._read(envelope, received_at) for envelope in envelopes]
        try:
            saved = self._store.save([entry for group in entries for entry in group])
        except (StoreUnavailable, ConfigError, MemoryError):
            raise
        except Exception:
            # One row's data was refused, or a bug of ours: it must not hold back the other fifteen.
            return self._save_one_by_one(envelopes, entries)
        return self._report(envelopes, entries, saved.changed)

    def _read(self, envelope: Envelope, received_at: datetime) -> list[Entry]:
        try:
            return read(envelope, self._context, self._normalize, received_at, self._understood)
        except MemoryError:
            raise  # the process' trouble and not the envelope's: not acked, it comes again
        except Exception:
            _log.error("envelope.failed", envelope_id=envelope.envelope_id, exc_info=True)
            return [_unreadable(envelope, Reason.UNEXPECTED_ERROR, received_at)]

    def _save_one_by_one(
        self, envelopes: Sequence[Envelope], entries: Sequence[list[Entry]]
    ) -> Processed:
        saved_entries: list[list[Entry]] = []
        changed = 0
        for envelope, group in zip(envelopes, entries, strict=True):
            try:
                changed += self._store.save(group).changed
            except (StoreUnavailable, ConfigError, MemoryError):
                raise
            except StoreRejected:
                group = [_unreadable(envelope, Reason.STORE_REJECTED, group[0].received_at)]
                self._store.save(group)
            except Exception:
                _log.error("envelope.failed", envelope_id=envelope.envelope_id, exc_info=True)
                group = [_unreadable(envelope, Reason.UNEXPECTED_ERROR, group[0].received_at)]
                self._store.save(group)
            saved_entries.append(group)
        return self._report(envelopes, saved_entries, changed)

    def _report(
        self, envelopes: Sequence[Envelope], entries: Sequence[list[Entry]], changed: int
    ) -> Processed:
        refused = [entry for group in entries for entry in group if entry.record is None]
        by_reason: dict[str, list[Entry]] = {}
        for entry in refused:
            by_reason.setdefault(entry.reason or "", []).append(entry)
        for reason, group in by_reason.items():
            _log.warning(
                "envelope.quarantined",
                source=group[0].envelope.source,
                envelope_id=group[0].envelope.envelope_id,
                reason=reason,
                count=len(group),
            )
        return Processed(
            committed=[Committed(envelope) for envelope in envelopes],
            records=sum(map(len, entries)) - len(refused),
            changed=changed,
            quarantined=len(refused),
            refused=refused,
            reported_at=_earliest_report(entries),
        )


def read(
    envelope: Envelope,
    context: Context,
    normalize: Normalizer,
    received_at: datetime,
    understood: Outcome = Outcome.STORED,
) -> list[Entry]:
    """Return the journal entries of one envelope: a record each, or the reason why not. At least
    one."""
    if envelope.flaw is not None:
        return [_unreadable(envelope, envelope.flaw, received_at)]
    try:
        parts = decode(envelope.body)
    except InvalidEnvelope as exc:
        return [_unreadable(envelope, str(exc), received_at)]
    entries = []
    for part in parts:
        if isinstance(part.data, InvalidEnvelope):  # not raised: see Part
            reason = str(part.data)
            entries.append(_quarantined(envelope, part.index, part.body, reason, received_at))
            continue
        try:
            record = normalize(part.data, context)
        except InvalidEnvelope as exc:
            entries.append(_quarantined(envelope, part.index, part.body, str(exc), received_at))
            continue
        entries.append(
            Entry(
                envelope=envelope,
                part=part.index,
                body=part.body,
                kind=_KINDS[type(record)],
                outcome=understood,
                received_at=received_at,
                record=record,
            )
        )
    return entries


def _earliest_report(entries: Sequence[list[Entry]]) -> datetime | None:
    records = (entry.record for group in entries for entry in group)
    times = [one.reported_at for one in records if isinstance(one, Receipt)]
    return min(filter(None, times), default=None)


def _unreadable(envelope: Envelope, reason: str, received_at: datetime) -> Entry:
    return _quarantined(envelope, 0, envelope.body, reason, received_at)


def _quarantined(
    envelope: Envelope, part: int, body: bytes, reason: str, received_at: datetime
) -> Entry:
    return Entry(
        envelope=envelope,
        part=part,
        body=body,
        kind=Kind.UNREADABLE,
        outcome=Outcome.QUARANTINED,
        reason=reason,
        received_at=received_at,
    )
