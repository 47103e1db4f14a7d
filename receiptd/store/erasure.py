"""Rows about one person: changed or deleted a few at a time, and the record of having done so.

What is to become of a row, the caller says (`Decide`); here is how it becomes so on each database.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import Column, Connection, Row, Table, delete, insert, select, update

from receiptd.store import schema
from receiptd.store.schema import erasures

TableName: TypeAlias = Literal["receipts", "uplinks", "journal", "outbox", "notices"]

# Rows per transaction: some milliseconds of the writer's lock.
STEP_ROWS = 200
_READ_BYTES = 1 << 20


class Deleted(msgspec.Struct, frozen=True):
    """The row goes."""


# What becomes of a row: new values, or nothing of it is left; None if it is nobody's business.
Change: TypeAlias = Mapping[str, Any] | Deleted | None
Decide: TypeAlias = Callable[[Row[Any]], Change]


class Plan(msgspec.Struct, frozen=True):
    """What is looked at in a table. Every column that may name a person is among `columns`."""

    name: TableName
    columns: tuple[Column[Any], ...]  # beside the id
    decide: Decide

    @property
    def table(self) -> Table:
        return schema.metadata.tables[self.name]


def begin(
    connection: Connection, *, phone_hint: str, because: str | None, asked_by: str, now: datetime
) -> int:
    """Record that an erasure was asked for; return its id. `phone_hint` is masked already."""
    row = {"phone_hint": phone_hint, "because": because, "asked_by": asked_by, "asked_at": now}
    made = connection.execute(insert(erasures).values(row)).inserted_primary_key
    assert made is not None
    return int(made[0])


def apply(connection: Connection, plan: Plan, ids: Sequence[int], erasure: int) -> int:
    """Change the rows `ids` as `plan` says, and count them in the record; return how many.

    They are read again, under their locks: others write to the same rows.
    """
    _overwrite_deleted(connection)
    table = plan.table
    some = select(table.c.id, *plan.columns).where(table.c.id.in_(ids)).order_by(table.c.id)
    changed = 0
    for row in connection.execute(some.with_for_update()).all():
        change = plan.decide(row)
        if change is None:
            continue
        if isinstance(change, Deleted):
            connection.execute(delete(table).where(table.c.id == row.id))
        else:
            connection.execute(update(table).where(table.c.id == row.id).values(dict(change)))
        changed += 1
    counted = {plan.name: erasures.c[plan.name] + changed}
    connection.execute(update(erasures).where(erasures.c.id == erasure).values(counted))
    return changed


def finish(connection: Connection, erasure: int, now: datetime) -> None:
    """Record that all of it is done."""
    connection.execute(update(erasures).where(erasures.c.id == erasure).values(finished_at=now))


def settle_file(connection: Connection, *, vacuum: bool) -> bool:
    """Let SQLite's log go, with the pages as they were; with `vacuum`, write the file anew first.

    Returns False if somebody reads the log at this moment, so that it stays. On a server there is
    nothing to do. Ends the transaction that it is called in, and leaves an empty one.
    """
    raw = connection.connection.dbapi_connection
    if not isinstance(raw, sqlite3.Connection):
        return True
    raw.execute("COMMIT")  # neither is allowed in a transaction
    if vacuum:
        raw.execute("VACUUM")
    busy, *_ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    raw.execute("BEGIN")
    return not busy


def has_traces(connection: Connection, digits: bytes) -> bool:
    """Return whether `digits` stand anywhere in SQLite's file or its log, be it in no row any more;
    False on a server. Raises OSError."""
    if connection.dialect.name != "sqlite":
        return False
    (file,) = (row[2] for row in connection.exec_driver_sql("PRAGMA database_list") if row[0] == 0)
    return any(_holds(Path(name), digits) for name in (file, f"{file}-wal"))


def _overwrite_deleted(connection: Connection) -> None:
    # Builds of SQLite differ in whether what was deleted is overwritten or only let go of.
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")


def _holds(file: Path, digits: bytes) -> bool:
    if not file.exists():
        return False
    with file.open("rb") as stream:
        tail = b""
        while block := stream.read(_READ_BYTES):
            if digits in tail + block:
                return True
            tail = block[-len(digits) :]
    return False
