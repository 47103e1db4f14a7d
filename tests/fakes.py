"""Stand-ins that keep the real contract: a queue with visibility timeouts on a manual clock."""

import itertools
import json
from collections import Counter
from collections.abc import Callable

from receiptd.clock import ManualClock
from receiptd.errors import SourceCancelled, SourceError
from receiptd.model import Envelope
from receiptd.pullers.base import AckResult

VISIBILITY_S = 30.0


class FakeQueue:
    """An at-least-once queue; each receive gives a new handle and only the latest one works."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.bodies: dict[str, bytes] = {}
        self.handles: dict[str, str] = {}
        self.visible_at: dict[str, float] = {}
        self.pulls: Counter[str] = Counter()
        self.acked: list[str] = []
        self.on_ack: Callable[[str], None] = lambda envelope_id: None
        self._ids = itertools.count(1)
        self._handles = itertools.count(1)

    def put(self, body: bytes) -> str:
        envelope_id = f"m{next(self._ids):05d}"
        self.bodies[envelope_id] = body
        self.visible_at[envelope_id] = self.clock.monotonic()
        return envelope_id

    def receive(self, batch_size: int) -> list[Envelope]:
        now = self.clock.monotonic()
        ready = [one for one in self.bodies if self.visible_at[one] <= now][:batch_size]
        envelopes = []
        for envelope_id in ready:
            self.pulls[envelope_id] += 1
            self.handles[envelope_id] = f"h{next(self._handles)}"
            self.visible_at[envelope_id] = now + VISIBILITY_S
            envelopes.append(
                Envelope(
                    source="fake",
                    envelope_id=envelope_id,
                    body=self.bodies[envelope_id],
                    handle=self.handles[envelope_id],
                    pull_count=self.pulls[envelope_id],
                    visible_until=self.visible_at[envelope_id],
                )
            )
        return envelopes

    def delete(self, handle: str) -> bool:
        now = self.clock.monotonic()
        for envelope_id, latest in self.handles.items():
            if latest == handle and envelope_id in self.bodies:
                if self.visible_at[envelope_id] <= now:
                    return False
                self.on_ack(envelope_id)
                del self.bodies[envelope_id]
                self.acked.append(envelope_id)
                return True
        return False


class FakePuller:
    """A puller on a FakeQueue; `faults` are raised, one a call, by pull and ack."""

    def __init__(self, queue: FakeQueue) -> None:
        self.queue = queue
        self.pull_faults: list[SourceError] = []
        self.ack_faults: list[SourceError] = []
        self.empty_after_s: float | None = None  # None: a full long poll
        self.comes_after_s = 0.0  # how long a pull waits for the messages that it returns
        self.between_handles: Callable[[], None] = lambda: None
        self.pulls = 0
        self.cancelled = False
        self.closed = False

    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        self.pulls += 1
        if self.cancelled:
            raise SourceCancelled("cancelled")
        if self.pull_faults:
            raise self.pull_faults.pop(0)
        self.queue.clock.advance(self.comes_after_s)
        envelopes = self.queue.receive(batch_size)
        if not envelopes:
            self.queue.clock.advance(wait_s if self.empty_after_s is None else self.empty_after_s)
        return envelopes

    def ack(self, committed) -> AckResult:
        if self.ack_faults:
            raise self.ack_faults.pop(0)
        results = []
        for one in committed:
            results.append(self.queue.delete(one.envelope.handle))
            self.between_handles()
        return AckResult(acked=sum(results), expired=len(results) - sum(results))

    def cancel(self) -> None:
        self.cancelled = True

    def close(self) -> None:
        self.closed = True


def sms_report(number: int, *, success: bool = True, phone: str | None = None) -> bytes:
    """Return the body of one SmsReport."""
    return json.dumps(
        {
            "send_time": "2026-05-06 15:08:09",
            "report_time": "2026-05-06 15:08:14",
            "success": success,
            "err_msg": "用户接收成功" if success else "空号",
            "err_code": "DELIVERED" if success else "MK:0001",
            "phone_number": phone or f"139{number:08d}",
            "sms_size": "1",
            "biz_id": f"90000000{number:010d}^0",
            "out_id": f"order-{number}",
        },
        ensure_ascii=False,
    ).encode()


def envelope(body: bytes, envelope_id: str = "m1", *, source: str = "fake") -> Envelope:
    """Return an envelope as a puller would."""
    return Envelope(source=source, envelope_id=envelope_id, body=body, handle=f"h-{envelope_id}")
