"""MySQL's and MariaDB's own: limits of a session, durability, and which error means what."""

from typing import Any

import pymysql
import pytest
from sqlalchemy.exc import DBAPIError

from receiptd.clock import ManualClock
from receiptd.errors import ConfigError, StoreRejected, StoreUnavailable
from receiptd.store import Store, open_store
from receiptd.store.dialects import mysql as dialect_module
from receiptd.store.dialects.mysql import MysqlDialect
from tests.databases import MARIADB
from tests.store.store_samples import Database, entries, entry, receipt, uplink

pytestmark = pytest.mark.parametrize("database", [MARIADB], indirect=True)
DIALECT = MysqlDialect()


def show(store: Store, *names: str, reader: bool = False) -> list[Any]:
    engine = store._engines.reader if reader else store._engines.writer
    with engine.begin() as connection:
        query = "SELECT " + ", ".join(f"@@SESSION.{name}" for name in names)
        return list(connection.exec_driver_sql(query).one())


def test_a_session_has_our_limits_whatever_the_servers_are(store: Store) -> None:
    assert show(
        store,
        "innodb_lock_wait_timeout",
        "lock_wait_timeout",
        "max_statement_time",
        "idle_transaction_timeout",
    ) == [3, 3, 10, 30]
    assert show(store, "time_zone", "character_set_client", "tx_isolation") == [
        "+00:00", "utf8mb4", "READ-COMMITTED"
    ]  # fmt: skip
    assert "STRICT_ALL_TABLES" in show(store, "sql_mode")[0]
    with store._engines.writer.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        assert (raw._read_timeout, raw._write_timeout, raw.connect_timeout) == (12, 10, 5)


def test_a_reading_session_cannot_write_and_sees_one_moment(store: Store) -> None:
    assert show(store, "tx_isolation", "tx_read_only", reader=True) == ["REPEATABLE-READ", 1]


@pytest.mark.parametrize("scheme", ["mysql", "mysql+pymysql", "mariadb", "mariadb+pymysql"])
def test_all_spellings_of_an_address_are_pymysqls(database: Database, scheme: str) -> None:
    store = open_store(f"{scheme}://{database.url.partition('://')[2]}", ManualClock())

    store.upgrade()
    assert store.save(entries(receipt())).changed == 1
    store.close()


def test_the_tables_are_transactional_and_compare_bytes_whatever_the_default(
    store: Store, database: Database
) -> None:
    engines = database.query(
        "SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = DATABASE()"
    )
    collations = database.query(
        "SELECT DISTINCT collation_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND data_type = 'varchar'"
        " AND table_name <> 'alembic_version'"
    )

    assert engines == [("InnoDB",)]
    assert collations == [("utf8mb4_nopad_bin",)]


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (("10.11.6-MariaDB-log", 2, 0, 0), ["2"]),
        (("8.0.36", 0, 1, 1000), ["0", "1000"]),
        (("8.0.36", 1, 1, 0), ["0"]),
        (("5.7.44-log", 1, 0, 1), ["5.7.44-log"]),
        (("8.0.16", 1, 0, 1), ["8.0.16"]),
        (("5.5.5-10.5.9-MariaDB", 1, 0, 1), ["5.5.5-10.5.9-MariaDB"]),
        (("5.5.5-10.11.6-MariaDB", 1, 0, 1), []),
        (("11.4.2-MariaDB", 3, 1, 1), []),
        (("8.4.0", 1, 1, 1), []),
        (("9.1.0-cloud", 1, 0, 0), []),
    ],
)
def test_a_server_that_does_not_wait_for_its_disk_or_is_too_old_is_a_problem(
    database: Database, facts: tuple[str, int, int, int], told: list[str]
) -> None:
    problems = dialect_module._refusals(*facts)

    assert [problem.value for problem in problems] == told
    assert all(problem.cure for problem in problems)


def test_a_server_that_does_not_wait_for_its_disk_is_refused_when_it_is_connected_to(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The setting is the whole server's, which is not ours to change.
    monkeypatch.setattr(dialect_module, "_FACTS", "SELECT VERSION(), 2, 0, 0")
    store = database.open(upgrade=False)

    assert "innodb_flush_log_at_trx_commit" in store.problems()[0].rule
    with pytest.raises(ConfigError, match=r"innodb_flush_log_at_trx_commit \(is: 2\); SET GLOBAL"):
        store.save(entries(receipt()))
    store.close()


def test_a_password_plugin_that_needs_a_package_names_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(**parameters: object) -> None:
        raise RuntimeError("'cryptography' package is required for sha256_password …")

    store = database.open(upgrade=False)

    with monkeypatch.context() as patched:
        patched.setattr(pymysql, "connect", connect)
        with pytest.raises(ConfigError, match=r"pip install 'receiptd\[mysql\]'"):
            store.save(entries(receipt()))
    store.close()


def test_a_wrong_database_or_user_is_unavailable_and_named(database: Database) -> None:
    for url, match in (
        (database.url + "_not", "no such database"),
        (database.url.replace("root@", "stranger:tiger@"), "refused the user"),
    ):
        store = open_store(url, ManualClock())

        with pytest.raises(StoreUnavailable, match=match) as caught:
            store.problems()

        assert "tiger" not in str(caught.value)
        store.close()


def test_a_batch_larger_than_a_statement_is_written_and_counted_in_parts(
    store: Store, database: Database
) -> None:
    many = [receipt(f"{number:04}") for number in range(600)]
    store.save(entries(*many[:100]))

    assert store.save(entries(*many)).changed == 500
    assert store.save(entries(receipt("0000", err_msg="重投"), *many)).changed == 1
    assert store.save(entries(*(uplink(str(number)) for number in range(600)))).changed == 600
    assert (database.count(), database.count("uplinks")) == (600, 600)


def test_bodies_larger_together_than_a_packet_are_stored(store: Store, database: Database) -> None:
    body = b"\xff" * 65536  # in base64

    store.save([entry(None, body=body) for _ in range(256)])

    assert database.count("journal") == 256


@pytest.mark.parametrize("text", ["'", "\\", "%s", "%(a)s", "\\'; DROP TABLE receipts; --", "\x1a"])
def test_what_looks_like_sql_is_text(store: Store, database: Database, text: str) -> None:
    store.save(entries(receipt(text, err_msg=text), uplink(text, content=text)))

    assert database.row()["biz_id"] == text
    assert database.row("uplinks")["content"] == text


def error(number: int) -> pymysql.Error:
    try:
        pymysql.err.raise_mysql_exception(
            b"\xff" + number.to_bytes(2, "little") + b"#HY000text with +8613987654321"
        )
    except pymysql.Error as exc:
        return exc
    raise AssertionError


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (1020, "in the way"),
        (1040, "max_connections"),
        (1045, "password"),
        (1049, "create it"),
        (1053, "shuts down"),
        (1114, "make room"),
        (1142, "GRANT"),
        (1146, "db upgrade"),
        (1205, "lock"),
        (1213, "in the way"),
        (1290, "read-only"),
        (1665, "binlog_format"),
        (1927, "ended"),
        (1969, "too long"),
        (2013, "connection"),
        (3024, "too long"),
        (1064, "db upgrade"),
        (1815, "failed"),
    ],
)
def test_the_servers_own_troubles_make_it_unavailable(
    database: Database, number: int, cure: str
) -> None:
    translated = DIALECT.translate(DBAPIError("INSERT", {}, error(number)))

    assert isinstance(translated, StoreUnavailable)
    assert str(number) in str(translated)
    assert cure in str(translated)
    assert "139" not in str(translated)


@pytest.mark.parametrize(
    "cause",
    [
        *map(error, (1048, 1062, 1264, 1292, 1364, 1366, 1406, 1644, 3819, 4025)),
        pymysql.DataError("+8613987654321"),
        TypeError("+8613987654321"),
        UnicodeEncodeError("utf-8", "+8613987654321\ud800", 14, 15, "surrogates not allowed"),
    ],
)
def test_a_rows_data_makes_it_rejected(database: Database, cause: Exception) -> None:
    translated = DIALECT.translate(cause)

    assert isinstance(translated, StoreRejected)
    assert "139" not in str(translated)


def test_a_lock_that_is_held_too_long_is_no_deadlock(database: Database) -> None:
    assert not DIALECT.is_deadlock(error(1205))
    assert DIALECT.is_deadlock(error(1213))


def test_a_bug_is_no_word_of_the_database(database: Database) -> None:
    assert DIALECT.translate(LookupError("a bug")) is None
