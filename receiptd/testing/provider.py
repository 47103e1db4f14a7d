"""The suite that every provider passes, built in or third-party.

Collect what the real service was seen to send, and subclass the suite in a test module of yours:

    from receiptd.testing.provider import MessageSample, ProviderConformance, Samples, SendSample

    class TestTencent(ProviderConformance):
        @pytest.fixture
        def samples(self):
            return Samples(PROVIDER, account, messages=[...], sends=[...])

What the provider does not have is skipped with a reason. Nothing goes over a network.
"""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from receiptd.clock import SystemClock
from receiptd.store import Store, open_store
from receiptd.testing.clients import ClientConformance
from receiptd.testing.messages import MessageConformance
from receiptd.testing.samples import MessageSample, Samples, SendSample
from receiptd.testing.sends import SendConformance

__all__ = ["MessageSample", "ProviderConformance", "Samples", "SendSample"]


class ProviderConformance(MessageConformance, SendConformance, ClientConformance):
    """The contract of `receiptd.providers.base`, as tests. Subclasses give `samples`."""

    @pytest.fixture
    def samples(self) -> Samples:
        raise TypeError("give a `samples` fixture in your subclass")

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        """An empty SQLite file."""
        store = open_store(f"sqlite:///{tmp_path}/conformance.db", SystemClock())
        store.upgrade()
        yield store
        store.close()

    @pytest.fixture(autouse=True)
    def tried(self, monkeypatch: pytest.MonkeyPatch) -> list[object]:
        """No network: every attempt to use one fails, and is in this list."""
        found: list[object] = []

        def no_name(host: object, *_: object, **__: object) -> NoReturn:
            found.append(host)
            raise socket.gaierror(socket.EAI_AGAIN, "there is no network in this test")

        def no_connection(_: object, address: object) -> NoReturn:
            found.append(address)
            raise ConnectionRefusedError("there is no network in this test")

        monkeypatch.setattr(socket, "getaddrinfo", no_name)
        monkeypatch.setattr(socket.socket, "connect", no_connection)
        monkeypatch.setattr(socket.socket, "connect_ex", no_connection)
        return found
