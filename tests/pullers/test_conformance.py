"""The conformance suite, for both brokers over http and https."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptd.sandbox import Sandbox
from receiptd.testing.conformance import Harness, PullerConformance
from tests.pullers.puller_harness import (
    MnsHarness,
    RocketMqHarness,
    sandbox_over,
)


@pytest.fixture(params=["http", "https"])
def sandbox(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    with sandbox_over(request.param, monkeypatch, tmp_path) as sandbox:
        yield sandbox


class TestMns(PullerConformance):
    @pytest.fixture
    def harness(self, sandbox: Sandbox) -> Harness:
        return MnsHarness(sandbox)


class TestRocketMq(PullerConformance):
    @pytest.fixture
    def harness(self, sandbox: Sandbox) -> Harness:
        return RocketMqHarness(sandbox)
