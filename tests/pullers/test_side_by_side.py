"""Several calls at a time: their answers are waited for together, and each ends by itself."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from receiptd.errors import SourceCancelled, SourceUnavailable
from receiptd.model import Credentials
from receiptd.pullers import broker
from receiptd.pullers.base import AckResult, Puller
from receiptd.pullers.connection import Connection
from tests.pullers.network_traps import LONG_S
from tests.pullers.puller_harness import DEADLINE_S, KINDS, KeyRing, committed, make_puller
from tests.pullers.scripted_server import (
    NOTHING,
    Peer,
    Script,
    ScriptedServer,
    always,
    answer,
    batch,
    message,
    once,
)

LANES = broker.LANES
SIXTY_FOUR = [f"handle-{number}" for number in range(16 * LANES)]

by_kind = pytest.mark.parametrize("kind", KINDS)


def together(data: bytes) -> Script:
    """Answer once as many requests are there as can be at a time; alone, none gets an answer."""
    barrier = threading.Barrier(LANES)

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            barrier.wait(LONG_S)
            peer.send(data)

    return script


def silent(peer: Peer) -> None:
    """Take a request and never answer it."""
    peer.request()
    peer.hang()


@contextmanager
def pulling(kind: str, *scripts: Script) -> Iterator[tuple[ScriptedServer, Puller]]:
    with ScriptedServer(*scripts) as server:
        puller = make_puller(kind, server.url, pull_spare_s=LONG_S, ack_s=LONG_S)
        try:
            yield server, puller
        finally:
            puller.close()


def messages(kind: str, *numbers: int) -> bytes:
    return answer(200, batch(*(message(kind, number) for number in numbers)))


@by_kind
def test_what_takes_several_calls_is_asked_for_side_by_side(kind: str) -> None:
    with pulling(kind, together(messages(kind, 1, 2))) as (server, puller):
        envelopes = puller.pull(16 * LANES, 0)

    assert [one.handle for one in envelopes] == ["handle-1", "handle-2"] * LANES
    assert server.connections == LANES
    assert all(b"numOfMessages=16&waitseconds=0" in one for one in server.requests)


@by_kind
def test_what_takes_several_calls_is_acked_side_by_side(kind: str) -> None:
    with pulling(kind, together(answer(204))) as (server, puller):
        result = puller.ack(committed(*SIXTY_FOUR))

    assert result == AckResult(acked=16 * LANES)
    told = b"".join(server.requests)
    assert all(told.count(f"<ReceiptHandle>{handle}<".encode()) == 1 for handle in SIXTY_FOUR)


@by_kind
def test_more_calls_than_connections_go_one_behind_the_other(kind: str) -> None:
    with pulling(kind, always(messages(kind, 1))) as (server, puller):
        envelopes = puller.pull(16 * (LANES + 2), 0)

    assert len(envelopes) == LANES + 2
    assert server.connections == LANES


@by_kind
def test_one_batch_takes_one_connection(kind: str) -> None:
    with pulling(kind, always(messages(kind, 1))) as (server, puller):
        puller.pull(16, 30)
        puller.pull(16, 0)

    assert server.connections == 1


@by_kind
@pytest.mark.parametrize("flaw", [answer(500), answer(200, b"<html>"), answer(200, length=99)])
def test_what_came_is_kept_though_another_call_failed(kind: str, flaw: bytes) -> None:
    scripts = once(messages(kind, 1)), once(flaw), once(messages(kind, 2))
    with pulling(kind, *scripts) as (_, puller):
        envelopes = puller.pull(16 * 3, 0)

    assert [one.handle for one in envelopes] == ["handle-1", "handle-2"]


class RunsOut(KeyRing):
    """Has credentials for one call only."""

    def current(self) -> Credentials:
        used, self._now = super().current(), Credentials("", "")
        if not used.access_key_id:
            raise SourceUnavailable("no token")
        return used


@by_kind
def test_what_came_is_kept_though_another_call_could_not_be_sent(kind: str) -> None:
    with ScriptedServer(always(messages(kind, 1))) as server:
        puller = make_puller(kind, server.url, RunsOut())
        envelopes = puller.pull(16 * 2, 0)
        puller.close()

    assert [one.handle for one in envelopes] == ["handle-1"]


@by_kind
def test_what_came_is_kept_though_another_call_was_never_answered(kind: str) -> None:
    with ScriptedServer(silent, always(messages(kind, 2))) as server:
        puller = make_puller(kind, server.url, pull_spare_s=DEADLINE_S)
        envelopes = puller.pull(16 * 2, 0)
        puller.close()

    assert [one.handle for one in envelopes] == ["handle-2"]


@by_kind
def test_where_nothing_came_a_failure_is_told(kind: str) -> None:
    with (
        pulling(kind, always(answer(404, NOTHING)), always(answer(500))) as (_, puller),
        pytest.raises(SourceUnavailable),
    ):
        puller.pull(16 * 2, 0)


@by_kind
def test_nothing_on_every_connection_is_an_empty_queue(kind: str) -> None:
    with pulling(kind, always(answer(404, NOTHING))) as (_, puller):
        assert puller.pull(16 * LANES, 0) == []


@by_kind
def test_each_call_that_was_denied_is_tried_once_more_with_fresh_credentials(kind: str) -> None:
    denied = answer(403, b"<Error><Code>AccessDenied</Code></Error>")

    def script(peer: Peer) -> None:
        while True:
            is_fresh = b"freshAK" in peer.request()
            peer.send(messages(kind, 1) if is_fresh else denied)

    fresh = Credentials("freshAK", "freshSK")
    with ScriptedServer(script) as server:
        puller = make_puller(kind, server.url, KeyRing(fresh, fresh))
        envelopes = puller.pull(16 * 2, 0)
        puller.close()

    assert len(envelopes) == 2
    assert len(server.requests) == 4


@by_kind
def test_cancel_ends_all_of_them(kind: str) -> None:
    with pulling(kind, silent) as (server, puller), ThreadPoolExecutor(1) as owner:
        running = owner.submit(puller.pull, 16 * LANES, 0)
        server.wait_for(lambda now: len(now.requests) == LANES)
        puller.cancel()
        ended = running.exception(LONG_S)

    assert isinstance(ended, SourceCancelled)


def test_an_answer_that_nobody_read_is_not_the_next_ones() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer(200, b"first"))
        peer.request()
        peer.send(answer(200, b"second"))

    with ScriptedServer(script, always(answer(200, b"third"))) as server:
        connection = Connection("127.0.0.1", server.port, https=False)
        request = b"GET / HTTP/1.1\r\n\r\n"
        connection.begin(request, LONG_S, interruptible=False)
        found = connection.exchange(request, LONG_S, interruptible=False)
        connection.close()

    assert found.body == b"third"
