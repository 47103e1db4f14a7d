"""What a replay goes through, batch by batch: the journal, or its quarantine."""

from collections import Counter
from collections.abc import Iterator

import msgspec

from receiptd import quarantine
from receiptd.erase import ERASED_BODY
from receiptd.model import Envelope, Outcome, Reason
from receiptd.replay.meaning import Meaning, Meanings, is_question
from receiptd.store import Store, journal
from receiptd.store.journal import JournalRow, Selection

BATCH_ROWS = 300  # some 10 ms of SQLite's lock, which a daemon waits for
ERASED = ERASED_BODY.encode()


class Item(Envelope, frozen=True, kw_only=True):
    """An envelope that is read once more."""

    place: str  # where a person finds it: `journal row 17`, `export.ndjson:17`
    row_id: int | None = None  # of the journal, if that is where it stands
    is_quarantined: bool = False


class Refused(msgspec.Struct, frozen=True):
    """What could not be read or stored, and why."""

    place: str
    rule: str


class Batch(msgspec.Struct, kw_only=True):
    """What is stored together. `position` is what a command line goes on with behind it: an option
    and its value, behind the name of a file."""

    position: tuple[str, ...]
    items: list[tuple[Meaning, Item]] = msgspec.field(default_factory=list)
    refused: list[Refused] = msgspec.field(default_factory=list)
    passed_over: int = 0  # receiptd's own questions, dropped and erased rows
    unexplained: Counter[str] = msgspec.field(default_factory=Counter)  # rows by unknown source
    size: int = 0  # rows or bytes, whichever the progress is told in


def quarantined(
    store: Store, meanings: Meanings, selection: Selection, after_id: int, rows: int = BATCH_ROWS
) -> Iterator[Batch]:
    """Yield the quarantine in rising order of ids; what is quarantined meanwhile may be in it.
    Raises StoreUnavailable."""
    for ids in quarantine.id_pages(store, selection, after_id):
        for start in range(0, len(ids), rows):
            some = ids[start : start + rows]
            batch = Batch(position=("--after-id", str(some[-1])), size=len(some))
            with store.reading() as connection:
                found = journal.fetch(connection, some)
            for row in found:
                if row.outcome == Outcome.QUARANTINED:  # nobody was faster
                    _add(batch, row, meanings, selection)
            yield batch


def received(
    store: Store, meanings: Meanings, selection: Selection, rows: int = BATCH_ROWS
) -> Iterator[Batch]:
    """Yield what was received in a time, in that order. Raises StoreUnavailable."""
    after = None
    while True:
        with store.reading() as connection:
            found = journal.received(connection, selection, rows, after)
        if not found:
            return
        last = found[-1]
        after = last.received_at, last.id
        # The last moment once more: others may have received in it, too.
        batch = Batch(position=("--since", last.received_at.isoformat()), size=len(found))
        for row in found:
            _add(batch, row, meanings, selection)
        yield batch
        if len(found) < rows:
            return


def _add(batch: Batch, row: JournalRow, meanings: Meanings, selection: Selection) -> None:
    if is_question(row.source) or row.outcome == Outcome.DROPPED or row.body == ERASED:
        batch.passed_over += 1
        return
    meaning = meanings.of_row(row)
    if meaning is None:
        batch.unexplained[row.source] += 1
        return
    is_quarantined = row.outcome == Outcome.QUARANTINED
    # Only who asks for it by name reads it again: it may end this process, too.
    killer = Reason.KILLS_READER
    is_left = is_quarantined and row.reason == killer and selection.reason != killer
    item = Item(
        source=row.source,
        envelope_id=row.envelope_id,
        # What was understood was plain. What was not may have been in a wrapping.
        body=quarantine.readable(row.body) if is_quarantined else row.body,
        handle="",
        pull_count=row.pull_count,
        enqueued_at=row.enqueued_at,
        flaw=killer if is_left else None,
        place=f"journal row {row.id}",
        row_id=row.id,
        is_quarantined=is_quarantined,
    )
    batch.items.append((meaning, item))
