"""The schema's history: complete, repeatable, and never half done."""

import io
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import UniqueConstraint, create_engine, event, inspect

from receiptd.errors import ConfigError, StoreUnavailable
from receiptd.store import Store, migrate
from receiptd.store.schema import metadata
from tests.databases import MARIADB, POSTGRESQL, SQLITE, fresh_url
from tests.row_counts import by_status
from tests.store.store_samples import Database, entries, open_new, query, receipt

HEAD = migrate.head()
HISTORY = sorted(migrate._revisions())


@pytest.fixture
def empty(database: Database) -> Iterator[Store]:
    """A store without a schema."""
    store = database.open(upgrade=False)
    yield store
    store.close()


def test_the_names_of_the_files_are_alembics_history() -> None:
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    history = [step.revision for step in scripts.walk_revisions()]

    assert history[::-1] == sorted(migrate._revisions())
    assert scripts.get_current_head() == HEAD


@pytest.mark.parametrize("is_new", [True, False])
def test_alembic_is_not_loaded_where_there_is_nothing_to_migrate(path: Path, is_new: bool) -> None:
    if not is_new:
        open_new(path).close()
    program = """
        import sys
        from receiptd.clock import ManualClock
        from receiptd.store import journal, open_store
        store = open_store("sqlite:///" + sys.argv[1], ManualClock())
        store.upgrade()
        assert store.problems() == []
        with store.reading() as connection:
            assert journal.by_reason(connection) == {}
        store.close()
        for heavy in ("alembic", "mako", "sqlalchemy.dialects.mysql", "psycopg", "pymysql"):
            assert heavy not in sys.modules, heavy
    """

    subprocess.run([sys.executable, "-c", textwrap.dedent(program), path], check=True, timeout=60)


@pytest.fixture
def migrated(empty: Store) -> Store:
    """A store whose schema Alembic made, step by step."""
    with empty._engines.writer.begin() as connection:
        migrate._migrate(connection)
    return empty


# What a database says about its own schema, in rows that can be compared.
SCHEMA = {
    SQLITE: ["SELECT type, name, tbl_name FROM sqlite_master ORDER BY 1, 2"]
    + [f"PRAGMA table_xinfo({table})" for table in metadata.tables],
    POSTGRESQL: [
        "SELECT table_name, column_name, ordinal_position, data_type, column_default, is_nullable,"
        " character_maximum_length, collation_name, datetime_precision"
        " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2",
        "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        " ORDER BY 1, 2",
        "SELECT conname, contype::text, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace ORDER BY 1",
    ],
    MARIADB: [
        "SELECT table_name, column_name, ordinal_position, column_type, column_default,"
        " is_nullable, collation_name, extra FROM information_schema.columns"
        " WHERE table_schema = DATABASE() ORDER BY 1, 2",
        "SELECT table_name, index_name, seq_in_index, column_name, non_unique"
        " FROM information_schema.statistics WHERE table_schema = DATABASE() ORDER BY 1, 2, 3",
    ],
}


def schema_of(database: Database) -> list[Any]:
    return [database.query(sql) for sql in SCHEMA[database.kind]]


def test_a_new_database_and_a_migrated_one_have_the_same_schema(
    migrated: Store, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    with fresh_url(database.kind, folder) as url:
        made = Database(database.kind, url)
        made.open().close()

        assert schema_of(made) == schema_of(database)
    assert migrated.revision() == HEAD
    assert migrated.problems() == []


def test_the_migrated_schema_is_the_declared_one(migrated: Store, database: Database) -> None:
    # MariaDB has no booleans, so that its `false` reads as 0.
    defaults_too = database.kind != MARIADB
    with migrated._engines.reader.begin() as connection:
        opts = {"compare_server_default": defaults_too}
        context = MigrationContext.configure(connection, opts=opts)

        assert compare_metadata(context, metadata) == []


def test_the_tables_have_the_declared_names_of_constraints_and_indexes(migrated: Store) -> None:
    with migrated._engines.reader.begin() as connection:
        inspector = inspect(connection)
        for table in metadata.tables.values():
            uniques = {one["name"] for one in inspector.get_unique_constraints(table.name)}
            indexes = {one["name"] for one in inspector.get_indexes(table.name)}

            assert uniques == {
                one.name for one in table.constraints if isinstance(one, UniqueConstraint)
            }
            assert indexes - uniques == {one.name for one in table.indexes}


def test_the_partial_indexes_are_partial(path: Path) -> None:
    open_new(path).close()
    partial = {
        name
        for table in ("receipts", "journal")
        for _, name, _, _, is_partial in query(path, f"PRAGMA index_list({table})")
        if is_partial
    }

    assert partial == {"ix_receipts_next_query_at", "ix_journal_outcome"}


def test_an_upgrade_tells_what_it_applied_and_is_nothing_the_second_time(empty: Store) -> None:
    assert empty.revision() is None
    assert empty.upgrade() == HISTORY
    assert empty.upgrade() == []
    assert empty.revision() == HEAD


def test_an_upgrade_says_nothing_by_itself(empty: Store, capfd: pytest.CaptureFixture[str]) -> None:
    empty.upgrade()

    assert capfd.readouterr() == ("", "")


def test_an_upgrade_keeps_the_rows(store: Store) -> None:
    store.save(entries(receipt()))

    store.upgrade()

    assert by_status(store) == {"delivered": 1}


# --- from the first schema to the present one ---


@pytest.fixture
def first(empty: Store, database: Database) -> Store:
    """A store with the first release's schema, and rows in every table of it."""
    with empty._engines.writer.begin() as connection, empty._dialect.migrating(connection):
        config = Config(stdout=io.StringIO())
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    names = database.query(TABLES[database.kind])
    for (table,) in names:
        database.query(filled(database, table))
    return empty


MIGRATIONS = Path(migrate.__file__).parent / "migrations"
TABLES = {
    SQLITE: "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'alembic_version'",
    POSTGRESQL: "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    " AND tablename <> 'alembic_version'",
    MARIADB: "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
    " AND table_name <> 'alembic_version'",
}


def filled(database: Database, table: str) -> str:
    """An INSERT of one row of the first release with a value in every column but the id."""
    engine = create_engine(database.url)
    found = inspect(engine).get_columns(table)
    engine.dispose()
    values = {one["name"]: literal(one["type"]) for one in found if one["name"] != "id"}
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})"


def literal(kind: Any) -> str:
    name = str(kind).upper()
    if name.startswith(("DATETIME", "TIMESTAMP")):
        return "'2026-01-01 12:00:00.000001'"
    if name.startswith("DATE"):
        return "'2026-01-01'"
    if name.startswith("BOOL"):
        return "'1'" if name == "BOOLEAN" else "1"
    return "1" if "INT" in name else "'会'"


def contents(database: Database) -> dict[str, list[Any]]:
    """The rows of the tables of the first release, without columns that came later."""
    tables = [name for (name,) in database.query(TABLES[database.kind])]
    engine = create_engine(database.url)
    with engine.connect() as connection:
        rows = {
            table: [
                dict(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}").mappings()
            ]
            for table in tables
        }
    engine.dispose()
    return rows


def test_an_upgrade_from_the_first_release_keeps_all_rows(first: Store, database: Database) -> None:
    before = contents(database)
    assert first.revision() == "0001"
    assert {len(rows) for rows in before.values()} == {1}

    assert first.upgrade() == HISTORY[1:]

    after = contents(database)
    for table, (row,) in before.items():
        (kept,) = after[table]
        assert {name: kept[name] for name in row} == row
    assert first.problems() == []
    with first._engines.reader.begin() as connection:
        defaults_too = {"compare_server_default": database.kind != MARIADB}
        context = MigrationContext.configure(connection, opts=defaults_too)
        assert compare_metadata(context, metadata) == []
    assert first.save(entries(receipt())).changed == 1


def test_an_upgrade_from_the_first_release_waits_for_nobody_who_reads_or_writes(
    first: Store, database: Database
) -> None:
    if database.is_sqlite:
        with first._engines.reader.begin() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM receipts").scalar()
            assert first.upgrade() == HISTORY[1:]
        return
    # What a daemon of the first release has under way does not hold it up, nor is it held up.
    busy = database.open(upgrade=False)
    with busy._engines.writer.begin() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM journal").scalar()
        connection.exec_driver_sql("UPDATE leases SET holder = 'me'")
        assert first.upgrade() == HISTORY[1:]
        connection.exec_driver_sql("UPDATE leases SET holder = 'still me'")
    assert database.query("SELECT holder FROM leases") == [("still me",)]
    busy.close()


@pytest.mark.parametrize("statement", [1, 2, 4, 7])
def test_a_kill_in_the_middle_of_an_upgrade_from_the_first_release_loses_nothing(
    first: Store, database: Database, statement: int
) -> None:
    before = contents(database)
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), database.url, str(statement)],
        check=False,
        timeout=60,
    )
    assert child.returncode == -signal.SIGKILL

    first.upgrade()

    after = contents(database)
    for table, (row,) in before.items():
        (kept,) = after[table]
        assert {name: kept[name] for name in row} == row
    with first._engines.reader.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert first.revision() == HEAD


def test_a_database_without_schema_is_a_problem_with_a_cure(empty: Store) -> None:
    (problem,) = empty.problems()

    assert (problem.place, problem.cure) == ("database.url", "run `receiptd db upgrade`")


def test_a_schema_newer_than_this_program_is_refused(store: Store, database: Database) -> None:
    database.query("UPDATE alembic_version SET version_num = '9999'")

    (problem,) = store.problems()

    assert "newer" in problem.rule
    assert problem.value == "9999"
    with pytest.raises(ConfigError, match=r"newer.*install the receiptd that upgraded it"):
        store.upgrade()
    assert store.revision() == "9999"


def test_an_older_schema_is_a_problem_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "head", lambda: "0002")

    problem = migrate.problem("0001")

    assert problem is not None
    assert "older" in problem.rule
    assert problem.cure == "run `receiptd db upgrade`"


def test_several_processes_may_upgrade_at_once(database: Database) -> None:
    stores = [database.open(upgrade=False) for _ in range(4)]

    with ThreadPoolExecutor(len(stores)) as pool:
        applied = list(pool.map(Store.upgrade, stores))

    assert sorted(applied) == [[], [], [], HISTORY]
    for store in stores:
        assert store.save(entries(receipt())).changed in (0, 1)
        store.close()


def test_who_waits_for_an_upgrade_sees_what_it_has_done(database: Database) -> None:
    first, second = database.open(upgrade=False), database.open(upgrade=False)
    waiting: list[Future[list[str]]] = []

    with ThreadPoolExecutor(1) as pool:

        def come_second(connection: object, cursor: object, sql: str, *rest: object) -> None:
            if "INTO alembic_version" in sql and not waiting:
                waiting.append(pool.submit(second.upgrade))

        # Between the stamp and its commit the other comes, and must not stamp too.
        event.listen(first._engines.writer, "after_cursor_execute", come_second)

        assert first.upgrade() == HISTORY
        assert waiting[0].result(30) == []
    first.close()
    second.close()


def test_an_upgrade_that_failed_does_not_keep_the_others_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = database.open(upgrade=False), database.open(upgrade=False)

    def fail(*arguments: object, **named: object) -> list[str]:
        raise LookupError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(migrate, "upgrade", fail)
        with pytest.raises(LookupError):
            first.upgrade()

    assert second.upgrade() == HISTORY
    first.close()
    second.close()


def test_an_upgrade_leaves_a_sessions_limits_as_they_were(database: Database) -> None:
    store = database.open(upgrade=False)
    ask_limits = {
        SQLITE: "PRAGMA busy_timeout",
        POSTGRESQL: "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')",
        MARIADB: "SELECT @@max_statement_time, @@lock_wait_timeout, @@innodb_lock_wait_timeout",
    }[database.kind]

    def limits() -> list[Any]:
        with store._engines.writer.begin() as connection:
            raw = connection.connection.dbapi_connection
            ours = [getattr(raw, name, None) for name in ("patience_s", "_read_timeout")]
            return [*connection.exec_driver_sql(ask_limits).one(), *ours]

    before = limits()
    store.upgrade()

    assert limits() == before
    store.close()


CHILD = """
    import os, signal, sys
    from sqlalchemy import Engine, event
    from receiptd.clock import ManualClock
    from receiptd.store import open_store

    left = int(sys.argv[2])

    @event.listens_for(Engine, "after_cursor_execute")
    def count(connection, cursor, statement, *rest):
        global left
        if statement.lstrip().upper().startswith(("CREATE", "ALTER", "INSERT", "UPDATE")):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    open_store(sys.argv[1], ManualClock()).upgrade()
"""


@pytest.mark.parametrize("statement", [1, 2, 3, 7, 13])
def test_a_kill_in_the_middle_of_an_upgrade_leaves_what_the_next_one_completes(
    database: Database, statement: int
) -> None:
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), database.url, str(statement)],
        check=False,
        timeout=60,
    )
    assert child.returncode == -signal.SIGKILL
    killed = database.open(upgrade=False)
    assert killed.revision() is None
    killed.close()

    store = database.open()
    store.save(entries(receipt()))
    with store._engines.reader.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        if store._dialect.has_transactional_ddl:
            assert store.revision() == HEAD
    store.close()


def test_tables_of_somebody_elses_are_not_taken_for_ours(empty: Store, database: Database) -> None:
    database.query("CREATE TABLE uplinks (id INTEGER)")

    with pytest.raises((StoreUnavailable, ConfigError)):
        empty.upgrade()

    assert empty.revision() is None
    with pytest.raises((StoreUnavailable, ConfigError)):
        empty.upgrade()
    with empty._engines.reader.begin() as connection:
        assert inspect(connection).get_table_names() == ["uplinks"]
