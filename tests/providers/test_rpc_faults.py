"""The RPC client against a server that does its worst; deadlines are real and short."""

import contextlib
import ssl
import threading
import time
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
import trustme

from receiptd.errors import SourceCancelled, SourceError, SourceRefused, SourceUnavailable
from tests.providers.loopback import Loopback, Peer, Script, answering, response
from tests.providers.rpc_harness import (
    DEADLINE_S,
    GOOD,
    PARAMETERS,
    caught,
    drip_body,
    failure_of,
    hang,
    hang_up,
    make_client,
    no_http,
    say_nothing_at_all,
    short_body,
)
from tests.pullers.puller_harness import authority, trust_the_authority


def drip_headers(peer: Peer) -> None:
    peer.request()
    peer.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"X-Filler: y\r\n" * 1000)


def drip_continues(peer: Peer) -> None:
    peer.request()
    while not peer.stopping.wait(0.01):
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")


def drip_chunks(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not peer.stopping.wait(0.01):
        peer.send(b"1\r\n \r\n")


@pytest.mark.parametrize(
    "script",
    [hang, say_nothing_at_all, drip_headers, drip_body, drip_continues, drip_chunks],
    ids=lambda script: script.__name__,
)
def test_a_call_ends_at_its_deadline_whatever_trickles_in(script: Script) -> None:
    started = time.monotonic()

    error = failure_of(script)

    assert isinstance(error, SourceUnavailable)
    assert error.code == "timeout"
    assert time.monotonic() - started < DEADLINE_S + 5


def test_a_tls_handshake_that_hangs_ends_at_the_deadline() -> None:
    with (
        Loopback(say_nothing_at_all) as server,
        make_client(server.url.replace("http:", "https:")) as client,
    ):
        error = caught(client)

    assert error.code == "timeout"


def over_tls(authority: trustme.CA, name: str) -> Script:
    """Return a script that answers well, with a certificate for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    def script(peer: Peer) -> None:
        with context.wrap_socket(peer.sock, server_side=True) as peer.sock:
            answering(response(GOOD))(peer)

    return script


def test_a_trusted_certificate_is_all_that_tls_needs() -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    with (
        Loopback(over_tls(authority, "127.0.0.1")) as server,
        make_client(server.url.replace("http:", "https:"), tls=tls, timeout_s=10) as client,
    ):
        assert client.call("QuerySendDetails", PARAMETERS).data["Code"] == "OK"
        assert client.call("QuerySendDetails", PARAMETERS).data["Code"] == "OK"
        assert server.connections == 1


def test_the_systems_certificates_are_read_before_the_first_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Loopback(over_tls(authority(), "127.0.0.1")) as server:
        trust_the_authority(monkeypatch, tmp_path)
        with make_client(server.url.replace("http:", "https:"), timeout_s=10) as client:
            monkeypatch.delenv("SSL_CERT_FILE")

            assert client.call("QuerySendDetails", PARAMETERS).data["Code"] == "OK"


@pytest.mark.parametrize("trusted", [True, False], ids=["wrong name", "unknown authority"])
def test_a_certificate_that_does_not_hold_is_refused(trusted: bool) -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context()
    if trusted:
        authority.configure_trust(tls)
    script = over_tls(authority, "elsewhere.example" if trusted else "127.0.0.1")
    with (
        Loopback(script) as server,
        make_client(server.url.replace("http:", "https:"), tls=tls, timeout_s=10) as client,
    ):
        error = caught(client)

    assert isinstance(error, SourceRefused)
    assert error.code == "untrusted_certificate"
    assert error.__context__ is None


def hang_up_in_headers(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nCont")


def huge_headers(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000)


@pytest.mark.parametrize(
    "script",
    [short_body, hang_up, hang_up_in_headers, no_http, huge_headers],
    ids=lambda script: script.__name__,
)
def test_a_broken_answer_is_no_answer(script: Script) -> None:
    error = failure_of(script, timeout_s=10)

    assert isinstance(error, SourceUnavailable)
    assert error.code == "broken"


def test_nobody_listening_is_unreachable() -> None:
    with Loopback(hang_up) as server:
        url = server.url

    with make_client(url) as client:
        error = caught(client)

    assert isinstance(error, SourceUnavailable)
    assert error.code == "unreachable"


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "http://" + "x" * 64 + ".example"])
def test_a_name_that_does_not_resolve_is_unreachable(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unresolved(host: str, *_: object, **__: object) -> None:
        host.encode("idna")
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unresolved)

    with make_client(url) as client:
        assert caught(client).code == "unreachable"


def test_a_dead_first_address_leaves_time_for_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    with Loopback(answering(response(GOOD))) as server:
        port = int(server.url.rpartition(":")[2])
        # 127.0.0.2 is loopback too, and nobody listens there.
        addresses = [(2, 1, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
        real = __import__("socket").getaddrinfo
        monkeypatch.setattr(
            "socket.getaddrinfo",
            lambda host, *args, **kwargs: (
                addresses if host == "two.example" else real(host, *args, **kwargs)
            ),
        )

        with make_client(f"http://two.example:{port}") as client:
            assert client.call("QuerySendDetails", PARAMETERS).data["Code"] == "OK"


def test_a_body_beyond_the_cap_is_given_up_early() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            peer.send(b"x" * 65536)

    error = failure_of(script, timeout_s=30, max_body_bytes=1 << 20)

    assert isinstance(error, SourceUnavailable)
    assert error.code == "too_big"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cancel_ends_a_running_call_at_once_and_refuses_later_ones(scheme: str) -> None:
    results: list[SourceError] = []
    with (
        Loopback(say_nothing_at_all) as server,
        make_client(server.url.replace("http:", f"{scheme}:"), timeout_s=60) as client,
    ):
        thread = threading.Thread(target=lambda: results.append(caught(client)))
        thread.start()
        server.accepted.wait()

        client.cancel()
        thread.join(5)

        assert not thread.is_alive()
        assert isinstance(results[0], SourceCancelled)
        assert isinstance(caught(client), SourceCancelled)


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    def one_answer(peer: Peer) -> None:
        peer.request()
        peer.send(response(GOOD))

    with Loopback(one_answer) as server, make_client(server.url, timeout_s=10) as client:
        for _ in range(3):
            with contextlib.suppress(SourceUnavailable):  # the FIN may not have come yet
                client.call("QuerySendDetails", PARAMETERS)
        assert server.connections >= 2


def test_a_client_serves_many_threads_each_with_its_own_answer() -> None:
    def script(peer: Peer) -> None:
        while True:
            form = dict(parse_qsl(peer.request().partition(b"\r\n\r\n")[2].decode()))
            peer.send(response(f'{{"Code":"OK","Echo":"{form["N"]}"}}'.encode()))

    wrong: list[str] = []
    with Loopback(script) as server, make_client(server.url, timeout_s=20) as client:

        def work(name: str) -> None:
            for _ in range(20):
                if client.call("Echo", {"N": name}).data["Echo"] != name:
                    wrong.append(name)

        threads = [threading.Thread(target=work, args=(str(n),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert server.connections <= 8
    assert wrong == []
