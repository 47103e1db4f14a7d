"""An answer that would be large if one unpacked it: nobody asks for such, and nobody unpacks it."""

import gzip

import pytest

from receiptd.errors import SourceUnavailable
from tests.providers.loopback import Loopback, answering, response
from tests.providers.rpc_harness import caught, make_client
from tests.pullers.puller_harness import KINDS, make_puller
from tests.pullers.scripted_server import ScriptedServer, always, answer, batch, message

_PACKED = b"Content-Encoding: gzip\r\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_batch_is_no_batch(kind: str) -> None:
    # 16 MiB in 16 KiB; unpacked it would be a good answer, but for the cap of 4 MiB.
    bomb = gzip.compress(batch(message(kind)) + b" " * (16 << 20))
    with ScriptedServer(always(answer(200, bomb, _PACKED.decode().strip()))) as server:
        puller = make_puller(kind, server.url)
        with pytest.raises(SourceUnavailable) as pulled:
            puller.pull(16, 0)
        puller.close()

    assert pulled.value.code == "bad_answer"
    assert b"Accept-Encoding: identity" in server.requests[0]


def test_a_packed_answer_of_an_api_is_none() -> None:
    with (
        Loopback(answering(response(gzip.compress(b'{"Code":"OK"}'), headers=_PACKED))) as server,
        make_client(server.url) as client,
    ):
        assert caught(client).code == "bad_answer"
