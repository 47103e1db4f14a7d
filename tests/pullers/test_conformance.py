"""The conformance suite, for both brokers over http and https."""

import pytest
from puller_harness import MnsHarness, RocketMqHarness

from receiptd.sandbox import Sandbox
from receiptd.testing.conformance import Harness, PullerConformance


class TestMns(PullerConformance):
    @pytest.fixture
    def harness(self, sandbox: Sandbox) -> Harness:
        return MnsHarness(sandbox)


class TestRocketMq(PullerConformance):
    @pytest.fixture
    def harness(self, sandbox: Sandbox) -> Harness:
        return RocketMqHarness(sandbox)
