"""PostgreSQL's own: limits of a session, durability, and which error means what."""

from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from receiptd.clock import ManualClock
from receiptd.errors import ConfigError, StoreRejected, StoreUnavailable
from receiptd.store import Store, open_store
from receiptd.store.dialects import postgresql as dialect_module
from receiptd.store.dialects.postgresql import PostgresqlDialect
from tests.databases import POSTGRESQL
from tests.databases import postgresql as server
from tests.store.store_samples import Database, entries, entry, receipt

pytestmark = pytest.mark.parametrize("database", [POSTGRESQL], indirect=True)
DIALECT = PostgresqlDialect()


def show(store: Store, *names: str, reader: bool = False) -> list[Any]:
    engine = store._engines.reader if reader else store._engines.writer
    with engine.begin() as connection:
        return [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]


def test_a_session_has_our_limits_whatever_the_servers_are(store: Store) -> None:
    assert show(
        store, "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"
    ) == ["3s", "10s", "30s"]
    assert show(store, "timezone", "client_encoding") == ["UTC", "UTF8"]
    with store._engines.writer.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, psycopg.Connection)
        told = raw.info.get_parameters() | {"timeout": raw.pgconn.info and ""}
    assert told["tcp_user_timeout"] == "12000"
    assert told["application_name"] == "receiptd"


def test_a_limit_in_the_address_is_kept(database: Database) -> None:
    store = open_store(f"{database.url}?application_name=mine&connect_timeout=2", ManualClock())

    assert show(store, "application_name") == ["mine"]
    store.close()


def test_a_reading_session_cannot_write_and_sees_one_moment(store: Store) -> None:
    isolation, is_read_only = show(
        store, "transaction_isolation", "transaction_read_only", reader=True
    )

    assert (isolation, is_read_only) == ("repeatable read", "on")


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_both_spellings_of_an_address_are_psycopgs(database: Database, scheme: str) -> None:
    store = open_store(f"{scheme}://{database.url.partition('://')[2]}", ManualClock())

    store.upgrade()
    assert store.save(entries(receipt())).changed == 1
    store.close()


def test_a_database_that_does_not_wait_for_its_disk_is_refused_with_a_cure(
    database: Database,
) -> None:
    database.open().close()
    name = database.url.rpartition("/")[2]
    server().execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = database.open(upgrade=False)

    (problem,) = store.problems()
    with pytest.raises(ConfigError, match=r"synchronous_commit \(is: off\); ALTER DATABASE"):
        store.save(entries(receipt()))

    assert (problem.place, problem.value) == ("database.url", "off")
    server().execute(f"ALTER DATABASE {name} SET synchronous_commit = local")
    assert store.problems() == []
    store.close()


def test_a_server_without_fsync_an_old_one_and_a_wrong_encoding_are_problems(
    database: Database,
) -> None:
    problems = dialect_module._refusals("on", "off", "LATIN1", "120020")

    assert [problem.value for problem in problems] == ["off", "LATIN1", "120020"]
    assert all(problem.cure for problem in problems)


def test_a_database_in_another_encoding_is_refused(database: Database) -> None:
    name = database.url.rpartition("/")[2] + "_latin1"
    server().execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1'")
    store = open_store(server().url(name), ManualClock())

    with pytest.raises(ConfigError, match=r"not in UTF-8 \(is: LATIN1\)"):
        store.upgrade()

    store.close()
    server().execute(f"DROP DATABASE {name}")


def test_a_wrong_database_or_user_is_unavailable_and_named(database: Database) -> None:
    for url, match in (
        (database.url + "_not", "no such database"),
        (database.url.replace("postgres@", "stranger:tiger@"), "or user"),
    ):
        store = open_store(url, ManualClock())

        with pytest.raises(StoreUnavailable, match=match) as caught:
            store.problems()

        assert "tiger" not in str(caught.value)
        store.close()


def test_a_batch_too_large_for_one_parameter_is_written_in_parts(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialect_module, "_PAYLOAD_BYTES", 2000)
    many = [receipt(f"{number}") for number in range(50)]

    assert store.save(entries(*many)).changed == 50
    assert (database.count(), database.count("journal")) == (50, 50)
    assert store.save([entry(None, body=b"x" * 5000)]).changed == 0


def error(code: str) -> psycopg.Error:
    return psycopg.errors.lookup(code)("text with +8613987654321")


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        ("08006", "connection"),
        ("25006", "read-only"),
        ("28P01", "password"),
        ("3D000", "create it"),
        ("40P01", "in the way"),
        ("42501", "GRANT"),
        ("42P01", "db upgrade"),
        ("42703", "db upgrade"),
        ("53100", "make room"),
        ("53300", "max_connections"),
        ("55P03", "lock"),
        ("57014", "too long"),
        ("57P01", "shuts down"),
        ("57P03", "starts"),
        ("58030", "disk"),
        ("XX001", "damaged"),
        ("54000", "failed"),
    ],
)
def test_the_servers_own_troubles_make_it_unavailable(
    database: Database, code: str, cure: str
) -> None:
    translated = DIALECT.translate(DBAPIError("INSERT", {}, error(code)))

    assert isinstance(translated, StoreUnavailable)
    assert code in str(translated)
    assert cure in str(translated)
    assert "139" not in str(translated)


@pytest.mark.parametrize(
    "cause",
    [
        error("22001"),
        error("22P05"),
        error("23502"),
        error("23505"),
        error("P0001"),
        psycopg.DataError("+8613987654321"),
        psycopg.ProgrammingError("cannot adapt +8613987654321"),
        UnicodeEncodeError("utf-8", "+8613987654321\ud800", 14, 15, "surrogates not allowed"),
    ],
)
def test_a_rows_data_makes_it_rejected(database: Database, cause: Exception) -> None:
    translated = DIALECT.translate(cause)

    assert isinstance(translated, StoreRejected)
    assert "139" not in str(translated)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ('FATAL:  password authentication failed for user "me"', "refused the user"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', "refused the user"),
        ("FATAL:  sorry, too many clients already, or too many connections", "max_connections"),
        ("FATAL:  the database system is starting up", "starts"),
        ("Connection refused", "nobody listens"),
        ("could not translate host name", "name is unknown"),
        ("connection timeout expired", "in time"),
        ("server closed the connection unexpectedly", "connection failed"),
    ],
)
def test_a_connection_that_fails_without_a_code_is_told_in_our_words(
    database: Database, said: str, hint: str
) -> None:
    translated = DIALECT.translate(psycopg.OperationalError(said))

    assert isinstance(translated, StoreUnavailable)
    assert hint in str(translated)
    assert "me" not in str(translated).split()


def test_a_bug_is_no_word_of_the_database(database: Database) -> None:
    assert DIALECT.translate(LookupError("a bug")) is None
