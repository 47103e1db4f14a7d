"""Alembic, driven from the program: no alembic.ini, no output, in the caller's transaction."""

import io
import logging
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from receiptd.errors import ConfigError, Problem

_PLACE = "database.url"
# Alembic reports every step at INFO; the caller reports the outcome.
logging.getLogger("alembic").setLevel(logging.WARNING)


def head() -> str:
    """Return the revision that this program needs."""
    revision = _scripts().get_current_head()
    assert revision is not None
    return revision


def current(connection: Connection) -> str | None:
    """Return the database's revision, None if it has no schema yet."""
    return MigrationContext.configure(connection).get_current_revision()


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


def upgrade(connection: Connection) -> list[str]:
    """Bring the schema to `head()` inside the caller's transaction; return the revisions applied,
    oldest first.

    Raises ConfigError if the schema is newer than this program: it is never downgraded.
    """
    before = current(connection)
    found = problem(before)
    if found is None:
        return []
    if before is not None and before not in _revisions():
        raise ConfigError([found])
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    steps = _scripts().iterate_revisions("head", before or "base")
    return [step.revision for step in steps][::-1]


def _config() -> Config:
    config = Config(stdout=io.StringIO())
    location = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", location.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


@cache
def _revisions() -> frozenset[str]:
    return frozenset(step.revision for step in _scripts().walk_revisions())
