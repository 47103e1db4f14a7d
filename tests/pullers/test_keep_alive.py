"""Using a connection again, and when a request is sent twice: never, but for one case."""

from collections.abc import Callable
from pathlib import Path

import pytest

from receiptd.errors import SourceUnavailable
from receiptd.model import Credentials
from receiptd.pullers import connection as connection_module
from receiptd.pullers.base import AckResult
from receiptd.pullers.http1 import serialize
from tests.pullers.network_traps import EMPTY, get, plain
from tests.pullers.puller_harness import (
    KINDS,
    KeyRing,
    committed,
    make_puller,
    server_tls,
    trust_the_authority,
)
from tests.pullers.scripted_server import (
    Peer,
    ScriptedServer,
    always,
    answer,
    once,
)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trust_the_authority(monkeypatch, tmp_path)


class TestKeepAlive:
    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.usefixtures("trusted")
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "end", [pytest.param(lambda peer: None, id="FIN"), pytest.param(Peer.reset, id="RST")]
    )
    def test_a_connection_closed_while_idle_costs_no_poll(
        self, scheme: str, kind: str, end: Callable[[Peer], object]
    ) -> None:
        tls = server_tls() if scheme == "https" else None
        with ScriptedServer(once(EMPTY, end), tls=tls) as server:
            puller = make_puller(kind, server.url)
            for _ in range(5):
                assert puller.pull(16, 0) == []
            puller.close()
        assert len(server.requests) == 5

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.usefixtures("trusted")
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "end", [pytest.param(lambda peer: None, id="FIN"), pytest.param(Peer.reset, id="RST")]
    )
    def test_a_close_that_crosses_our_request_is_retried_once(
        self, scheme: str, kind: str, end: Callable[[Peer], object]
    ) -> None:
        def crossing(peer: Peer) -> None:
            peer.request()
            peer.send(EMPTY)
            peer.request()
            end(peer)

        tls = server_tls() if scheme == "https" else None
        with ScriptedServer(crossing, always(EMPTY), tls=tls) as server:
            puller = make_puller(kind, server.url)
            assert puller.pull(16, 0) == []
            assert puller.pull(16, 0) == []
            puller.close()
        assert (len(server.requests), server.connections) == (3, 2)

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_retry_is_the_only_one(self, kind: str) -> None:
        def crossing(peer: Peer) -> None:
            peer.request()
            peer.send(EMPTY)
            peer.request()

        with ScriptedServer(crossing, lambda peer: peer.request()) as server:
            puller = make_puller(kind, server.url)
            puller.pull(16, 0)
            with pytest.raises(SourceUnavailable) as caught:
                puller.pull(16, 0)
        assert caught.value.code == "reset"
        assert len(server.requests) == 3

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_pull_that_the_broker_was_working_on_is_not_sent_again(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection_module, "RESEND_WINDOW_S", -1.0)  # as if time had passed

        def crossing(peer: Peer) -> None:
            peer.request()
            peer.send(EMPTY)
            peer.request()

        with ScriptedServer(crossing, always(EMPTY)) as server:
            puller = make_puller(kind, server.url)
            puller.pull(16, 0)
            with pytest.raises(SourceUnavailable):
                puller.pull(16, 0)
        assert len(server.requests) == 2

    @pytest.mark.parametrize("kind", KINDS)
    def test_half_an_answer_on_a_reused_connection_is_not_asked_for_again(self, kind: str) -> None:
        def half(peer: Peer) -> None:
            peer.request()
            peer.send(EMPTY)
            peer.request()
            peer.send(EMPTY[:9])

        with ScriptedServer(half, always(EMPTY)) as server:
            puller = make_puller(kind, server.url)
            puller.pull(16, 0)
            with pytest.raises(SourceUnavailable):
                puller.pull(16, 0)
        assert len(server.requests) == 2

    @pytest.mark.parametrize("kind", KINDS)
    def test_stray_bytes_are_not_taken_for_the_answer_to_an_ack(self, kind: str) -> None:
        with ScriptedServer(once(EMPTY + answer(204), Peer.hang), always(EMPTY)) as server:
            puller = make_puller(kind, server.url)
            puller.pull(16, 0)
            result = puller.ack(committed("handle-1"))
            puller.close()
        assert result == AckResult(expired=1)
        assert server.connections == 2

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_connection_is_not_used_again_after_an_answer_that_is_no_brokers(
        self, kind: str
    ) -> None:
        with ScriptedServer(always(answer(200, b"<html/>")), always(EMPTY)) as server:
            puller = make_puller(kind, server.url)
            with pytest.raises(SourceUnavailable):
                puller.pull(16, 0)
            assert puller.pull(16, 0) == []
            puller.close()

    def test_a_connection_that_was_idle_for_long_is_replaced(self) -> None:
        with ScriptedServer(always(EMPTY)) as server:
            connection = plain(server.port, max_idle_s=-1.0)
            get(connection)
            get(connection)
            connection.close()
        assert server.connections == 2

    @pytest.mark.parametrize(
        ("url", "header"),
        [("/a b", "x"), ("/", "x\ny: z"), ("/", "x\r\n"), ("/\n", "x"), ("/", "六")],
    )
    def test_what_would_break_the_framing_is_no_request(self, url: str, header: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - the broker asks for no more
            serialize("GET", url, b"", {"key": header})

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("key", ["六", "a\r\nb: c"])
    def test_a_key_that_would_break_the_framing_is_not_sent(self, kind: str, key: str) -> None:
        with ScriptedServer(always(EMPTY)) as server:
            puller = make_puller(kind, server.url, KeyRing(first=Credentials(key, "secret")))
            with pytest.raises(SourceUnavailable) as caught:
                puller.pull(16, 0)
            puller.close()
        assert caught.value.code == "unsendable"
        assert caught.value.__context__ is None
        assert server.requests == []
