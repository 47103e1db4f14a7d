"""What is an answer and what is not, byte by byte: no half of one may pass for a whole."""

import pytest

from receiptd.pullers.http1 import Answer, AnswerReader, WireError


def read(*pieces: bytes, most: int = 100) -> Answer:
    """Read an answer that comes in these pieces, before the connection is closed."""
    coming = iter(pieces)
    return AnswerReader(lambda: next(coming, b""), lambda: 7.0, most).read()


def refused(*pieces: bytes) -> str:
    with pytest.raises(WireError) as caught:
        read(*pieces)
    return caught.value.code


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/2.0 200 OK",
        b"SSH-2.0-OpenSSH",
        b"HTTP/1.1 abc OK",
        b"HTTP/1.1 \xb2\xb2\xb2 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1",
        b"",
    ],
)
def test_a_first_line_that_is_none_is_no_answer(line: bytes) -> None:
    assert refused(line + b"\r\nContent-Length: 0\r\n\r\n") == "bad_answer"


@pytest.mark.parametrize(
    "header",
    [
        b"no colon",
        b": no name",
        b"name : blank",
        b" folded: line",
        b"Content-Length: 2\r\nContent-Length: 3",
        b"Content-Length: +2",
        b"Content-Length: -2",
        b"Content-Length: 2_0",
        b"Content-Length: " + b"1" * 20,
        b"Transfer-Encoding: gzip",
    ],
)
def test_a_header_that_leaves_a_doubt_is_no_answer(header: bytes) -> None:
    assert refused(b"HTTP/1.1 200 OK\r\n" + header + b"\r\n\r\nab") == "bad_answer"


@pytest.mark.parametrize("size", [b"zz", b"-1", b""])
def test_a_chunk_whose_size_is_no_number_is_no_answer(size: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    assert refused(head + size + b"\r\nab\r\n0\r\n\r\n") == "bad_answer"
    assert refused(head + b"2\r\nabc\r\n0\r\n\r\n") == "bad_answer"
    assert refused(head + b"2\r\nab\r\n0\r\n" + b"t: v\r\n" * 1000) == "bad_answer"


def test_an_answer_that_is_always_yet_to_come_is_none() -> None:
    assert refused(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000) == "bad_answer"


@pytest.mark.parametrize("cut", range(1, 60))
def test_an_answer_is_the_same_however_it_is_cut(cut: int) -> None:
    whole = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;name=value\r\nab\r\n1\r\nc\r\n0\r\ntrailer: t\r\n\r\n"
    )
    pieces = [whole[at : at + cut] for at in range(0, len(whole), cut)]

    answer = read(*pieces)

    assert (answer.status, answer.body, answer.arrived_at) == (200, b"abc", 7.0)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"", b"abc"),  # until the connection closes
        (b"Content-Length: 3\r\n", b"abc"),
        (b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
    ],
)
def test_a_body_has_a_most_that_it_may_be(head: bytes, body: bytes) -> None:
    pieces = [b"HTTP/1.1 200 OK\r\n" + head + b"\r\n", *(body[at : at + 1] for at in range(99))]

    assert read(*filter(None, pieces), most=3).body == b"abc"
    with pytest.raises(WireError) as caught:
        read(*filter(None, pieces), most=2)
    assert caught.value.code == "too_big"


@pytest.mark.parametrize(
    ("version", "header", "rest", "kept"),
    [
        (b"1.1", b"Content-Length: 0", b"", True),
        (b"1.1", b"Content-Length: 0\r\nConnection: close", b"", False),
        (b"1.0", b"Content-Length: 0", b"", False),
        (b"1.0", b"Content-Length: 0\r\nConnection: keep-alive", b"", True),
        (b"1.1", b"Server: x", b"", False),
        (b"1.1", b"Content-Length: 0", b"HTTP/1.1 200 OK", False),
        (b"1.1", b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", False),
    ],
)
def test_a_connection_is_kept_only_where_nothing_can_be_left_on_it(
    version: bytes, header: bytes, rest: bytes, kept: bool
) -> None:
    coming = iter([b"HTTP/" + version + b" 200 OK\r\n" + header + b"\r\n\r\n" + rest])
    reader = AnswerReader(lambda: next(coming, b""), lambda: 0.0, 100)
    reader.read()

    assert reader.keep_alive is kept
