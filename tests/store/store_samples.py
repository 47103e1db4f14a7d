"""Entries, receipts and databases for the store's tests."""

import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import create_engine, select

from receiptd.clock import Clock, ManualClock
from receiptd.model import (
    Entry,
    Envelope,
    ErrClass,
    Kind,
    Notice,
    Origin,
    Outcome,
    Receipt,
    Record,
    Status,
    Uplink,
)
from receiptd.store import Store, open_store
from receiptd.store.schema import metadata
from tests.databases import SQLITE, ask

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BODY = '{"biz_id":"1^0","err_msg":"用户接收成功"}'.encode()
_KINDS: Mapping[type, Kind] = {
    Receipt: Kind.RECEIPT,
    Uplink: Kind.UPLINK,
    Notice: Kind.NOTICE,
    type(None): Kind.UNREADABLE,
}


def receipt(biz_id: str = "1^0", **fields: Any) -> Receipt:
    given: dict[str, Any] = {
        "provider": "aliyun",
        "account": "main",
        "biz_id": biz_id,
        "phone": "+8613900000001",
        "status": Status.DELIVERED,
        "origin": Origin.QUEUE,
        "err_code": "DELIVERED",
        "err_msg": "用户接收成功",
        "err_class": ErrClass.OK,
        "segments": 1,
        "sent_at": NOON,
        "reported_at": NOON + timedelta(seconds=2),
    }
    return Receipt(**(given | fields))


def uplink(sequence_id: str = "568000001", **fields: Any) -> Uplink:
    given: dict[str, Any] = {
        "provider": "aliyun",
        "account": "main",
        "phone": "+8613900000001",
        "content": "TD",
        "dest_code": "1",
        "sign_name": "【示例】",
        "sequence_id": sequence_id,
        "sent_at": NOON,
    }
    return Uplink(**(given | fields))


def notice(**fields: Any) -> Notice:
    given: dict[str, Any] = {
        "provider": "aliyun",
        "account": "main",
        "subject": "sign",
        "name": "示例",
        "status": "approved",
        "reason": None,
        "order_id": None,
        "created_at": NOON,
    }
    return Notice(**(given | fields))


def entry(record: Record | None, *, body: bytes = BODY, **fields: Any) -> Entry:
    envelope = Envelope(
        source="sms_report",
        envelope_id="5F290C926D472878-2-14D9529A8FA-200000001",
        body=body,
        handle="1-ODU4OTkzNDU5My0xNDMyNzI3ODI3LTItOA==",
        pull_count=1,
        enqueued_at=NOON,
    )
    given: dict[str, Any] = {
        "envelope": envelope,
        "part": 0,
        "body": body,
        "kind": _KINDS[type(record)],
        "outcome": Outcome.QUARANTINED if record is None else Outcome.STORED,
        "received_at": NOON,
        "record": record,
    }
    return Entry(**(given | fields))


def entries(*records: Record | None) -> list[Entry]:
    return [entry(record) for record in records]


def with_envelope(one: Entry, **fields: Any) -> Entry:
    return msgspec.structs.replace(one, envelope=msgspec.structs.replace(one.envelope, **fields))


def ignore_point(point: str) -> None:
    pass


def ignore_commit(seconds: float, batches: int, entries: int) -> None:
    pass


class Database:
    """A database of any kind, and what is in it, asked behind the store's back."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url

    @property
    def is_sqlite(self) -> bool:
        return self.kind == SQLITE

    def open(
        self,
        clock: Clock | None = None,
        *,
        trace: Callable[[str], None] = ignore_point,
        on_commit: Callable[[float, int, int], None] = ignore_commit,
        upgrade: bool = True,
    ) -> Store:
        """A store; the caller closes it."""
        store = open_store(self.url, clock or ManualClock(), trace=trace, on_commit=on_commit)
        if upgrade:
            store.upgrade()
        return store

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return ask(self.url, sql)

    def rows(self, table: str = "receipts") -> list[dict[str, Any]]:
        """All rows of a table, as the schema's types read them, in the order of the first key."""
        engine = create_engine(self.url)
        try:
            with engine.connect() as connection:
                what = metadata.tables[table]
                found = connection.execute(select(what).order_by(*what.primary_key.columns))
                return [dict(one) for one in found.mappings()]
        finally:
            engine.dispose()

    def row(self, table: str = "receipts") -> dict[str, Any]:
        """The only row of a table."""
        (found,) = self.rows(table)
        return found

    def count(self, table: str = "receipts") -> int:
        return int(self.query(f"SELECT count(*) FROM {table}")[0][0])

    def refuse(self, biz_id: str, text: str) -> None:
        """Have the database itself refuse receipts with this biz_id, in an error with this text."""
        when = f"WHEN (new.biz_id = '{biz_id}')"
        if self.kind == "sqlite":
            self.query(
                f"CREATE TRIGGER refuse BEFORE INSERT ON receipts {when}"
                f" BEGIN SELECT RAISE(ABORT, '{text}'); END"
            )
        elif self.kind == "postgresql":
            self.query(
                f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
                f" AS $$ BEGIN RAISE '{text}'; END $$"
            )
            self.query(
                f"CREATE TRIGGER refuse BEFORE INSERT ON receipts FOR EACH ROW {when}"
                " EXECUTE FUNCTION refuse()"
            )
        else:
            self.query(
                "CREATE TRIGGER refuse BEFORE INSERT ON receipts FOR EACH ROW"
                f" IF new.biz_id = '{biz_id}' THEN SIGNAL SQLSTATE '45000'"
                f" SET MESSAGE_TEXT = '{text}'; END IF"
            )


def open_new(
    path: Path,
    clock: Clock | None = None,
    *,
    trace: Callable[[str], None] = ignore_point,
    on_commit: Callable[[float, int, int], None] = ignore_commit,
) -> Store:
    """A store on a SQLite file, with its schema; the caller closes it."""
    return Database(SQLITE, f"sqlite:///{path}").open(clock, trace=trace, on_commit=on_commit)


def query(path: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Ask a SQLite file behind the store's back."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


def count(path: Path, table: str = "receipts") -> int:
    return int(query(path, f"SELECT count(*) FROM {table}")[0][0])
