"""Broker and network faults (rows B of the fault matrix): each ends in time, with the right class,
and is never taken for an empty queue."""

import time
from collections.abc import Callable

import pytest

from receiptd.errors import SourceError, SourceRefused, SourceUnavailable
from receiptd.pullers.connection import MAX_BODY_BYTES
from tests.pullers.puller_harness import DEADLINE_S, KINDS, PATIENCE_S, make_puller
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

LATE_S = 1.0  # for a busy machine; the stock SDK needs 60 s or forever
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
PORTAL = b"<!DOCTYPE html><html><body>Welcome to Hotel WiFi</body></html>"

pytestmark = pytest.mark.parametrize("kind", KINDS)


def failure_of(kind: str, url: str, seconds: float = PATIENCE_S) -> SourceError:
    """Pull once; return the error it ended with, in time."""
    puller = make_puller(kind, url, seconds=seconds)
    started = time.monotonic()
    with pytest.raises(SourceError) as caught:
        puller.pull(16, 0)
    puller.close()
    assert time.monotonic() - started < seconds + LATE_S
    return caught.value


def whole_batch(kind: str) -> bytes:
    return batch(*(message(kind, number) for number in range(16)))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(lambda peer: peer.hang(), id="B3 says nothing"),
        pytest.param(lambda peer: (peer.request(), peer.hang()), id="B3 hangs after the request"),
        pytest.param(
            lambda peer: (peer.request(), peer.drip(answer(200, b"x" * 10_000))),
            id="B4 drips its headers",
        ),
        pytest.param(
            lambda peer: (
                peer.request(),
                peer.send(answer(200, length=9999)),
                peer.drip(b"x" * 9999),
            ),
            id="B4 drips its body",
        ),
        pytest.param(
            lambda peer: (
                peer.request(),
                peer.drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0.001),
            ),
            id="B4 sends interim answers without end",
        ),
    ],
)
def test_a_broker_that_stalls_costs_no_more_than_the_deadline(
    kind: str, script: Callable[[Peer], object]
) -> None:
    with ScriptedServer(script) as server:
        error = failure_of(kind, server.url, DEADLINE_S)

    assert isinstance(error, SourceUnavailable)
    assert error.code in ("timeout", "bad_answer")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(b"", "reset", id="B11 closes without an answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nDate: x\r\n", "reset", id="B6 closes in the headers"),
        pytest.param(answer(200, b"<Messages>", length=500), "reset", id="B6 short body"),
        pytest.param(answer(200, batch()[:-4]), "bad_answer", id="B6 truncated xml"),
        pytest.param(answer(200, b""), "bad_answer", id="B7 200 without a body"),
        pytest.param(answer(204), "bad_answer", id="B7 204"),
        pytest.param(answer(200, PORTAL), "bad_answer", id="B7 portal"),
        pytest.param(answer(200, HTML), "bad_answer", id="B7 200 html"),
        pytest.param(answer(502, HTML), "bad_answer", id="B7 502 html"),
        pytest.param(answer(503), "bad_answer", id="B7 503 empty"),
        pytest.param(answer(504, HTML), "bad_answer", id="B7 504 html"),
        pytest.param(answer(429, b"slow down"), "bad_answer", id="B7 429"),
        pytest.param(answer(408, HTML), "bad_answer", id="a proxy's 408 is not our clock"),
        pytest.param(answer(404, HTML), "bad_answer", id="404 html is not an empty queue"),
        pytest.param(answer(404, NOTHING[:-9]), "bad_answer", id="404 with half an error"),
        pytest.param(answer(200, NOTHING), "bad_answer", id="MessageNotExist needs a 404"),
        pytest.param(answer(207, batch()), "bad_answer", id="207"),
        pytest.param(answer(301, b"", "Location: http://127.0.0.1/"), "bad_answer", id="B9 301"),
        pytest.param(answer(302, HTML, "Location: /login"), "bad_answer", id="B9 302"),
        pytest.param(answer(307, b"", "Location: https://x/"), "bad_answer", id="B9 307"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n", "bad_answer", id="not http"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", "bad_answer", id="no status"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "bad_answer", id="bad length"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "bad_answer",
            id="two lengths",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "bad_answer",
            id="chunks",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "bad_answer", id="coding"
        ),
    ],
)
def test_an_answer_that_is_no_batch_is_an_outage_and_never_an_empty_queue(
    kind: str, sent: bytes, code: str
) -> None:
    with ScriptedServer(once(sent)) as server:
        error = failure_of(kind, server.url)

    assert isinstance(error, SourceUnavailable)
    assert error.code == code
    assert len(server.requests) == 1


def test_a_reset_in_the_body_is_an_outage(kind: str) -> None:
    sent = answer(200, b"<Messages>", length=500)
    with ScriptedServer(once(sent, Peer.reset)) as server:
        error = failure_of(kind, server.url)

    assert (type(error), error.code) == (SourceUnavailable, "reset")


@pytest.mark.parametrize(
    ("status", "code", "wanted"),
    [
        (400, "QpsLimitExceeded", SourceUnavailable),
        (500, "InternalError", SourceUnavailable),
        (500, "InternalServerError", SourceUnavailable),
        (503, "ServiceUnavailable", SourceUnavailable),
        (503, "SomethingNew", SourceUnavailable),
        (302, "InternalError", SourceUnavailable),
        (408, "TimeExpired", SourceUnavailable),
        (400, "TimeExpired", SourceUnavailable),
        (403, "AccessDenied", SourceRefused),
        (403, "InvalidAccessKeyId", SourceRefused),
        (403, "SignatureDoesNotMatch", SourceRefused),
        (403, "SomethingNew", SourceRefused),
        (401, "SomethingNew", SourceRefused),
        (400, "InvalidSecurityToken.Expired", SourceRefused),
        (404, "QueueNotExist", SourceRefused),
        (404, "TopicNotExist", SourceRefused),
        (400, "InvalidArgument", SourceRefused),
        (400, "MalformedXML", SourceRefused),
        (400, "SomethingNew", SourceRefused),
    ],
)
def test_error_codes_are_told_apart_by_what_the_worker_does_next(
    kind: str, status: int, code: str, wanted: type[SourceError]
) -> None:
    body = NOTHING.replace(b"MessageNotExist", code.encode())
    with ScriptedServer(always(answer(status, body))) as server:
        error = failure_of(kind, server.url)

    assert type(error) is wanted
    assert (error.code, error.http_status) == (code, status)
    assert error.request_id == "663881B9463338E6D1A3D4F1"
    assert error.cure


@pytest.mark.parametrize(
    "body",
    [
        b"<Error><Code>InternalError</Code></Error>",
        b"<Error><Message>x</Message><Code> InternalError </Code></Error>",
        b'<e:Error xmlns:e="urn:x"><e:Code>InternalError</e:Code></e:Error>',
    ],
)
def test_errors_with_missing_elements_still_tell_their_code(kind: str, body: bytes) -> None:
    with ScriptedServer(always(answer(500, body))) as server:
        assert failure_of(kind, server.url).code == "InternalError"


@pytest.mark.parametrize(
    "code", ["13900000001", "LTAI5tCanaryKey0001", "a phone: 139", "x" * 70, "<b/>", ""]
)
def test_a_code_that_is_none_is_not_repeated(kind: str, code: str) -> None:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    with ScriptedServer(always(answer(400, body))) as server:
        assert failure_of(kind, server.url).code == "bad_answer"


def test_an_error_that_blames_our_clock_tells_how_far_it_is_off(kind: str) -> None:
    body = NOTHING.replace(b"MessageNotExist", b"TimeExpired")
    with ScriptedServer(always(answer(408, body))) as server:
        error = failure_of(kind, server.url)

    assert "clock is +" in error.cure
    assert " s off" in error.cure


def test_only_404_message_not_exist_is_an_empty_queue(kind: str) -> None:
    with ScriptedServer(always(answer(404, NOTHING))) as server:
        puller = make_puller(kind, server.url)
        pulled = puller.pull(16, 0), puller.pull(16, 0)
        puller.close()

    assert pulled == ([], [])
    assert server.connections == 1


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(answer(200, b"x" * 100, length=200 << 20), id="announced"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nC800000\r\n" + b"x" * 100,
            id="chunked",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, id="in the headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BODY_BYTES + 1), id="until close"),
    ],
)
def test_an_answer_of_200_mib_is_not_read(kind: str, sent: bytes) -> None:
    with ScriptedServer(once(sent, Peer.hang)) as server:
        error = failure_of(kind, server.url)

    assert (type(error), error.code) == (SourceUnavailable, "too_big")


@pytest.mark.parametrize(
    "framed",
    [
        pytest.param(
            lambda body: (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%s\r\n"
                b"0\r\nTrailer: x\r\n\r\n" % (len(body), body)
            ),
            id="one chunk and a trailer",
        ),
        pytest.param(
            lambda body: (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
                + b"".join(b"1\r\n%c\r\n" % byte for byte in body)
                + b"0\r\n\r\n"
            ),
            id="chunks of one byte",
        ),
        pytest.param(lambda body: b"HTTP/1.0 200 OK\r\n\r\n" + body, id="until close"),
        pytest.param(
            lambda body: b"HTTP/1.1 100 Continue\r\n\r\n" + answer(200, body), id="100 first"
        ),
        pytest.param(lambda body: answer(200, body, "Connection: close"), id="close"),
    ],
)
def test_every_framing_of_http_brings_the_whole_batch(
    kind: str, framed: Callable[[bytes], bytes]
) -> None:
    with ScriptedServer(once(framed(whole_batch(kind)))) as server:
        puller = make_puller(kind, server.url)
        pulled = puller.pull(16, 0)
        puller.close()

    assert len(pulled) == 16


def test_an_entity_bomb_is_defused(kind: str) -> None:
    levels = b"".join(
        b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10) for level in range(1, 10)
    )
    bomb = b'<!DOCTYPE x [<!ENTITY l0 "lol">' + levels + b"]>"
    document = bomb + batch(message(kind, 1), message(kind, 2, b"&l9;"))
    with ScriptedServer(always(answer(200, document))) as server:
        puller = make_puller(kind, server.url)
        sound, bad = puller.pull(16, 0)
        puller.close()

    assert (sound.flaw, bad.flaw) == (None, "damaged")
    assert b"&l9;" in bad.body


@pytest.mark.parametrize("codec", ["utf-16", "cp037"])
def test_a_document_cannot_hide_a_bomb_in_another_encoding(kind: str, codec: str) -> None:
    text = '<!DOCTYPE x [<!ENTITY a "aaaa">]><Messages><Message>&a;</Message></Messages>'
    declaration = f'<?xml version="1.0" encoding="{codec}"?>'
    document = declaration.encode("ascii" if codec == "cp037" else codec) + text.encode(codec)
    with ScriptedServer(always(answer(200, document))) as server:
        assert failure_of(kind, server.url).code == "bad_answer"


def test_external_entities_are_not_fetched(kind: str) -> None:
    with ScriptedServer(always(b"")) as trap:
        document = b'<!DOCTYPE x [<!ENTITY e SYSTEM "%s/e">]>' % trap.url.encode() + batch(
            message(kind, 1, b"&e;")
        )
        with ScriptedServer(always(answer(200, document))) as server:
            puller = make_puller(kind, server.url)
            (bad,) = puller.pull(16, 0)
            puller.close()

    assert bad.flaw == "damaged"
    assert trap.connections == 0


def test_xml_of_endless_depth_is_refused_in_time(kind: str) -> None:
    with ScriptedServer(always(answer(200, b"<a>" * 200_000))) as server:
        assert failure_of(kind, server.url).code == "bad_answer"


def test_proxies_of_the_environment_are_ignored(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with ScriptedServer(always(answer(404, NOTHING))) as server:
        puller = make_puller(kind, server.url)
        assert puller.pull(16, 0) == []
        puller.close()
