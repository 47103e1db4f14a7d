"""What each instance says about its sources, so that `status` works from anywhere."""

from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, insert, select, update

from receiptd.store.schema import progress


class ProgressCounts(Protocol):
    """What one source has done since its instance's start."""

    @property
    def pulled(self) -> int: ...
    @property
    def redelivered(self) -> int: ...
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
    def last_pull_at(self) -> datetime | None: ...
    @property
    def last_commit_at(self) -> datetime | None: ...


_FIELDS = (
    "pulled", "redelivered", "records", "changed", "quarantined", "acked", "ack_expired",
    "ack_failed", "last_pull_at", "last_commit_at",
)  # fmt: skip


def record(
    connection: Connection, instance: str, source: str, counts: ProgressCounts, now: datetime
) -> None:
    """Write the one row of (instance, source). Raises the driver's errors."""
    values = {name: getattr(counts, name) for name in _FIELDS} | {"updated_at": now}
    row = (progress.c.instance == instance) & (progress.c.source == source)
    # No upsert: nobody else writes an instance's rows. Looked for, because MySQL does not count a
    # row that was the same already.
    if (
        not connection.execute(update(progress).where(row).values(values)).rowcount
        and connection.scalar(select(progress.c.instance).where(row)) is None
    ):
        connection.execute(insert(progress).values(instance=instance, source=source, **values))
