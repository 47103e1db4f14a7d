"""The database's side of an erasure: what changes, what is recorded, what SQLite's file keeps."""

import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from receiptd.store import Store, erasure
from receiptd.store.erasure import Change, Deleted, Plan
from receiptd.store.schema import erasures, receipts
from tests.store.store_samples import NOON, Database, entries, open_new, query, receipt

TABLES = ("receipts", "uplinks", "journal", "outbox", "notices")
MARK = "13900000001"


def begun(store: Store) -> int:
    with store.writing() as connection:
        return erasure.begin(
            connection, phone_hint="139****0001", because=None, asked_by="root", now=NOON
        )


DELETED = Deleted()


def plan(*victims: str, change: Change = DELETED) -> Plan:
    def decide(row: Any) -> Change:
        return change if row.biz_id in victims else None

    return Plan("receipts", (receipts.c.biz_id,), decide)


def ids(store: Store) -> list[int]:
    with store.reading() as connection:
        return list(connection.scalars(select(receipts.c.id).order_by(receipts.c.id)))


def test_an_erasure_is_recorded_from_its_beginning_to_its_end(
    store: Store, database: Database
) -> None:
    first, second = begun(store), begun(store)
    with store.writing() as connection:
        erasure.finish(connection, second, NOON)

    assert first != second
    (open_, done) = database.rows("erasures")
    assert (open_["finished_at"], done["finished_at"]) == (None, NOON)
    assert (open_["phone_hint"], open_["asked_by"], open_["asked_at"]) == (
        "139****0001",
        "root",
        NOON,
    )
    assert {open_[table.name] for table in erasures.columns if table.name in TABLES} == {0}


def test_rows_are_changed_deleted_or_left_and_counted(store: Store, database: Database) -> None:
    store.save(entries(*(receipt(str(number)) for number in range(4))))
    number = begun(store)

    with store.writing() as connection:
        assert erasure.apply(connection, plan("0", "1"), ids(store)[:3], number) == 2
    with store.writing() as connection:
        out_id: Change = {"out_id": None, "err_msg": "x"}
        assert erasure.apply(connection, plan("2", change=out_id), ids(store), number) == 1

    assert [(row["biz_id"], row["err_msg"]) for row in database.rows()] == [
        ("2", "x"),
        ("3", "用户接收成功"),
    ]
    assert database.row("erasures")["receipts"] == 3


def test_what_was_decided_is_decided_again_under_the_lock(store: Store, database: Database) -> None:
    store.save(entries(receipt("0")))
    (id_,) = ids(store)
    number = begun(store)
    database.query("UPDATE receipts SET biz_id = 'another'")

    with store.writing() as connection:
        assert erasure.apply(connection, plan("0"), [id_, id_ + 1], number) == 0

    assert database.row()["biz_id"] == "another"


def test_the_count_goes_with_the_rows(store: Store, database: Database) -> None:
    store.save(entries(receipt("0")))
    number = begun(store)

    def apply_and_fail() -> None:
        with store.writing() as connection:
            erasure.apply(connection, plan("0"), ids(store), number)
            raise LookupError

    with pytest.raises(LookupError):
        apply_and_fail()

    assert database.count() == 1
    assert database.row("erasures")["receipts"] == 0


def test_on_a_server_there_is_no_file_to_settle(store: Store, database: Database) -> None:
    store.save(entries(receipt("0")))

    with store.writing() as connection:
        assert erasure.settle_file(connection, vacuum=True)
    with store.reading() as connection:
        assert erasure.has_traces(connection, b"13900000001") == database.is_sqlite


def bytes_of(path: Path) -> bytes:
    return b"".join(
        file.read_bytes() for file in (path, path.with_name(path.name + "-wal")) if file.exists()
    )


def test_sqlites_log_goes_with_the_old_pages(path: Path) -> None:
    store = open_new(path)
    store.save(entries(*(receipt(str(number), err_msg=MARK, phone="1") for number in range(50))))
    number = begun(store)
    clean: Change = {"err_msg": None}
    with store.writing() as connection:
        erasure.apply(connection, plan(*map(str, range(50)), change=clean), ids(store), number)
    assert MARK.encode() in bytes_of(path)

    with store.writing() as connection:
        assert erasure.settle_file(connection, vacuum=False)

    assert MARK.encode() not in bytes_of(path)
    assert os.path.getsize(f"{path}-wal") == 0
    store.save(entries(receipt("51")))  # the connection is as before
    store.close()


def test_what_sqlite_let_go_of_before_goes_with_a_vacuum(path: Path) -> None:
    store = open_new(path)
    store.save(entries(*(receipt(str(number), err_msg=MARK, phone="1") for number in range(50))))
    with store.writing() as connection:
        for sql in ("PRAGMA secure_delete = OFF", "DELETE FROM receipts", "DELETE FROM journal"):
            connection.exec_driver_sql(sql)
    with store.writing() as connection:
        erasure.settle_file(connection, vacuum=False)
    with store.reading() as connection:
        assert erasure.has_traces(connection, MARK.encode())

    with store.writing() as connection:
        assert erasure.settle_file(connection, vacuum=True)

    with store.reading() as connection:
        assert not erasure.has_traces(connection, MARK.encode())
    assert MARK.encode() not in bytes_of(path)
    store.close()


def test_rows_are_overwritten_whatever_sqlites_default_is(path: Path) -> None:
    store = open_new(path)
    with store.writing() as connection:
        connection.exec_driver_sql("PRAGMA secure_delete = OFF")
    store.save(entries(receipt("0", err_msg=MARK, phone="1"), receipt("1", phone="1")))
    number = begun(store)

    with store.writing() as connection:
        erasure.apply(connection, plan("0"), ids(store), number)
    with store.writing() as connection:
        erasure.settle_file(connection, vacuum=False)

    assert MARK.encode() not in bytes_of(path)
    store.close()


def test_a_log_that_is_read_stays_and_that_is_said(path: Path) -> None:
    store = open_new(path)
    store.save(entries(receipt("0", err_msg=MARK)))
    with store.writing() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 10")

    with store.reading() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM receipts").scalar()
        store.save(entries(receipt("1")))
        with store.writing() as connection:
            assert not erasure.settle_file(connection, vacuum=False)

    assert query(path, "SELECT count(*) FROM receipts") == [(2,)]
    store.close()


def test_traces_are_found_across_blocks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "_READ_BYTES", 7)
    path.write_bytes(b"x" * 10 + MARK.encode() + b"y" * 10)

    assert erasure._holds(path, MARK.encode())
    assert not erasure._holds(path, b"13900000002")
    assert not erasure._holds(path.with_name("none"), MARK.encode())
