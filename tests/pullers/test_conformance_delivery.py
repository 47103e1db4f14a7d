"""The delivery suite: each built-in puller under the worker, the pipeline and the store."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from receiptd.errors import SourceUnavailable
from receiptd.sandbox import Sandbox
from receiptd.testing.delivery import DeliveryConformance, DeliveryHarness
from tests.chaos_proxy import ChaosProxy
from tests.pullers.puller_harness import (
    MnsHarness,
    RocketMqHarness,
    committed,
    sandbox_over,
)

HARNESSES: dict[str, type[MnsHarness] | type[RocketMqHarness]] = {
    "mns": MnsHarness,
    "rocketmq": RocketMqHarness,
}


@pytest.fixture(params=["http", "https"])
def sandbox(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    with sandbox_over(request.param, monkeypatch, tmp_path) as sandbox:
        yield sandbox


@pytest.fixture
def proxy(sandbox: Sandbox) -> Iterator[ChaosProxy]:
    with ChaosProxy(("127.0.0.1", urlsplit(sandbox.url).port or 0)) as proxy:
        yield proxy


class TestMns(DeliveryConformance):
    @pytest.fixture
    def harness(self, sandbox: Sandbox, proxy: ChaosProxy) -> DeliveryHarness:
        return MnsHarness(sandbox, proxy)


class TestRocketMq(DeliveryConformance):
    @pytest.fixture
    def harness(self, sandbox: Sandbox, proxy: ChaosProxy) -> DeliveryHarness:
        return RocketMqHarness(sandbox, proxy)


@pytest.mark.parametrize("kind", HARNESSES)
def test_what_these_harnesses_cut_is_cut(kind: str, sandbox: Sandbox, proxy: ChaosProxy) -> None:
    harness = HARNESSES[kind](sandbox, proxy)
    harness.publish([b"{}"] * 20)
    puller = harness.open()

    [first, *_] = puller.pull(16, 0)
    harness.cut_next_answer()
    with suppress(SourceUnavailable):
        # Over TLS nothing of it could be read, so it is asked for again: it is hidden.
        assert puller.pull(16, 0) == []
    harness.cut()
    result = puller.ack(committed(first.handle))

    puller.close()
    assert result.acked == 1
    assert harness.depth() == 19
