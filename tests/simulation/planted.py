"""receiptd with bugs in it, planted to see that the simulation finds each of them."""

from collections.abc import Sequence
from functools import cache

from sqlalchemy import Connection

from receiptd.config.settings import ReconcileSettings
from receiptd.errors import StoreUnavailable
from receiptd.model import Entry
from receiptd.pipeline import Saver
from receiptd.reconcile.schedule import Schedule, schedule
from receiptd.store import SaveResult, Store
from receiptd.store.dialects.base import Dialect
from receiptd.store.dialects.sqlite import SqliteDialect
from receiptd.store.rows import RECEIPTS, Row
from tests.simulation.process import Build


class AckBeforeCommit(Build):
    """A batch is said to be durable, and acked, before it is: it is written with the next one."""

    def saver(self, store: Store) -> Saver:
        return _WriteBehind(store)


class BatchLostAfterAnOutage(Build):
    """A batch whose transaction failed is taken for stored when it is tried again."""

    def saver(self, store: Store) -> Saver:
        return _NoSecondTry(store)


class RowLostInABatch(Build):
    """Of three rows and more in one transaction the last is forgotten; the journal has it."""

    def dialect(self, name: str) -> Dialect:
        return _Forgetful()


class LastWriteWins(Build):
    """The merge takes whatever came last; nulls do not erase, so that in order all is well."""

    def dialect(self, name: str) -> Dialect:
        return _LastWriteWins()


class LostTooEarly(Build):
    """A send is given up three days before the provider forgets it."""

    def schedule(self) -> Schedule:
        return schedule(ReconcileSettings(window_days=27))


class _WriteBehind:
    def __init__(self, store: Saver) -> None:
        self._store = store
        self._behind: list[Entry] = []

    def save(self, entries: Sequence[Entry]) -> SaveResult:
        result = self._store.save(self._behind)
        self._behind = list(entries)
        return result


class _NoSecondTry:
    def __init__(self, store: Saver) -> None:
        self._store = store
        self._failed: Sequence[Entry] = ()

    def save(self, entries: Sequence[Entry]) -> SaveResult:
        bodies = [entry.body for entry in entries]
        if self._failed and bodies == [entry.body for entry in self._failed]:
            self._failed = ()
            return SaveResult(changed=len(entries), unchanged=0)
        try:
            return self._store.save(entries)
        except StoreUnavailable:
            self._failed = entries
            raise


class _Forgetful(SqliteDialect):
    def upsert_receipts(self, connection: Connection, rows: Sequence[Row]) -> int:
        return super().upsert_receipts(connection, rows[:2])


class _LastWriteWins(SqliteDialect):
    def upsert_receipts(self, connection: Connection, rows: Sequence[Row]) -> int:
        return connection.exec_driver_sql(_upsert(), list(rows)).rowcount


@cache
def _upsert() -> str:
    identity = ["biz_id", "phone", "provider", "account"]
    columns = ", ".join(RECEIPTS)
    marks = ", ".join("?" for _ in RECEIPTS)
    newer = ", ".join(
        f"{name} = coalesce(excluded.{name}, {name})" for name in RECEIPTS if name not in identity
    )
    return (
        f"INSERT INTO receipts ({columns}) VALUES ({marks})"
        f" ON CONFLICT ({', '.join(identity)}) DO UPDATE SET {newer}, next_query_at ="
        " CASE WHEN excluded.status IN ('awaited', 'pending') THEN next_query_at END"
    )
