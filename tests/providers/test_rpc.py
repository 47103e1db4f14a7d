"""What the RPC client sends, and what it makes of answers."""

import logging
from urllib.parse import parse_qsl

import pytest

from receiptd.clock import ManualClock
from receiptd.errors import SourceError, SourceRefused, SourceUnavailable
from receiptd.providers.aliyun.rpc import signature
from tests.providers.loopback import Loopback, Peer, Script, answering, response
from tests.providers.rpc_harness import (
    CANARIES,
    DATE,
    GOOD,
    KEY,
    PARAMETERS,
    PHONE,
    assert_clean,
    caught,
    drip_body,
    failure_of,
    hang,
    hang_up,
    make_client,
    no_http,
    short_body,
)


def test_a_good_answer_comes_with_the_servers_clock_and_exact_numbers() -> None:
    with (
        Loopback(answering(response(GOOD, headers=DATE))) as server,
        make_client(server.url) as client,
    ):
        answer = client.call("QuerySendDetails", PARAMETERS)

    assert answer.data["BizId"] == "9007199254740993.10"
    assert str(answer.server_time) == "2024-05-06 07:08:09+00:00"


def test_parameters_travel_in_the_body_signed_with_a_fresh_nonce_and_the_clocks_time() -> None:
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        while True:
            seen.append(peer.request())
            peer.send(response(GOOD))

    with Loopback(script) as server, make_client(server.url, clock=ManualClock()) as client:
        client.call("QuerySendDetails", PARAMETERS)
        client.call("QuerySendDetails", PARAMETERS)

    assert server.connections == 1
    nonces = set()
    for request in seen:
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST / HTTP/1.1\r\n")
        form = dict(parse_qsl(body.decode(), strict_parsing=True))
        sent = form.pop("Signature")
        assert sent == signature("POST", form, KEY.access_key_secret)
        assert form["Timestamp"] == "2026-01-01T00:00:00Z"
        assert form["Format"] == "JSON"
        assert form["SecurityToken"] == KEY.security_token
        assert form["PhoneNumber"] == PHONE
        nonces.add(form["SignatureNonce"])
    assert len(nonces) == 2


def test_a_host_without_a_scheme_means_https() -> None:
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        seen.append(peer.sock.recv(3))

    with (
        Loopback(script) as server,
        make_client(server.url.removeprefix("http://")) as client,
    ):
        caught(client)

    assert seen[0][:2] == b"\x16\x03"  # a TLS handshake


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("200 OK", b"<html>" + PHONE.encode() + b"</html>"),
        ("200 OK", GOOD[:20]),
        ("200 OK", b""),
        ("200 OK", b"[]"),
        ("200 OK", b"null"),
        ("200 OK", b'"OK"'),
        ("200 OK", b"{}"),
        ("200 OK", b'{"Code":null}'),
        ("200 OK", b'{"Code":200}'),
        ("200 OK", b'{"Code":"two words"}'),
        ("200 OK", b'{"Code":"\xff"}'),
        ("200 OK", b"[" * 100_000),
        ("502 Bad Gateway", b"<html>"),
        ("500 Oops", b'{"Code":"OK"}'),
        ("301 Moved", GOOD),
        ("204 No Content", b""),
    ],
)
def test_what_the_api_never_says_is_a_bad_answer(status: str, body: bytes) -> None:
    error = failure_of(answering(response(body, status=status)))

    assert isinstance(error, SourceUnavailable)
    assert error.code == "bad_answer"
    assert error.http_status == int(status.split()[0])


def test_a_redirect_is_not_followed() -> None:
    with Loopback(answering(response(GOOD))) as elsewhere:
        location = f"Location: {elsewhere.url}/\r\n".encode()
        error = failure_of(answering(response(b"", status="307 Moved", headers=location)))

        assert error.code == "bad_answer"
        assert elsewhere.connections == 0


def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Loopback(answering(response(GOOD))) as server, Loopback(hang_up) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)

        with make_client(server.url) as client:
            client.call("QuerySendDetails", PARAMETERS)

        assert proxy.connections == 0


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        ("400 Bad", "Throttling.User", SourceUnavailable),
        ("200 OK", "Throttling", SourceUnavailable),
        ("200 OK", "isv.BUSINESS_LIMIT_CONTROL", SourceUnavailable),
        ("200 OK", "isp.SYSTEM_ERROR", SourceUnavailable),
        ("200 OK", "isp.NEVER_SEEN", SourceUnavailable),
        ("400 Bad", "SignatureNonceUsed", SourceUnavailable),
        ("503 Busy", "ServiceUnavailable", SourceUnavailable),
        ("500 Oops", "NeverSeen", SourceUnavailable),
        ("429 Slow", "NeverSeen", SourceUnavailable),
        ("400 Bad", "NeverSeen", SourceRefused),
        ("403 No", "Forbidden.RAM", SourceRefused),
        ("404 No", "InvalidAccessKeyId.NotFound", SourceRefused),
        ("400 Bad", "SignatureDoesNotMatch", SourceRefused),
        ("400 Bad", "InvalidTimeStamp.Expired", SourceRefused),
        ("404 No", "InvalidAction.NotFound", SourceRefused),
        ("200 OK", "isp.RAM_PERMISSION_DENY", SourceRefused),
        ("200 OK", "isv.OUT_OF_SERVICE", SourceRefused),
        ("200 OK", "isv.INVALID_PARAMETERS", SourceRefused),
    ],
)
def test_a_code_says_whether_waiting_helps(status: str, code: str, kind: type[SourceError]) -> None:
    body = f'{{"Code":"{code}","Message":"{PHONE}","RequestId":"0A1B-2C"}}'.encode()

    error = failure_of(answering(response(body, status=status)))

    assert type(error) is kind
    assert error.code == code
    assert error.http_status == int(status.split()[0])
    assert error.request_id == "0A1B-2C"


def test_a_skewed_clock_is_named_with_its_size() -> None:
    body = b'{"Code":"InvalidTimeStamp.Expired","RequestId":"r"}'
    clock = ManualClock()  # 2026-01-01, and the server says 2024-05-06

    error = failure_of(answering(response(body, status="400 Bad", headers=DATE)), clock=clock)

    assert "set the host's clock" in error.cure
    assert "s ahead" in error.cure


@pytest.mark.parametrize("canary", [KEY.access_key_id, KEY.access_key_secret, PHONE])
def test_an_answer_that_repeats_what_we_sent_is_not_repeated_by_us(canary: str) -> None:
    body = f'{{"Code":"Echo.{canary}","Message":"{canary}","RequestId":"{canary}"}}'.encode()

    error = failure_of(answering(response(body, status="400 Bad")))

    assert error.code == "bad_answer"
    assert_clean(error)


def echo(peer: Peer) -> None:
    request = peer.request()
    peer.send(response(request, status="500 Oops", headers=b"X-Echo: " + request[-200:] + b"\r\n"))


@pytest.mark.parametrize(
    "script",
    [echo, hang, short_body, hang_up, no_http, drip_body, answering(response(b'{"Code":"X"}'))],
    ids=["echo", "hang", "short", "hang up", "no http", "drip", "code"],
)
def test_no_error_and_no_log_line_holds_a_key_or_a_phone(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    error = failure_of(script)

    assert_clean(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    if script is not echo:  # a server that puts the request into its headers has it in ours
        for canary in CANARIES:
            assert canary not in caplog.text


def test_what_is_shown_of_the_objects_holds_no_secret() -> None:
    with (
        Loopback(answering(response(GOOD))) as server,
        make_client(server.url) as client,
    ):
        answer = client.call("QuerySendDetails", PARAMETERS)
        for canary in (*CANARIES, "9007199254740993"):
            assert canary not in repr(answer) + repr(client) + repr(vars(client))
