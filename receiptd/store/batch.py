"""The entries of one `save()` as rows, ready for a transaction, and several of them as one."""

from collections.abc import Iterable, Sequence
from operator import itemgetter

from receiptd.errors import StoreRejected
from receiptd.model import Entry, Notice, Outcome, Receipt, Uplink
from receiptd.store import rows
from receiptd.store.merge import Key, key, merge
from receiptd.store.rows import Row, Timer

# A record is stored only if its entry says so: a quarantined entry may still carry one.
_STORED = frozenset({Outcome.STORED, Outcome.REPLAYED})

_uplink_key = itemgetter(*map(rows.UPLINKS.index, ("sequence_id", "phone", "provider", "account")))
_notice_key = itemgetter(
    *map(rows.NOTICES.index, ("name", "order_id", "status", "subject", "provider", "account"))
)


class Batch:
    """Rows of one or more saves; receipts are folded as they are added."""

    __slots__ = (
        "_receipts", "_rows", "_timer", "entries", "journal", "notices", "records", "uplinks",
    )  # fmt: skip

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._receipts: dict[Key, Receipt] = {}
        self._rows: dict[Key, Row] = {}
        self.entries = 0
        self.records = 0  # before folding
        self.journal: list[Row] = []
        self.uplinks: list[Row] = []
        self.notices: list[Row] = []

    def receipt_rows(self) -> list[Row]:
        """Return the receipts in the order of their keys, as all writers: two never deadlock."""
        return [self._rows[identity] for identity in sorted(self._rows)]

    def uplink_rows(self) -> list[Row]:
        """Return the uplinks in the order of their keys."""
        return sorted(self.uplinks, key=_uplink_key)

    def notice_rows(self) -> list[Row]:
        """Return the notices in the order of their keys."""
        return sorted(self.notices, key=_notice_key)

    def _add(self, entry: Entry, now: object, *, in_journal: bool) -> None:
        timer = self._timer
        if in_journal:
            self.journal.append(rows.journal_row(entry, timer))
        self.entries += 1
        record = entry.record
        if record is None or entry.outcome not in _STORED:
            return
        self.records += 1
        if isinstance(record, Receipt):
            # A row before a merge: what is no row cannot be compared either.
            self._fold(key(record), record, rows.receipt_row(record, timer, now), now)
        elif isinstance(record, Uplink):
            self.uplinks.append(rows.uplink_row(record, timer, now))
        elif isinstance(record, Notice):
            self.notices.append(rows.notice_row(record, timer, now))

    def _fold(self, identity: Key, receipt: Receipt, row: Row, now: object) -> None:
        known = self._receipts.get(identity)
        if known is not None:
            receipt = merge(known, receipt)
            row = rows.receipt_row(receipt, self._timer, now)
        self._receipts[identity] = receipt
        self._rows[identity] = row

    def _join(self, other: "Batch", now: object) -> None:
        self.entries += other.entries
        self.records += other.records
        self.journal += other.journal
        self.uplinks += other.uplinks
        self.notices += other.notices
        if self._receipts.keys().isdisjoint(other._receipts):  # nearly always
            self._receipts.update(other._receipts)
            self._rows.update(other._rows)
            return
        for identity, receipt in other._receipts.items():
            self._fold(identity, receipt, other._rows[identity], now)


def prepare(
    entries: Sequence[Entry], timer: Timer, now: object, *, in_journal: bool = True
) -> Batch:
    """Return `entries` as rows; `now` is already what the database wants. Not `in_journal` are
    those that are there already, and only read once more.

    Raises StoreRejected, without any value in its text or its chain.
    """
    batch = Batch(timer)
    try:
        for entry in entries:
            batch._add(entry, now, in_journal=in_journal)
    except StoreRejected as exc:
        error = StoreRejected(*exc.args)
    except (TypeError, ValueError, OverflowError, AttributeError) as exc:
        error = StoreRejected(f"a value of the wrong type or range ({type(exc).__name__})")
    else:
        return batch
    # Outside the handlers, so that the first error is not its context.
    raise error


def join(batches: Iterable[Batch], timer: Timer, now: object) -> Batch:
    """Return all rows of `batches` as one batch, receipts folded across them."""
    joined = Batch(timer)
    for batch in batches:
        joined._join(batch, now)
    return joined
