"""A server over an empty SQLite file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.http_harness import Running, running


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/receiptd.db"


@pytest.fixture
def server(url: str) -> Iterator[Running]:
    with running(url) as one:
        yield one
