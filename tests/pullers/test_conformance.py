"""The conformance suite, for both brokers over http and https."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptd.sandbox import Sandbox
from receiptd.testing.conformance import Harness, PullerConformance
from tests.pullers.puller_harness import (
    MnsHarness,
    RocketMqHarness,
    server_tls,
    trust_the_authority,
)


@pytest.fixture(params=["http", "https"])
def sandbox(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    trust_the_authority(monkeypatch, tmp_path)
    tls = server_tls() if request.param == "https" else None
    with Sandbox(tls=tls, virtual_time=True) as sandbox:
        yield sandbox


class TestMns(PullerConformance):
    @pytest.fixture
    def harness(self, sandbox: Sandbox) -> Harness:
        return MnsHarness(sandbox)


class TestRocketMq(PullerConformance):
    @pytest.fixture
    def harness(self, sandbox: Sandbox) -> Harness:
        return RocketMqHarness(sandbox)
