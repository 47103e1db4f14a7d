"""The schema's history: complete, repeatable, and never half done."""

import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from receiptd.clock import ManualClock
from receiptd.errors import ConfigError
from receiptd.store import Store, migrate, open_store
from receiptd.store.schema import metadata
from tests.store.store_samples import entries, open_new, query, receipt

HEAD = migrate.head()


@pytest.fixture
def empty(path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{path}", ManualClock())
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
        from receiptd.store import open_store
        store = open_store("sqlite:///" + sys.argv[1], ManualClock())
        store.upgrade()
        assert store.problems() == []
        store.counts()
        store.close()
        for heavy in ("alembic", "mako", "sqlalchemy.dialects.mysql"):
            assert heavy not in sys.modules, heavy
    """

    subprocess.run([sys.executable, "-c", textwrap.dedent(program), path], check=True, timeout=60)


def set_revision(path: Path, revision: str) -> None:
    query(path, "UPDATE alembic_version SET version_num = ?", revision)


@pytest.fixture
def migrated(empty: Store) -> Store:
    """Return a store whose schema Alembic made, step by step."""
    with empty._engines.writer.begin() as connection:
        migrate._migrate(connection)
    return empty


def test_a_new_database_and_a_migrated_one_have_the_same_schema(
    migrated: Store, path: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made.db"
    open_new(made).close()
    schema = "SELECT type, name, tbl_name FROM sqlite_master ORDER BY 1, 2"

    assert query(made, schema) == query(path, schema)
    for table in metadata.tables:
        columns = f"PRAGMA table_xinfo({table})"
        assert query(made, columns) == query(path, columns)
    assert migrated.revision() == HEAD
    assert migrated.problems() == []


def test_the_migrated_schema_is_the_declared_one(migrated: Store) -> None:
    with migrated._engines.reader.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})

        assert compare_metadata(context, metadata) == []


def test_the_migrated_tables_have_the_declared_names_of_constraints(migrated: Store) -> None:
    with migrated._engines.reader.begin() as connection:
        tables = set(connection.exec_driver_sql("SELECT sql FROM sqlite_master").scalars())
    text = "\n".join(sql for sql in tables if sql)

    for table in metadata.tables.values():
        for constraint in table.constraints:
            assert f"CONSTRAINT {constraint.name} " in text
        for index in table.indexes:
            assert f"INDEX {index.name} " in text


def test_the_partial_indexes_are_partial(migrated: Store, path: Path) -> None:
    partial = {
        name
        for table in ("receipts", "journal")
        for _, name, _, _, is_partial in query(path, f"PRAGMA index_list({table})")
        if is_partial
    }

    assert partial == {"ix_receipts_next_query_at", "ix_journal_outcome"}


def test_an_upgrade_tells_what_it_applied_and_is_nothing_the_second_time(empty: Store) -> None:
    assert empty.revision() is None
    assert empty.upgrade() == [HEAD]
    assert empty.upgrade() == []
    assert empty.revision() == HEAD


def test_an_upgrade_says_nothing_by_itself(empty: Store, capfd: pytest.CaptureFixture[str]) -> None:
    empty.upgrade()

    assert capfd.readouterr() == ("", "")


def test_an_upgrade_keeps_the_rows(store: Store, path: Path) -> None:
    store.save(entries(receipt()))

    store.upgrade()

    assert store.counts()["receipts"] == {"delivered": 1}


def test_a_database_without_schema_is_a_problem_with_a_cure(empty: Store) -> None:
    (problem,) = empty.problems()

    assert (problem.place, problem.cure) == ("database.url", "run `receiptd db upgrade`")


def test_a_schema_newer_than_this_program_is_refused(store: Store, path: Path) -> None:
    set_revision(path, "9999")

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


def test_two_processes_may_upgrade_at_once(path: Path) -> None:
    stores = [open_store(f"sqlite:///{path}", ManualClock()) for _ in range(4)]

    with ThreadPoolExecutor(len(stores)) as pool:
        applied = list(pool.map(Store.upgrade, stores))

    assert sorted(applied) == [[], [], [], [HEAD]]
    for store in stores:
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
        if statement.lstrip().upper().startswith(("CREATE", "INSERT", "UPDATE")):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    open_store("sqlite:///" + sys.argv[1], ManualClock()).upgrade()
"""


@pytest.mark.parametrize("statement", [1, 2, 3, 7, 13])
def test_a_kill_in_the_middle_of_an_upgrade_leaves_the_old_schema(
    path: Path, statement: int
) -> None:
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), path, str(statement)],
        check=False,
        timeout=60,
    )
    assert child.returncode == -signal.SIGKILL
    assert query(path, "SELECT count(*) FROM sqlite_master") == [(0,)]

    store = open_new(path)
    store.save(entries(receipt()))
    store.close()
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_failed_upgrade_leaves_the_old_schema(empty: Store, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE uplinks (id INTEGER)")
    connection.close()

    with pytest.raises(Exception, match="SQLITE_ERROR"):
        empty.upgrade()

    assert query(path, "SELECT name FROM sqlite_master") == [("uplinks",)]
