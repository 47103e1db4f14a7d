"""No key, token, handle, phone or body in any exception that leaves a puller, whatever happened."""

import traceback

import pytest

from receiptd.errors import SourceError
from receiptd.model import Credentials
from tests.canaries import (
    CANARY_CONTENT,
    CANARY_HANDLE,
    CANARY_KEY_ID,
    CANARY_PHONE,
    CANARY_SECRET,
    CANARY_TOKEN,
    assert_holds_no_canary,
)
from tests.pullers.puller_harness import DEADLINE_S, KINDS, KeyRing, committed, make_puller
from tests.pullers.scripted_server import (
    NOTHING,
    Peer,
    Script,
    ScriptedServer,
    always,
    answer,
    batch,
    once,
)

CONFESSION = f"{CANARY_PHONE} {CANARY_CONTENT} {CANARY_HANDLE} {CANARY_KEY_ID} {CANARY_TOKEN}"
LOOSE = CONFESSION.encode()
ERROR = NOTHING.replace(b"Message not exist.", LOOSE)
FAILED_ACK = (
    f"<Errors><Error><ErrorCode>{CANARY_PHONE}</ErrorCode><ErrorMessage>{CONFESSION}</ErrorMessage>"
    f"<ReceiptHandle>{CANARY_HANDLE}</ReceiptHandle></Error></Errors>"
).encode()

SCRIPTS: dict[str, Script] = {
    "html": always(answer(200, b"<html>" + LOOSE)),
    "html 502": always(answer(502, LOOSE)),
    "refused": always(answer(403, ERROR.replace(b"MessageNotExist", b"AccessDenied"))),
    "code": always(answer(400, ERROR.replace(b"MessageNotExist", CANARY_PHONE.encode()))),
    "code is a key": always(answer(400, ERROR.replace(b"MessageNotExist", CANARY_KEY_ID.encode()))),
    "request id": always(
        answer(500, ERROR).replace(b"663881B9463338E6D1A3D4F1", CANARY_PHONE.encode() + b" x", 1)
    ),
    "location": always(answer(302, LOOSE, f"Location: https://x/?{CANARY_TOKEN}")),
    "not utf-8": always(answer(200, b"\xff" + LOOSE)),
    "not http": once(LOOSE + b"\r\n\r\n"),
    "bad header": once(b"HTTP/1.1 200 OK\r\n" + LOOSE + b"\r\n\r\n"),
    "short body": once(answer(200, LOOSE, length=9999)),
    "reset": once(answer(200, LOOSE, length=9999), Peer.reset),
    "cut": always(answer(200, batch(LOOSE)[:-3])),
    "chunks": once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + LOOSE + b"\r\n"),
    "hang": Peer.hang,
    "errors at 200": always(answer(200, FAILED_ACK)),
    "errors at 207": always(answer(207, FAILED_ACK)),
}


def everything_of(error: BaseException | None) -> str:
    """Return all text that a logger could get out of an exception and those behind it."""
    seen = ""
    while error is not None:
        seen += f"{error} {error!r} {error.args!r} {vars(error)!r}"
        seen += "".join(traceback.format_exception(error, chain=False))
        assert error.__cause__ is None
        error = error.__context__
    return seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_no_canary_is_seen_whatever_the_broker_answers(
    kind: str, script: Script, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    keys = Credentials(CANARY_KEY_ID, CANARY_SECRET, CANARY_TOKEN)
    with ScriptedServer(script) as server:
        puller = make_puller(kind, server.url, KeyRing(first=keys), seconds=DEADLINE_S)
        with pytest.raises(SourceError) as pulled:
            puller.pull(16, 0)
        with pytest.raises(SourceError) as acked:
            puller.ack(committed(CANARY_HANDLE))
        puller.close()

    assert_holds_no_canary(everything_of(pulled.value))
    assert_holds_no_canary(everything_of(acked.value))
    assert_holds_no_canary(caplog.text + "".join(capfd.readouterr()))
    assert pulled.value.__context__ is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "keys",
    [
        Credentials(CANARY_KEY_ID + "\n", CANARY_SECRET),
        Credentials(CANARY_KEY_ID, CANARY_SECRET, CANARY_TOKEN + "\r\nX: y"),
        Credentials(CANARY_KEY_ID + "六", CANARY_SECRET, CANARY_TOKEN),
        Credentials(CANARY_KEY_ID, CANARY_SECRET + "\ud800", CANARY_TOKEN),
    ],
)
def test_a_key_that_cannot_be_sent_is_not_quoted(kind: str, keys: Credentials) -> None:
    with ScriptedServer(always(answer(404, NOTHING))) as server:
        puller = make_puller(kind, server.url, KeyRing(first=keys))
        with pytest.raises(SourceError) as caught:
            puller.pull(16, 0)

    assert caught.value.code == "unsendable"
    assert server.requests == []
    assert_holds_no_canary(everything_of(caught.value))


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_forms_of_what_is_passed_around_hide_their_content(kind: str) -> None:
    raw = (
        f"<Message><MessageId>id-1</MessageId><ReceiptHandle>{CANARY_HANDLE}</ReceiptHandle>"
        f"<MessageBody>{CANARY_PHONE}</MessageBody></Message>"
    )
    with ScriptedServer(always(answer(200, batch(raw.encode())))) as server:
        puller = make_puller(kind, server.url)
        pulled = puller.pull(16, 0)
        puller.close()

    assert_holds_no_canary(repr(pulled))
    assert_holds_no_canary(repr(puller) + repr(vars(puller)))
