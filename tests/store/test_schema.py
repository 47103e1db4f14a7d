"""The declared tables: their types mean the same on every database."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import StatementError
from sqlalchemy.schema import CreateTable

from receiptd.store import Store
from receiptd.store.schema import leases, metadata, receipts
from receiptd.store.types import UTC as UtcType
from receiptd.store.types import sqlite_time
from tests.store.store_samples import NOON, Database, entries, receipt

DIALECTS = {
    "sqlite": sqlite.dialect(),
    "postgresql": postgresql.dialect(),
    "mysql": mysql.dialect(),
}


def test_the_tables_are_those_of_the_design() -> None:
    assert set(metadata.tables) == {
        "receipts", "journal", "uplinks", "notices", "audits", "progress", "outbox", "leases",
        "erasures", "rollup_blocks", "rollups",
    }  # fmt: skip


def ddl(name: str) -> str:
    return str(CreateTable(receipts).compile(dialect=DIALECTS[name]))


def test_text_is_compared_byte_for_byte_on_every_database() -> None:
    assert 'biz_id VARCHAR(128) COLLATE "C" NOT NULL' in ddl("postgresql")
    assert "biz_id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin" in ddl("mysql")
    assert "biz_id VARCHAR(128) NOT NULL" in ddl("sqlite")


def test_mariadb_has_its_own_name_for_the_collation_that_does_not_pad() -> None:
    mariadb = mysql.dialect()
    mariadb.is_mariadb = True

    assert "COLLATE utf8mb4_nopad_bin" in str(CreateTable(receipts).compile(dialect=mariadb))


def test_times_keep_their_microseconds_on_every_database() -> None:
    assert "reported_at TIMESTAMP WITH TIME ZONE" in ddl("postgresql")
    assert "reported_at DATETIME(6)" in ddl("mysql")
    assert "reported_at DATETIME" in ddl("sqlite")


def test_ids_have_64_bits_on_every_database() -> None:
    assert "id BIGSERIAL NOT NULL" in ddl("postgresql")
    assert "id BIGINT NOT NULL AUTO_INCREMENT" in ddl("mysql")
    assert "id INTEGER NOT NULL" in ddl("sqlite")


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mysql"])
def test_every_table_compiles_on_every_database(name: str) -> None:
    for table in metadata.tables.values():
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=DIALECTS[name]))


@pytest.mark.parametrize(
    "time",
    [
        datetime(2026, 1, 1, 20, 0, 0, 5, tzinfo=timezone(timedelta(hours=8))),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_a_time_goes_in_with_any_offset_and_comes_out_in_utc(store: Store, time: datetime) -> None:
    with store._engines.writer.begin() as connection:
        connection.execute(insert(leases).values(name="n", holder="h", until=time))
        back = connection.scalar(select(leases.c.until))

    assert back == time
    assert back is not None
    assert back.tzinfo is UTC


def test_core_and_the_hot_path_write_the_same_time(store: Store, database: Database) -> None:
    store.save(entries(receipt(sent_at=NOON, reported_at=None)))
    with store._engines.writer.begin() as connection:
        same = connection.scalar(select(receipts.c.id).where(receipts.c.sent_at == NOON))
        connection.execute(update(receipts).values(reported_at=NOON))

    assert same is not None
    assert database.query("SELECT count(*) FROM receipts WHERE sent_at = reported_at") == [(1,)]


def test_a_time_without_offset_is_refused(store: Store) -> None:
    naive = datetime(2026, 1, 1)

    with pytest.raises(ValueError, match="offset"):
        store._dialect.time(naive)
    with (
        store._engines.writer.begin() as connection,
        pytest.raises(StatementError, match="offset"),
    ):
        connection.execute(insert(leases).values(name="n", holder="h", until=naive))


KEYS = ["k", "K", "k ", " k", "e", "é", "e\u0301", "ß", "ss", "ｋ", "😀", "\uffff"]


def test_identities_are_told_apart_and_sorted_by_their_bytes(store: Store) -> None:
    with store._engines.writer.begin() as connection:
        for name in KEYS:
            connection.execute(insert(leases).values(name=name, holder="h", until=NOON))
        told = connection.scalars(select(leases.c.name).order_by(leases.c.name)).all()

    # Code points, which is what Python sorts by: all writers lock rows in this one order.
    assert told == sorted(KEYS)


def test_the_order_of_stored_times_is_the_order_of_the_times() -> None:
    times = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(999, 12, 31, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ]

    assert [sqlite_time(one) for one in times] == sorted(map(sqlite_time, times))
    assert {len(sqlite_time(one)) for one in times} == {26}


def test_on_postgresql_a_time_stays_aware() -> None:
    bound = UtcType().process_bind_param(datetime(2026, 1, 1, tzinfo=UTC), DIALECTS["postgresql"])

    assert bound is not None
    assert bound.tzinfo is UTC
