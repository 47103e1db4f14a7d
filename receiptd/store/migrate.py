"""The schema's revision, and Alembic driven from the program: no alembic.ini, no output, in the
caller's transaction.

Alembic brings 9 MB of every database's dialects into memory, for good. So it is loaded only where
there is something to migrate: a new database is made as the schema stands and stamped (a test
holds both ways to the same schema), and the revisions are read from the names of the files.
"""

import io
import logging
from functools import cache
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
)

from receiptd.errors import ConfigError, Problem
from receiptd.store.schema import metadata, narrow_indexes

_PLACE = "database.url"
_MIGRATIONS = Path(__file__).parent / "migrations"
# Alembic's own table, as it makes it.
_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def head() -> str:
    """Return the revision that this program needs."""
    return max(_revisions())


def current(connection: Connection) -> str | None:
    """Return the database's revision, None if it has no schema yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if revision is None else str(revision)


def problem(revision: str | None) -> Problem | None:
    """Return what is wrong with a database at `revision`, None if it is just what we need."""
    if revision == head():
        return None
    if revision is None:
        return Problem(_PLACE, "the database has no schema", cure="run `receiptd db upgrade`")
    if revision in _revisions():
        return Problem(
            _PLACE,
            f"the schema is older than this receiptd, which needs {head()}",
            value=revision,
            cure="run `receiptd db upgrade`",
        )
    return Problem(
        _PLACE,
        f"the schema is newer than this receiptd, which knows it up to {head()}",
        value=revision,
        cure="install the receiptd that upgraded it, or a later one",
    )


def upgrade(connection: Connection, *, is_transactional: bool = True) -> list[str]:
    """Bring the schema to `head()` inside the caller's transaction; return the revisions applied,
    oldest first.

    Where DDL is not transactional (MySQL), a killed upgrade is completed by the next one. Raises
    ConfigError if the schema is newer than this program: it is never downgraded.
    """
    before = current(connection)
    found = problem(before)
    if found is None:
        return []
    if before is not None and before not in _revisions():
        raise ConfigError([found])
    if before is None:
        narrow_indexes(connection.dialect.name)
        if is_transactional:
            metadata.create_all(connection, checkfirst=False)
            _VERSION.create(connection)
        else:
            _make_step_by_step(connection)
        connection.execute(insert(_VERSION).values(version_num=head()))
    else:
        _migrate(connection)
    return sorted(revision for revision in _revisions() if revision > (before or ""))


def _make_step_by_step(connection: Connection) -> None:
    inspector = inspect(connection)
    # Alembic's table comes first and is stamped last: empty, it says that the tables are ours, but
    # perhaps not all there.
    is_new = not inspector.has_table(_VERSION.name)
    if is_new:
        taken = sorted(set(inspector.get_table_names()) & set(metadata.tables))
        if taken:
            rule = "the database has tables of ours already, and not from us"
            cure = "give receiptd a database of its own"
            raise ConfigError([Problem(_PLACE, rule, ", ".join(taken), cure)])
        _VERSION.create(connection)
    for table in metadata.sorted_tables:
        table.create(connection, checkfirst=not is_new)
        if not is_new:  # a table that was made by a killed upgrade may lack its indexes
            for index in table.indexes:
                index.create(connection, checkfirst=True)


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    # It reports every step at INFO; here the caller reports the outcome.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@cache
def _revisions() -> frozenset[str]:
    # One line of history in files named after their revision: 0001_first.py.
    steps = (_MIGRATIONS / "versions").glob("[0-9]*.py")
    return frozenset(step.stem.partition("_")[0] for step in steps)
