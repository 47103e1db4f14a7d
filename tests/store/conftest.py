"""An empty database of each kind and a store on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptd.store import Store
from tests.databases import databases, fresh_url
from tests.store.store_samples import Database


@pytest.fixture(params=databases())
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with fresh_url(request.param, tmp_path) as url:
        yield Database(request.param, url)


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    store = database.open()
    yield store
    store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test of SQLite alone may have its file."""
    return tmp_path / "receiptd.db"
