"""Credentials that expire: one refresh, one more try, then the operator's turn."""

import pytest

from receiptd.errors import SourceCancelled, SourceRefused
from receiptd.model import Credentials
from receiptd.pullers.base import AckResult
from tests.pullers.puller_harness import KINDS, KeyRing, committed, make_puller
from tests.pullers.scripted_server import (
    NOTHING,
    Peer,
    ScriptedServer,
    always,
    answer,
    batch,
    message,
)

pytestmark = pytest.mark.parametrize("kind", KINDS)

OLD = Credentials("oldAK", "oldSK", "oldToken")
NEW = Credentials("newAK", "newSK", "newToken")


def denied(status: int = 403, code: str = "AccessDenied") -> bytes:
    return answer(status, NOTHING.replace(b"MessageNotExist", code.encode()))


def strict(good: bytes, bad: bytes) -> ScriptedServer:
    """A broker that takes the new token only."""

    def script(peer: Peer) -> None:
        while True:
            peer.send(good if b"security-token: newToken" in peer.request() else bad)

    return ScriptedServer(script)


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (401, "Anything"), (400, "InvalidSecurityToken"), (403, "<html/>")],
)
def test_a_pull_that_is_denied_is_tried_once_more_with_fresh_credentials(
    kind: str, status: int, code: str
) -> None:
    ring = KeyRing(NEW, first=OLD)
    with strict(answer(200, batch(message(kind))), denied(status, code)) as server:
        puller = make_puller(kind, server.url, ring)
        pulled = puller.pull(16, 0)
        puller.close()

    assert len(pulled) == 1
    assert ring.refusals == [OLD]
    assert (len(server.requests), server.connections) == (2, 1)


def test_an_ack_that_is_denied_is_tried_once_more_with_fresh_credentials(kind: str) -> None:
    ring = KeyRing(NEW, first=OLD)
    with strict(answer(204), denied()) as server:
        puller = make_puller(kind, server.url, ring)
        result = puller.ack(committed("handle-1"))
        puller.close()

    assert result == AckResult(acked=1)


def test_without_fresh_credentials_a_denial_is_a_refusal_at_once(kind: str) -> None:
    ring = KeyRing(first=OLD)
    with ScriptedServer(always(denied())) as server:
        puller = make_puller(kind, server.url, ring)
        with pytest.raises(SourceRefused):
            puller.pull(16, 0)
        puller.close()

    assert len(server.requests) == 1


def test_credentials_are_not_refreshed_in_a_loop(kind: str) -> None:
    ring = KeyRing(NEW, NEW, NEW, first=OLD)
    with ScriptedServer(always(denied())) as server:
        puller = make_puller(kind, server.url, ring)
        with pytest.raises(SourceRefused):
            puller.pull(16, 0)
        puller.close()

    assert ring.refusals == [OLD]
    assert len(server.requests) == 2


def test_each_call_is_signed_with_the_credentials_of_that_moment(kind: str) -> None:
    ring = KeyRing(NEW, first=OLD)
    with ScriptedServer(always(answer(404, NOTHING))) as server:
        puller = make_puller(kind, server.url, ring)
        puller.pull(16, 0)
        ring.refused(OLD)
        puller.pull(16, 0)
        puller.close()

    assert b"oldAK:" in server.requests[0]
    assert b"newAK:" in server.requests[1]


def test_a_cancel_during_the_refresh_ends_the_pull(kind: str) -> None:
    class CancellingRing(KeyRing):
        def refused(self, used: Credentials) -> bool:
            puller.cancel()
            return super().refused(used)

    with ScriptedServer(always(denied())) as server:
        puller = make_puller(kind, server.url, CancellingRing(NEW, first=OLD))
        with pytest.raises(SourceCancelled):
            puller.pull(16, 0)
        puller.close()

    assert len(server.requests) == 1
