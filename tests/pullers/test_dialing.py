"""Getting a connection: DNS, addresses, TLS; what `dialing.py` promises."""

import datetime
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from receiptd.errors import SourceError, SourceUnavailable
from receiptd.pullers.connection import Connection
from tests.pullers.network_traps import EMPTY, LONG_S, SOON_S, black_hole, get, plain, resolve_to
from tests.pullers.puller_harness import (
    DEADLINE_S,
    KINDS,
    make_puller,
    server_tls,
    trust_the_authority,
)
from tests.pullers.scripted_server import (
    Peer,
    ScriptedServer,
    always,
    answer,
    batch,
    message,
    once,
)


class TestConnecting:
    def test_a_refused_connection_says_so(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(SourceUnavailable) as caught:
            get(plain(port))
        assert caught.value.code == "refused"

    def test_a_name_that_does_not_resolve_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        with pytest.raises(SourceUnavailable) as caught:
            get(Connection("broker.test", 80, https=False))
        assert caught.value.code == "dns"

    def test_a_resolver_that_hangs_costs_the_deadline_and_one_thread(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        release = threading.Event()

        def hang(_: int) -> list[tuple[str, int]]:
            release.wait(LONG_S)
            return []

        resolve_to(monkeypatch, hang)
        connection = Connection("broker.test", 80, https=False)
        before = threading.active_count()
        for _ in range(3):
            with pytest.raises(SourceUnavailable) as caught:
                get(connection, 0.05)
            assert caught.value.code == "timeout"
        stuck = threading.active_count() - before
        release.set()
        assert stuck == 1

    def test_a_connect_that_is_never_answered_costs_the_connect_timeout(self) -> None:
        with black_hole() as port:
            started = time.monotonic()
            with pytest.raises(SourceUnavailable) as caught:
                get(plain(port, connect_timeout_s=0.1), LONG_S)
        assert caught.value.code == "timeout"
        assert time.monotonic() - started < SOON_S

    def test_a_dead_address_does_not_eat_the_time_of_the_next(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with black_hole() as dead, ScriptedServer(always(EMPTY)) as server:
            resolve_to(monkeypatch, lambda _: [("127.0.0.1", dead), ("127.0.0.1", server.port)])
            connection = Connection("broker.test", 80, https=False, connect_timeout_s=LONG_S)
            status = get(connection, 2.0)
            connection.close()
        assert status == 404

    def test_an_address_of_a_family_that_this_host_lacks_is_passed_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = socket.getaddrinfo

        def with_a_strange_one_first(*args: Any, **options: Any) -> Any:
            strange = (12345, socket.SOCK_STREAM, 6, "", ("x", 1))
            return [strange, *original(*args, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", with_a_strange_one_first)
        with ScriptedServer(always(EMPTY)) as server:
            connection = plain(server.port)
            assert get(connection) == 404
            connection.close()

    def test_many_dead_addresses_cost_no_more_than_the_deadline(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with black_hole() as dead:
            resolve_to(monkeypatch, lambda _: [("127.0.0.1", dead)] * 8)
            started = time.monotonic()
            with pytest.raises(SourceUnavailable):
                get(Connection("broker.test", 80, https=False), DEADLINE_S)
        assert time.monotonic() - started < DEADLINE_S + SOON_S


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust_the_authority(monkeypatch, tmp_path)


class TestTls:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.usefixtures("trusted")
    def test_a_verified_broker_is_pulled_from_over_one_connection(self, kind: str) -> None:
        sent = answer(200, batch(message(kind)))
        with ScriptedServer(always(sent), tls=server_tls()) as server:
            puller = make_puller(kind, server.url)
            pulled = [*puller.pull(16, 0), *puller.pull(16, 0)]
            puller.close()
        assert len(pulled) == 2
        assert server.connections == 1

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_unknown_authority_is_refused(self, kind: str) -> None:
        assert "issuer" in self._failure(kind, server_tls()).cure

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.usefixtures("trusted")
    def test_a_certificate_of_another_host_is_refused(self, kind: str) -> None:
        assert "127.0.0.1" in self._failure(kind, server_tls("mns.example")).cure

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.usefixtures("trusted")
    def test_an_expired_certificate_is_refused(self, kind: str) -> None:
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        assert "expired" in self._failure(kind, server_tls(not_after=past)).cure

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.usefixtures("trusted")
    def test_a_stall_after_the_handshake_ends_at_the_deadline(self, kind: str) -> None:
        with ScriptedServer(lambda peer: peer.drip(EMPTY), tls=server_tls()) as server:
            puller = make_puller(kind, server.url, seconds=DEADLINE_S)
            started = time.monotonic()
            with pytest.raises(SourceUnavailable) as caught:
                puller.pull(16, 0)
        assert caught.value.code == "timeout"
        assert time.monotonic() - started < DEADLINE_S + SOON_S

    @pytest.mark.parametrize("kind", KINDS)
    def test_plain_http_behind_an_https_endpoint_is_refused(self, kind: str) -> None:
        with ScriptedServer(once(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
            puller = make_puller(kind, server.url.replace("http:", "https:"), seconds=DEADLINE_S)
            with pytest.raises(SourceUnavailable) as caught:
                puller.pull(16, 0)
        assert caught.value.code in ("tls", "timeout")  # our hello is no request to the script

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_handshake_that_is_never_answered_costs_the_connect_timeout(self, kind: str) -> None:
        with ScriptedServer(Peer.hang) as server:
            puller = make_puller(kind, server.url.replace("http:", "https:"), connect_s=DEADLINE_S)
            started = time.monotonic()
            with pytest.raises(SourceUnavailable) as caught:
                puller.pull(16, 0)
        assert caught.value.code == "timeout"
        assert time.monotonic() - started < DEADLINE_S + SOON_S

    @staticmethod
    def _failure(kind: str, context: ssl.SSLContext) -> SourceError:
        with ScriptedServer(always(EMPTY), tls=context) as server:
            puller = make_puller(kind, server.url)
            with pytest.raises(SourceUnavailable) as caught:
                puller.pull(16, 0)
        assert caught.value.code == "tls"
        assert server.requests == []
        return caught.value
