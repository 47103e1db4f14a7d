"""Acks (rows A of the fault matrix): acked is only what the broker said is gone."""

import pytest

from receiptd.errors import SourceRefused, SourceUnavailable
from receiptd.model import Committed
from receiptd.pullers.base import AckResult
from tests.pullers.puller_harness import DEADLINE_S, KINDS, committed, make_puller
from tests.pullers.scripted_server import (
    NOTHING,
    Peer,
    ScriptedServer,
    always,
    answer,
    batch,
    message,
    once,
)

pytestmark = pytest.mark.parametrize("kind", KINDS)

SIXTEEN = [f"handle-{number}" for number in range(16)]


def failures(*entries: tuple[str, str]) -> bytes:
    items = "".join(
        f"<Error><ErrorCode>{code}</ErrorCode><ErrorMessage></ErrorMessage>"
        f"<ReceiptHandle>{handle}</ReceiptHandle></Error>"
        for handle, code in entries
    )
    return f'<?xml version="1.0"?><Errors xmlns="urn:any">{items}</Errors>'.encode()


def ack(kind: str, sent: bytes, *handles: str) -> AckResult:
    with ScriptedServer(always(sent)) as server:
        puller = make_puller(kind, server.url)
        try:
            return puller.ack(committed(*handles))
        finally:
            puller.close()


def test_204_means_that_every_handle_is_acked(kind: str) -> None:
    assert ack(kind, answer(204), *SIXTEEN) == AckResult(acked=16)


@pytest.mark.parametrize("status", [404, 400])
def test_only_listed_handles_are_not_acked(kind: str, status: int) -> None:
    body = failures(
        ("handle-3", "MessageNotExist"),
        ("handle-7", "ReceiptHandleError"),
        ("handle-9", "InternalError"),
    )

    result = ack(kind, answer(status, body), *SIXTEEN)

    assert result == AckResult(acked=13, expired=2, failed=1)


def test_a_failure_that_names_no_handle_of_ours_is_counted_against_us(kind: str) -> None:
    body = failures(("", "InternalError"), ("handle-99", "MessageNotExist"))

    assert ack(kind, answer(404, body), *SIXTEEN) == AckResult(acked=14, failed=2)


def test_more_failures_than_handles_do_not_make_the_count_negative(kind: str) -> None:
    body = failures(*((f"other-{number}", "InternalError") for number in range(40)))

    assert ack(kind, answer(404, body), "handle-1") == AckResult(failed=1)


def test_handles_come_back_as_they_were_sent_whatever_they_hold(kind: str) -> None:
    body = failures(("a&amp;b&lt;", "MessageNotExist"))

    assert ack(kind, answer(404, body), "a&b<", "c") == AckResult(acked=1, expired=1)


@pytest.mark.parametrize("code", ["MessageNotExist", "ReceiptHandleError"])
def test_a_whole_request_may_be_told_that_its_handles_are_gone(kind: str, code: str) -> None:
    body = NOTHING.replace(b"MessageNotExist", code.encode())

    assert ack(kind, answer(404, body), "h1", "h2") == AckResult(expired=2)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(answer(207, failures(("handle-1", "MessageNotExist"))), id="207 with errors"),
        pytest.param(answer(200, failures(("handle-1", "MessageNotExist"))), id="200 with errors"),
        pytest.param(answer(200, b"<html>welcome</html>"), id="200 html"),
        pytest.param(answer(200), id="200 empty"),
        pytest.param(answer(202), id="202"),
        pytest.param(answer(302, b"", "Location: /login"), id="302"),
        pytest.param(answer(307, b"", "Location: /login"), id="307"),
        pytest.param(answer(404, failures()), id="404 with no error listed"),
        pytest.param(answer(404, b"<html/>"), id="404 html"),
        pytest.param(answer(502, b"<html/>"), id="502 html"),
    ],
)
def test_whatever_is_not_clearly_a_success_acks_nothing(kind: str, sent: bytes) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        ack(kind, sent, "handle-1", "handle-2")

    assert caught.value.code == "bad_answer"


def test_a_queue_that_is_gone_is_a_refusal(kind: str) -> None:
    with pytest.raises(SourceRefused):
        ack(kind, answer(404, NOTHING.replace(b"MessageNotExist", b"QueueNotExist")), "handle-1")


def test_an_ack_whose_answer_is_lost_is_not_sent_again_by_itself(kind: str) -> None:
    with ScriptedServer(lambda peer: peer.request(), always(answer(204))) as server:
        puller = make_puller(kind, server.url)
        with pytest.raises(SourceUnavailable) as caught:
            puller.ack(committed("handle-1"))
        puller.close()

    assert caught.value.code == "reset"
    assert len(server.requests) == 1


def test_an_ack_that_is_never_answered_ends_at_its_deadline(kind: str) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.hang()

    with ScriptedServer(script) as server:
        puller = make_puller(kind, server.url, ack_s=DEADLINE_S)
        with pytest.raises(SourceUnavailable) as caught:
            puller.ack(committed("handle-1"))

    assert caught.value.code == "timeout"


@pytest.mark.parametrize("count", [0, 1, 16, 17, 40])
def test_handles_are_sent_sixteen_at_a_time_and_no_handle_is_no_call(kind: str, count: int) -> None:
    handles = [f"handle-{number}" for number in range(count)]
    with ScriptedServer(always(answer(204))) as server:
        puller = make_puller(kind, server.url)
        result = puller.ack([*committed(*handles), *committed("", "")])
        puller.close()

    sizes = [request.count(b"<ReceiptHandle>") for request in server.requests]
    assert result == AckResult(acked=count)
    assert sum(sizes) == count
    assert all(0 < size <= 16 for size in sizes)


def test_a_pulled_batch_is_acked_by_the_handles_that_came_with_it(kind: str) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer(200, batch(message(kind, 1), message(kind, 2))))
        peer.request()
        peer.send(answer(204))

    with ScriptedServer(script) as server:
        puller = make_puller(kind, server.url)
        result = puller.ack([Committed(envelope) for envelope in puller.pull(16, 0)])
        puller.close()

    assert result == AckResult(acked=2)
    assert b"<ReceiptHandle>handle-1</ReceiptHandle>" in server.requests[1]
    assert server.requests[1].startswith(b"DELETE /")
    assert server.connections == 1


def test_a_failed_second_group_is_told_beside_what_was_acked(kind: str) -> None:
    with ScriptedServer(always(answer(204)), always(answer(500))) as server:
        puller = make_puller(kind, server.url)
        result = puller.ack(committed(*SIXTEEN, "handle-16"))
        puller.close()

    assert (result.acked, result.expired, result.failed) == (16, 0, 1)
    assert isinstance(result.error, SourceUnavailable)


def test_where_every_group_fails_the_ack_fails(kind: str) -> None:
    with ScriptedServer(always(answer(500))) as server:
        puller = make_puller(kind, server.url)
        with pytest.raises(SourceUnavailable):
            puller.ack(committed(*SIXTEEN, "handle-16"))
        puller.close()


def test_nothing_is_sent_when_the_connection_cannot_be_made(kind: str) -> None:
    with ScriptedServer(once(b"")) as server:
        url = server.url
    puller = make_puller(kind, url)

    with pytest.raises(SourceUnavailable) as caught:
        puller.ack(committed("handle-1"))

    assert caught.value.code == "refused"
