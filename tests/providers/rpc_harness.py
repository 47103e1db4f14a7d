"""A client for the tests of the RPC gateway, with canaries for secrets."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from receiptd.clock import SystemClock
from receiptd.errors import SourceError
from receiptd.model import Credentials
from receiptd.providers.aliyun.rpc import RpcClient
from receiptd.providers.http import HttpClient
from tests.providers.loopback import Loopback, Peer, Script, response

KEY = Credentials("canaryKeyId", "canarySecret", "canaryToken")
PHONE = "13912345678"
PARAMETERS = {"PhoneNumber": PHONE, "SendDate": "20240506", "PageSize": "50", "CurrentPage": "1"}
CANARIES = (KEY.access_key_id, KEY.access_key_secret, KEY.security_token, PHONE, "Signature=")
GOOD = b'{"Code":"OK","Message":"OK","RequestId":"r-1","BizId":9007199254740993.10}'
DATE = b"Date: Mon, 06 May 2024 07:08:09 GMT\r\n"
DEADLINE_S = 0.4


@contextlib.contextmanager
def make_client(url: str, **options: Any) -> Iterator[RpcClient]:
    clock = options.pop("clock", SystemClock())
    options.setdefault("timeout_s", DEADLINE_S)
    client = RpcClient(url, "2017-05-25", KEY, clock, http=HttpClient(clock, **options))
    try:
        yield client
    finally:
        client.close()


def failure_of(script: Script, **options: Any) -> SourceError:
    with Loopback(script) as server, make_client(server.url, **options) as client:
        return caught(client)


def caught(client: RpcClient) -> SourceError:
    with pytest.raises(SourceError) as caught:
        client.call("QuerySendDetails", PARAMETERS)
    return caught.value


def assert_clean(error: BaseException) -> None:
    for canary in CANARIES:
        assert canary not in str(error)
        assert canary not in repr(error)


def hang(peer: Peer) -> None:
    """Take the request and say nothing."""
    peer.request()
    peer.hang()


def say_nothing_at_all(peer: Peer) -> None:
    """Do not even read."""
    peer.hang()


def drip_body(peer: Peer) -> None:
    """Promise a body and send it byte by byte."""
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    peer.drip(b" " * 100_000)


def short_body(peer: Peer) -> None:
    """Promise more than comes."""
    peer.request()
    peer.send(response(GOOD, length=len(GOOD) + 10))


def hang_up(peer: Peer) -> None:
    """Close instead of answering."""
    peer.request()


def no_http(peer: Peer) -> None:
    """Speak another protocol."""
    peer.request()
    peer.send(b"220 smtp ready\r\n\r\n")
