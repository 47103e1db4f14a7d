"""What the pipeline stores into when it replays: journal rows that are there already, or nothing,
for those who want to see first."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec
from sqlalchemy import Connection

from receiptd.model import Entry, Notice, Receipt, Uplink
from receiptd.pipeline import Saver
from receiptd.replay.batches import Item
from receiptd.store import SaveResult, known
from receiptd.store.journal import Replayed
from receiptd.store.merge import fold, key, merge


class Keeper(Protocol):
    """What is needed of the store."""

    def save(self, entries: Sequence[Entry]) -> SaveResult: ...
    def replay(self, replayed: Sequence[Replayed]) -> SaveResult: ...
    def reading(self) -> AbstractContextManager[Connection]: ...


class CountingSaver(Saver, Protocol):
    """A pipeline's saver that counts the rows of the quarantine that it settled."""

    settled: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a record would do to its row; `old` is None for a new one."""

    table: str  # receipts, uplinks, notices
    identity: str  # biz_id, sequence_id, name
    phone: str | None  # whole: mask it before anybody sees it
    old: str | None  # status
    new: str
    columns: tuple[str, ...] = ()  # that would change


class FileSaver:
    """Stores the records of files, with a journal row each."""

    settled = 0

    def __init__(self, store: Keeper) -> None:
        self.save = store.save


class JournalSaver:
    """Merges the records of journal rows and marks the rows; a pipeline.Saver for Items."""

    def __init__(self, store: Keeper) -> None:
        self._store = store
        self.settled = 0  # quarantined rows that are replayed now

    def save(self, entries: Sequence[Entry]) -> SaveResult:
        """Return once the records of `entries` are merged, and the rows marked that are understood
        as a whole. What is not understood stays as it is. Raises as Store.replay."""
        by_row: dict[int, list[Entry]] = {}
        for entry in entries:
            item = entry.envelope
            assert isinstance(item, Item)
            assert item.row_id is not None
            by_row.setdefault(item.row_id, []).append(entry)
        replayed = [
            Replayed(row_id, group, _settles(group))
            for row_id, group in by_row.items()
            if any(entry.record is not None for entry in group)
        ]
        if not replayed:
            return SaveResult(changed=0, unchanged=0)
        result = self._store.replay(replayed)
        self.settled += sum(one.settles for one in replayed)
        return result


class Preview:
    """Tells what would change and changes nothing; a pipeline.Saver for Items.

    Each batch is compared with the tables as they are: a row that records of several batches would
    change is told once for each of them.
    """

    def __init__(self, store: Keeper, told: Callable[[Change], None]) -> None:
        self._store = store
        self._told = told
        self.settled = 0

    def save(self, entries: Sequence[Entry]) -> SaveResult:
        """Return how many records would make or change a row. Raises StoreUnavailable."""
        records = [entry.record for entry in entries if entry.record is not None]
        with self._store.reading() as connection:
            changes = [*_receipts(connection, [r for r in records if isinstance(r, Receipt)])]
            changes += _uplinks(connection, [r for r in records if isinstance(r, Uplink)])
            changes += _notices(connection, [r for r in records if isinstance(r, Notice)])
        for change in changes:
            self._told(change)
        groups: dict[int, list[Entry]] = {}
        for entry in entries:
            if isinstance(entry.envelope, Item) and entry.envelope.row_id is not None:
                groups.setdefault(entry.envelope.row_id, []).append(entry)
        self.settled += sum(map(_settles, groups.values()))
        return SaveResult(changed=len(changes), unchanged=len(records) - len(changes))


def _settles(group: Sequence[Entry]) -> bool:
    item = group[0].envelope
    assert isinstance(item, Item)
    return item.is_quarantined and all(entry.record is not None for entry in group)


def _receipts(connection: Connection, records: Sequence[Receipt]) -> Iterable[Change]:
    folded = fold(records)
    there = known.receipts(connection, list(map(key, folded)))
    for record in folded:
        old = there.get(key(record))
        new = record if old is None else merge(old, record)
        if new == old:
            continue
        columns = tuple(
            name
            for name in Receipt.__struct_fields__
            if old is not None and getattr(old, name) != getattr(new, name)
        )
        yield Change(
            table="receipts",
            identity=record.biz_id,
            phone=record.phone,
            old=None if old is None else old.status.value,
            new=new.status.value,
            columns=columns,
        )


def _uplinks(connection: Connection, records: Sequence[Uplink]) -> Iterable[Change]:
    wanted = {known.uplink_key(record): record for record in records}
    for identity in wanted.keys() - known.uplinks(connection, list(wanted)):
        record = wanted[identity]
        yield Change(
            table="uplinks", identity=record.sequence_id, phone=record.phone, old=None, new="reply"
        )


def _notices(connection: Connection, records: Sequence[Notice]) -> Iterable[Change]:
    wanted = {known.notice_key(record): record for record in records}
    for identity in wanted.keys() - known.notices(connection, list(wanted)):
        record = wanted[identity]
        yield Change(table="notices", identity=record.name, phone=None, old=None, new=record.status)
