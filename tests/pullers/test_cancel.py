"""Cancel ends a pull wherever it waits, and leaves acks alone."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from receiptd.errors import SourceCancelled
from receiptd.pullers.base import AckResult
from tests.pullers.network_traps import EMPTY, LONG_S, SOON_S, black_hole, resolve_to
from tests.pullers.puller_harness import (
    KINDS,
    committed,
    make_puller,
)
from tests.pullers.scripted_server import (
    Peer,
    Script,
    ScriptedServer,
    always,
    answer,
)


@pytest.mark.parametrize("kind", KINDS)
class TestCancel:
    @pytest.mark.parametrize(
        "script",
        [
            pytest.param(lambda peer: (peer.request(), peer.hang()), id="in the long poll"),
            pytest.param(
                lambda peer: (peer.send(answer(200, length=99)), peer.request(), peer.hang()),
                id="in the body",
            ),
        ],
    )
    def test_a_running_pull_ends_at_once(self, kind: str, script: Script) -> None:
        with ScriptedServer(script) as server:
            puller = make_puller(kind, server.url, pull_spare_s=LONG_S)
            self._assert_cancel_ends(
                puller, lambda: server.wait_for(lambda now: len(now.requests) == 1)
            )

    def test_a_running_handshake_ends_at_once(self, kind: str) -> None:
        with ScriptedServer(Peer.hang) as server:
            url = server.url.replace("http:", "https:")
            puller = make_puller(kind, url, pull_spare_s=LONG_S, connect_s=LONG_S)
            self._assert_cancel_ends(
                puller, lambda: server.wait_for(lambda now: now.connections == 1)
            )

    def test_a_running_connect_ends_at_once(self, kind: str) -> None:
        with black_hole() as port:
            url = f"http://127.0.0.1:{port}"
            puller = make_puller(kind, url, pull_spare_s=LONG_S, connect_s=LONG_S)

            def until_connecting() -> None:
                while puller._broker._lanes[0]._sock is None:
                    threading.Event().wait(0.001)

            self._assert_cancel_ends(puller, until_connecting)

    def test_a_running_lookup_ends_at_once(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked, release = threading.Event(), threading.Event()

        def hang(_: int) -> list[tuple[str, int]]:
            asked.set()
            release.wait(LONG_S)
            return []

        resolve_to(monkeypatch, hang)
        puller = make_puller(kind, "http://broker.test", pull_spare_s=LONG_S)
        self._assert_cancel_ends(puller, lambda: asked.wait(LONG_S))
        release.set()

    def test_a_running_ack_is_left_alone_and_later_acks_connect_anew(self, kind: str) -> None:
        cancelled = threading.Event()

        def slow(peer: Peer) -> None:
            peer.request()
            assert cancelled.wait(LONG_S)
            peer.send(answer(204))

        with ScriptedServer(slow, always(answer(204))) as server:
            puller = make_puller(kind, server.url, ack_s=LONG_S)
            with ThreadPoolExecutor(1) as owner:
                acking = owner.submit(puller.ack, committed("handle-1"))
                server.wait_for(lambda now: len(now.requests) == 1)
                puller.cancel()
                cancelled.set()
                first = acking.result(LONG_S)
                second = owner.submit(puller.ack, committed("handle-2")).result(LONG_S)
                with pytest.raises(SourceCancelled):
                    puller.pull(16, 0)
                puller.close()

        assert (first, second) == (AckResult(acked=1), AckResult(acked=1))

    def test_a_pull_after_cancel_does_not_even_connect(self, kind: str) -> None:
        with ScriptedServer(always(EMPTY)) as server:
            puller = make_puller(kind, server.url)
            puller.cancel()
            with pytest.raises(SourceCancelled):
                puller.pull(16, 30)
        assert server.connections == 0

    @staticmethod
    def _assert_cancel_ends(puller: Any, until_running: Callable[[], object]) -> None:
        with ThreadPoolExecutor(1) as owner:
            pulling = owner.submit(puller.pull, 16, 0)
            until_running()
            started = time.monotonic()
            puller.cancel()
            ended = pulling.exception(LONG_S)
        assert isinstance(ended, SourceCancelled)
        assert time.monotonic() - started < SOON_S
