"""Entries, receipts and databases for the store's tests."""

import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

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


def open_new(
    path: Path,
    clock: Clock | None = None,
    *,
    trace: Callable[[str], None] = lambda point: None,
    on_commit: Callable[[float, int, int], None] = lambda seconds, batches, entries: None,
) -> Store:
    """A store with its schema; the caller closes it."""
    store = open_store(
        f"sqlite:///{path}", clock or ManualClock(), trace=trace, on_commit=on_commit
    )
    store.upgrade()
    return store


def query(path: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Ask the file behind the store's back."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


def row(path: Path, table: str = "receipts") -> dict[str, Any]:
    """The only row of a table."""
    names = [name for _, name, *_ in query(path, f"PRAGMA table_info({table})")]
    (values,) = query(path, f"SELECT * FROM {table}")
    return dict(zip(names, values, strict=True))


def count(path: Path, table: str = "receipts") -> int:
    return int(query(path, f"SELECT count(*) FROM {table}")[0][0])
