"""A database file and a store on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptd.store import Store
from tests.store.store_samples import open_new


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "receiptd.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = open_new(path)
    yield store
    store.close()
