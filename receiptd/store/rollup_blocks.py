"""The blocks of the roll-ups: which receipts were created in which hour, found without an index on
a time.

Ids rise with the time of creation, so one hour's receipts are a range of ids. The ranges part all
ids among themselves: a receipt is in exactly one, also where several processes mix their ids a
little, and where a clock was wrong.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from receiptd.store.ids import last_id_before
from receiptd.store.schema import receipts, rollup_blocks

HOUR = timedelta(hours=1)
# Of the youngest block, which has no end yet. Not null, so that it is unique: of two processes that
# cut the ids at once, one is refused.
NO_END = 2**63 - 1


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A range of ids: what was created in one hour."""

    first_id: int
    last_id: int  # NO_END: as many as there are
    hour: datetime  # of creation
    held: int = 0  # receipts when it was last counted
    final: int = 0  # of them delivered, failed or unknown
    open: int = 0  # of them awaited or pending
    counted_at: datetime | None = None  # None: not yet

    @property
    def has_end(self) -> bool:
        """Whether no receipt is added to it any more."""
        return self.last_id != NO_END


class Freshness(msgspec.Struct, frozen=True):
    """How far the counting has come."""

    as_of: datetime | None  # the keeper's last look; None: it has not begun
    # Of the receipts' ids, how much is counted, 0 to 1: less while a table that was there before is
    # counted for the first time.
    share: float


def hour_of(time: datetime) -> datetime:
    """Return the full hour (UTC) that `time` is in."""
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def blocks(connection: Connection, since: datetime) -> list[Block]:
    """Return the blocks created in the hour of `since` or later, newest first."""
    query = select(rollup_blocks).where(rollup_blocks.c.hour >= hour_of(since))
    rows = connection.execute(query.order_by(rollup_blocks.c.first_id.desc()))
    return [_block(row) for row in rows]


def uncounted(connection: Connection) -> Block | None:
    """Return the youngest block that was never counted, whatever its age; None if there is none."""
    query = select(rollup_blocks).where(rollup_blocks.c.counted_at.is_(None))
    row = connection.execute(query.order_by(rollup_blocks.c.first_id.desc()).limit(1)).first()
    return None if row is None else _block(row)


def block_above(connection: Connection, settled: datetime) -> tuple[Block | None, Block] | None:
    """Return the youngest block with its end, and the block that follows it, if what was created
    before `settled` asks for one; the first block of all has none before it. None: all is well."""
    newest = _outermost(connection, youngest=True)
    if newest is None:
        last = connection.scalar(select(func.max(receipts.c.id)))
        if last is None:
            return None
        hour = hour_of(_created(connection, last) or settled)
        lowest = connection.scalar(select(func.min(receipts.c.id))) or 0
        first = last_id_before(connection, receipts, hour, above=lowest - 1, until=last) + 1
        return None, Block(first_id=first, last_id=NO_END, hour=hour)
    end = newest.hour + HOUR
    if settled < end:
        return None
    last = connection.scalar(select(func.max(receipts.c.id)))
    if last is None or last < newest.first_id:
        return None
    # One id at least, though its receipt may be gone: a range that is empty is nobody's.
    ended = last_id_before(connection, receipts, end, above=newest.first_id - 1, until=last)
    boundary = max(ended, newest.first_id)
    created = _created(connection, boundary + 1)
    if created is None:
        return None
    closed = msgspec.structs.replace(newest, last_id=boundary)
    return closed, Block(first_id=boundary + 1, last_id=NO_END, hour=max(hour_of(created), end))


def block_below(connection: Connection) -> Block | None:
    """Return the block that ends where the oldest one begins; None if all ids are in blocks."""
    oldest = _outermost(connection, youngest=False)
    if oldest is None:
        return None
    ids = receipts.c.id
    last = connection.execute(
        select(ids, receipts.c.created_at)
        .where(ids < oldest.first_id)
        .order_by(ids.desc())
        .limit(1)
    ).first()
    if last is None:
        return None
    lowest = connection.scalar(select(func.min(ids))) or 0
    hour = min(hour_of(last.created_at), oldest.hour)
    before = last_id_before(connection, receipts, hour, above=lowest - 1, until=last.id)
    first = min(before + 1, last.id)
    return Block(first_id=first, last_id=oldest.first_id - 1, hour=hour)


def add(connection: Connection, closed: Block | None, block: Block) -> bool:
    """Write a new block, and the end of the one before it. Returns False, having written nothing,
    if somebody else did. Raises the driver's errors, also if somebody does at this moment."""
    if closed is not None:
        open_end = (rollup_blocks.c.first_id == closed.first_id) & (
            rollup_blocks.c.last_id == NO_END
        )
        # What it was known to hold may now be the next one's.
        shrunk = {"last_id": closed.last_id, "final": 0, "counted_at": None}
        ended = update(rollup_blocks).where(open_end).values(shrunk)
        if not connection.execute(ended).rowcount:
            return False
    connection.execute(insert(rollup_blocks).values(msgspec.structs.asdict(block)))
    return True


def looked(connection: Connection, now: datetime) -> None:
    """Note on the youngest block that the keeper is at work. Raises the driver's errors."""
    youngest = rollup_blocks.c.last_id == NO_END
    connection.execute(update(rollup_blocks).where(youngest).values(looked_at=now))


def freshness(connection: Connection) -> Freshness:
    """Return how far the counting has come; a handful of probes."""
    newest = _outermost(connection, youngest=True)
    low = connection.scalar(select(func.min(receipts.c.id)))
    high = connection.scalar(select(func.max(receipts.c.id)))
    if newest is None or low is None or high is None:
        return Freshness(None, 1.0 if low is None else 0.0)
    as_of = connection.scalar(
        select(rollup_blocks.c.looked_at).where(rollup_blocks.c.first_id == newest.first_id)
    )
    # Newest first: what is below the lowest counted block is not counted yet.
    first = rollup_blocks.c.first_id
    counted = select(first).where(rollup_blocks.c.counted_at.is_not(None))
    reached = connection.scalar(counted.order_by(first).limit(1))
    if reached is None:
        return Freshness(as_of, 0.0)
    share = 1.0 if reached <= low else (high - reached + 1) / (high - low + 1)
    return Freshness(as_of, max(0.0, min(share, 1.0)))


def _outermost(connection: Connection, *, youngest: bool) -> Block | None:
    first = rollup_blocks.c.first_id
    order = first.desc() if youngest else first.asc()
    row = connection.execute(select(rollup_blocks).order_by(order).limit(1)).first()
    return None if row is None else _block(row)


def _block(row: Row[Any]) -> Block:
    names = Block.__struct_fields__
    return Block(**{name: getattr(row, name) for name in names})


def _created(connection: Connection, from_id: int) -> datetime | None:
    ids = receipts.c.id
    query = select(receipts.c.created_at).where(ids >= from_id).order_by(ids).limit(1)
    created: datetime | None = connection.scalar(query)
    return created
