"""What a connection may cost: slow, huge and malformed requests end, and others go on."""

import asyncio
import socket
import threading
from contextlib import suppress

import pytest

from receiptd.web import server as web_server
from receiptd.web import shell
from receiptd.web.work import Busy, Pool
from tests.acceptance.process import eventually
from tests.row_counts import by_status
from tests.web.http_harness import PATIENCE_S, SECRET, own, read_all

HEAD = b"POST /v1/sends HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_a_head_that_never_ends_is_closed(server, monkeypatch):
    monkeypatch.setattr(web_server, "HEAD_S", 0.1)
    with server.connect() as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\nHost:")
        assert read_all(slow) == b""


def test_a_connection_that_says_nothing_is_closed(server, monkeypatch):
    monkeypatch.setattr(web_server, "HEAD_S", 0.1)
    with server.connect() as silent:
        assert read_all(silent) == b""


def test_a_second_head_that_never_ends_is_closed_too(server, monkeypatch):
    monkeypatch.setattr(web_server, "HEAD_S", 0.1)
    with server.connect() as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nHo")
        assert read_all(slow).count(b"HTTP/1.1 200") == 1


def test_a_body_that_does_not_come_is_answered_and_closed(server, monkeypatch):
    monkeypatch.setattr(shell, "BODY_S", 0.1)
    with server.connect() as slow:
        slow.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert read_all(slow).startswith(b"HTTP/1.1 408")


def test_a_handler_that_hangs_is_given_up(server, monkeypatch):
    monkeypatch.setattr(web_server, "REQUEST_S", 0.1)
    with server.connect() as slow:
        slow.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert read_all(slow) == b""


def test_a_body_that_says_it_is_huge_is_refused_before_it_comes(server):
    with server.connect() as huge:
        huge.sendall(HEAD + b"Content-Length: 2000000\r\n\r\n")
        assert read_all(huge).startswith(b"HTTP/1.1 413")


def test_a_body_that_turns_out_huge_is_refused(server):
    with server.connect() as huge:
        huge.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        with suppress(ConnectionError):
            for _ in range(40):
                huge.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        assert read_all(huge)[:20] in (b"", b"HTTP/1.1 413 Request")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\nConnection: close\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET /" + b"a" * 2_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 2_000_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_without_a_line_in_the_log(server, data, capfd):
    with server.connect() as wrong:
        with suppress(ConnectionError):  # refused before it had come as a whole
            wrong.sendall(data)
        answer = read_all(wrong)

    assert answer.startswith(b"HTTP/1.1 4") or answer == b""
    assert server.get("/livez").status == 200
    assert "warned" not in capfd.readouterr().err


def test_an_address_that_is_too_long_is_refused(server):
    assert server.get("/v1/receipts?out_id=" + "x" * 5000).status == 414


def test_more_connections_than_allowed_are_closed_at_once(server, monkeypatch):
    monkeypatch.setattr(web_server, "MOST_CONNECTIONS", 3)
    held = [server.connect() for _ in range(3)]
    try:
        held[0].sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert held[0].recv(100).startswith(b"HTTP/1.1 200")
        with server.connect() as one_more:
            assert read_all(one_more) == b""
    finally:
        for connection in held:
            connection.close()
    eventually(lambda: server.get("/livez").status == 200, 10)


def test_a_bug_is_answered_logged_and_survived(server, monkeypatch, capfd):
    monkeypatch.setattr(server.store, "reading", None)
    answer = server.get("/v1/receipts")

    assert (answer.status, answer.code) == (500, "bug")
    assert '"http.failed"' in capfd.readouterr().err
    assert server.get("/livez").status == 200


def test_a_caller_that_leaves_in_the_middle_of_its_body_is_no_bug(server, capfd):
    head = b"POST /push/pushed/%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n"
    with server.connect() as caller:
        caller.sendall(head % SECRET.encode() + b"[")
        caller.shutdown(socket.SHUT_WR)
        assert read_all(caller) == b""

    assert server.get("/livez").status == 200
    assert '"http.failed"' not in capfd.readouterr().err


def test_a_person_gets_an_error_as_a_page(server):
    answer = server.get("/nothing", Accept="text/html")

    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/html")


def test_what_waits_for_the_database_is_bounded_in_number_and_time():
    pool = Pool(threads=1, most_waiting=1, time_limit_s=0.1)
    gate = threading.Event()

    async def three() -> list[object]:
        jobs = [asyncio.ensure_future(pool.run(gate.wait, 10)) for _ in range(3)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    outcomes = asyncio.run(three())
    gate.set()
    pool.stop()

    assert [type(one) for one in outcomes] == [Busy] * 3
    assert sorted(str(one) for one in outcomes)[2] == "too many requests at once"
    assert not pool._threads[0].is_alive()


def test_a_request_that_is_being_answered_is_finished_at_the_stop(server):
    with server.connect() as busy:
        body = b'{"account":"main","biz_id":"1^0","phone":"13900000001"}'
        busy.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:10])
        eventually(lambda: len(server.http._server._server.server_state.tasks) == 1, 10)
        server.http.begin_stop()
        busy.sendall(body[10:])
        assert read_all(busy).startswith(b"HTTP/1.1 200")


def test_the_stop_takes_a_second_at_most_whatever_is_open(server):
    with server.connect() as silent, server.connect() as slow:
        silent.sendall(b"GET /livez HTTP/1.1\r\n")
        slow.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        eventually(lambda: len(server.http._server._server.server_state.connections) == 2, 10)
        server.http.begin_stop()

        assert server.http._server.wait_stopped()


def test_what_is_written_over_http_is_not_lost_by_a_stop(server):
    server.record(own(1))
    server.http.begin_stop()
    server.http.wait_stopped()

    assert by_status(server.store) == {"awaited": 1}


@pytest.mark.parametrize("_round", range(5))
def test_a_connection_that_comes_while_the_server_stops_is_not_left_open(_round):
    """Several at a time: asyncio is caught between accepting one and making it known."""
    taken = web_server.listen("127.0.0.1", 0)
    server = web_server.Server(_no_answer, taken)
    server.start()
    socket.create_connection(("127.0.0.1", server.port), PATIENCE_S).close()  # it serves
    known = [socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) for _ in range(30)]
    server.begin_stop()
    assert server.wait_stopped()
    for one in known:
        with one, suppress(ConnectionError):
            assert one.recv(1) == b""


async def _no_answer(scope, receive, send):
    raise AssertionError("nobody asks")
