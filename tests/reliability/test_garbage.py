"""What a fault leaves behind: no frames, and so no batch that waits for a full collection."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import FrameType

import pytest

from receiptd.clock import ManualClock
from receiptd.errors import SourceUnavailable, StoreUnavailable, let_go
from receiptd.gate import Gate
from receiptd.insist import insist
from receiptd.log import get_logger
from receiptd.sandbox import Fault, Sandbox
from receiptd.store import Store
from tests.reliability.rig import Broker, hired

RECEIVE, DELETE = ("receive",), ("delete",)
FAULTS = [
    *(
        Fault.build(kind, operation)
        for kind in ("reset", "drop")
        for operation in (RECEIVE, DELETE)
    ),
    *(Fault.html(502, operation) for operation in (RECEIVE, DELETE)),
    Fault.build("truncate", RECEIVE),
    Fault.build("deep_xml", RECEIVE),
    Fault.build("huge", RECEIVE, mib=5),
    Fault.error("AccessDenied", DELETE),
]


@pytest.fixture
def by_hand() -> Iterator[None]:
    """Nothing is collected unless it is asked for."""
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: f"{one.kind}-{one.operation[0]}")
def test_a_fault_of_the_broker_leaves_no_frames_to_be_collected(
    fault: Fault, sandbox: Sandbox, broker: Broker, store: Store, by_hand: None
) -> None:
    worker = hired(store, broker.mns(), ManualClock(datetime.now(UTC)), wait_s=0.0)
    sandbox.send_sms(["13900000001"])
    worker.run_once()
    sandbox.set_fault(fault)
    gc.collect()

    gc.set_debug(gc.DEBUG_SAVEALL)
    for number in range(3):
        sandbox.send_sms([f"139000000{number:02d}"])
        worker.run_once()
    gc.collect()

    assert not worker._source_gate.is_open
    assert [one.f_code.co_name for one in gc.garbage if isinstance(one, FrameType)] == []


class Batch:
    """What a frame works on."""


def failing(error: Exception, seen: list[weakref.ref[Batch]]) -> Callable[[], str]:
    """Return what fails the first time, in a frame that holds its error and a batch."""
    errors = [error]

    def work() -> str:
        batch = Batch()
        seen.append(weakref.ref(batch))
        if not errors:
            return "done"
        held = errors.pop()
        try:
            raise OSError("the driver's word")
        except OSError:
            raise held  # noqa: B904 - that it is in its context is the point

    return work


def test_an_outage_of_the_database_leaves_no_frames_to_be_collected(by_hand: None) -> None:
    clock, seen = ManualClock(), list[weakref.ref[Batch]]()
    work = failing(StoreUnavailable("away"), seen)

    assert insist(work, Gate(clock), threading.Event(), get_logger()) == "done"

    assert [one() for one in seen] == [None, None]


def test_an_error_that_was_let_go_is_still_what_it_was(by_hand: None) -> None:
    seen: list[weakref.ref[Batch]] = []
    error = SourceUnavailable("timeout")
    with pytest.raises(SourceUnavailable) as caught:
        failing(error, seen)()
    del caught
    assert seen[0]() is not None

    let_go(error)

    assert seen[0]() is None
    assert str(error) == "timeout"
    assert str(error.__context__) == "the driver's word"
