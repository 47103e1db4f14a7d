"""A store and a broker for the tests of what goes wrong between them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptd.clock import ManualClock
from receiptd.sandbox import Sandbox
from receiptd.store import Store, open_store
from tests.databases import SQLITE, fresh_url
from tests.reliability.rig import Broker


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with fresh_url(SQLITE, tmp_path) as url:
        store = open_store(url, ManualClock())
        store.upgrade()
        yield store
        store.close()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def broker(sandbox: Sandbox) -> Iterator[Broker]:
    broker = Broker(sandbox)
    yield broker
    broker.close()
