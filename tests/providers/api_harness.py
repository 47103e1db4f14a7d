"""What the tests of query and send clients share: a server that records, and canaries."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from receiptd.clock import ManualClock
from receiptd.providers.base import Asked
from tests.providers.loopback import Loopback, Peer, response

CLOCK_AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
PHONE = "+8613912345678"
ASKED = Asked(biz_id="900000000000000001^0", phone=PHONE, submitted_at=CLOCK_AT, out_id="order-42")


class Recorder:
    """Answers each request with the next of `answers`, the last one for ever; keeps requests."""

    def __init__(self, answers: Sequence[object]) -> None:
        self._answers = [one if isinstance(one, bytes) else whole(one) for one in answers]
        self.requests: list[bytes] = []

    def __call__(self, peer: Peer) -> None:
        while True:
            self.requests.append(peer.request())
            peer.send(self._answers[min(len(self.requests), len(self._answers)) - 1])

    @property
    def forms(self) -> list[dict[str, str]]:
        bodies = [request.partition(b"\r\n\r\n")[2] for request in self.requests]
        return [dict(parse_qsl(body.decode(), keep_blank_values=True)) for body in bodies]

    @property
    def head(self) -> str:
        return self.requests[-1].partition(b"\r\n\r\n")[0].decode()

    @property
    def body(self) -> bytes:
        return self.requests[-1].partition(b"\r\n\r\n")[2]


def whole(answer: object, status: str = "200 OK") -> bytes:
    return response(json.dumps(answer).encode(), status=status)


@contextlib.contextmanager
def answering_with(*answers: object) -> Iterator[tuple[str, Recorder]]:
    recorder = Recorder(answers)
    with Loopback(recorder) as server:
        yield server.url, recorder


def clock() -> ManualClock:
    return ManualClock(CLOCK_AT)
