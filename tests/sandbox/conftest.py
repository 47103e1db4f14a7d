"""Sandboxes and the official SDKs' clients on them, closed again after each test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mns.account import Account
from mq_http_sdk.mq_client import MQClient

from receiptd.sandbox import Sandbox
from tests.sandbox.wire import Wire


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def frozen() -> Iterator[Sandbox]:
    """A sandbox whose time passes only when it is told to."""
    with Sandbox(virtual_time=True) as running:
        yield running


@pytest.fixture
def mns_account() -> Iterator[Callable[..., Any]]:
    """Make clients of the official MNS SDK."""
    made: list[Any] = []

    def make(sandbox: Sandbox, key: str = "testAK", secret: str = "testSK", token: str = "") -> Any:
        made.append(Account(sandbox.url, key, secret, token))
        return made[-1]

    yield make
    for account in made:
        account.get_client().close_connection()


@pytest.fixture
def mq_client() -> Iterator[Callable[..., Any]]:
    """Make clients of the official RocketMQ HTTP SDK."""
    made: list[Any] = []

    def make(sandbox: Sandbox, key: str = "testAK", secret: str = "testSK") -> Any:
        made.append(MQClient(sandbox.url, key, secret))
        return made[-1]

    yield make
    for client in made:
        client.close_connection()


@pytest.fixture
def wire() -> Iterator[Callable[[Sandbox], Wire]]:
    """Make raw clients, which see the bytes."""
    made: list[Wire] = []

    def make(sandbox: Sandbox) -> Wire:
        made.append(Wire(sandbox))
        return made[-1]

    yield make
    for one in made:
        one.close()
