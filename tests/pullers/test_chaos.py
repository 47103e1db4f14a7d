"""A broker that misbehaves on every third call: all envelopes arrive, and the source ends empty."""

from collections.abc import Iterator

import pytest

from receiptd.errors import SourceUnavailable
from receiptd.model import Committed
from receiptd.pullers.base import AckResult, Puller
from receiptd.sandbox import Fault, Sandbox
from tests.pullers.puller_harness import (
    DEADLINE_S,
    KINDS,
    MnsHarness,
    RocketMqHarness,
    make_puller,
)

BODIES = [f'{{"biz_id":"9000000000{number:05d}^0"}}'.encode() for number in range(160)]
PULL = ("receive", "consume")
ACK = ("delete", "ack")
BOTH = (*PULL, *ACK)
SHARE = 0.34
MAX_CALLS = 400
FAULTS = [
    Fault.build("reset", BOTH, share=SHARE),
    Fault.build("reset", BOTH, share=SHARE, when="after"),
    Fault.build("drop", BOTH, share=SHARE),
    Fault.build("drop", BOTH, share=SHARE, when="after"),
    Fault.build("hang", BOTH, times=3, when="after"),
    Fault.build("reset_mid_body", PULL, share=SHARE),
    Fault.build("truncate", PULL, share=SHARE),
    Fault.build("cut_xml", PULL, share=SHARE),
    Fault.build("close_after", BOTH, share=SHARE),
    Fault.build("header_case", BOTH, share=SHARE),
    Fault.build("no_request_id", BOTH, share=SHARE),
    Fault.build("not_utf8", PULL, share=SHARE),
    Fault.build("entity_bomb", PULL, share=SHARE),
    Fault.build("external_entity", PULL, share=SHARE),
    Fault.build("deep_xml", PULL, share=SHARE),
    Fault.build("huge", PULL, share=SHARE),
    Fault.build("empty", PULL, share=SHARE),
    Fault.build("partial", ACK, share=SHARE, handles=2),
    Fault.build("refuse_handles", ACK, share=SHARE, status=207),
    Fault.build("refuse_handles", ACK, share=SHARE, status=404),
    Fault.html(502, BOTH, share=SHARE),
    Fault.portal(BOTH, share=SHARE),
    Fault.redirect("/login", BOTH, share=SHARE),
    Fault.error("QpsLimitExceeded", BOTH, share=SHARE),
    Fault.error("InternalError", BOTH, share=SHARE),
    Fault.error("TimeExpired", BOTH, share=SHARE),
]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(virtual_time=True) as sandbox:
        yield sandbox


def drain(harness: MnsHarness | RocketMqHarness, puller: Puller) -> tuple[set[bytes], AckResult]:
    """Do what the worker does, as often as needed: an outage is borne, what is late comes again."""
    seen: set[bytes] = set()
    total = AckResult()
    for _ in range(MAX_CALLS):
        try:
            envelopes = puller.pull(16, 0)
            seen |= {envelope.body for envelope in envelopes if envelope.flaw is None}
            result = puller.ack([Committed(envelope) for envelope in envelopes])
        except SourceUnavailable:
            continue
        total = AckResult(
            total.acked + result.acked,
            total.expired + result.expired,
            total.failed + result.failed,
        )
        if harness.depth() == 0:
            break
        if not envelopes:
            harness.expire()
    return seen, total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.when}")
def test_nothing_is_lost_while_the_broker_misbehaves(
    kind: str, fault: Fault, sandbox: Sandbox
) -> None:
    harness = MnsHarness(sandbox) if kind == "mns" else RocketMqHarness(sandbox)
    harness.publish(BODIES)
    puller = make_puller(kind, sandbox.url, seconds=DEADLINE_S)
    sandbox.set_fault(fault)

    seen, total = drain(harness, puller)

    puller.close()
    assert seen == set(BODIES)
    assert harness.depth() == 0
    assert total.acked <= len(BODIES)
