"""The push puller: the provider calls us (HTTP batch push, wire-formats 3), and an inbox stands
where a queue would.

The daemon's HTTP puts what arrives into the source's inbox and waits a moment for its ack. There is
no redelivery of our own: what was not acked in time was answered with an error, and the provider
sends it again.
"""

import hashlib
import itertools
import re
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime

from receiptd.clock import Clock
from receiptd.config import AccountSettings, SourceSettings
from receiptd.errors import Problem, ReceiptdError, SourceCancelled
from receiptd.model import Committed, CredentialsSource, Envelope, Origin, Reason
from receiptd.pullers.base import AckResult

# What may wait for the workers. More is refused at once: it could not be stored within the 0.7 s
# that the provider waits, and memory stays bounded whatever is sent.
MOST_WAITING = 64
MOST_BYTES = 4 << 20

SECRET_LEAST = 16
_SECRET = re.compile(r"[A-Za-z0-9._~-]{16,256}")  # needs no quoting in a path


class InboxFull(ReceiptdError):
    """More waits already than can be stored in time."""


class Delivery:
    """One body on its way; `done` has a result once it is durable."""

    __slots__ = ("arrived_at", "body", "done", "handle")

    def __init__(self, handle: str, body: bytes, arrived_at: datetime) -> None:
        self.handle = handle
        self.body = body
        self.arrived_at = arrived_at
        self.done: Future[None] = Future()
        self.done.set_running_or_notify_cancel()  # who gives up waiting cannot cancel it


class Inbox:
    """What arrived for one source and is not stored yet. Thread-safe."""

    def __init__(
        self, clock: Clock, *, most_waiting: int = MOST_WAITING, most_bytes: int = MOST_BYTES
    ) -> None:
        self._clock = clock
        self._most = most_waiting
        self._most_bytes = most_bytes
        self._changed = threading.Condition()
        self.waiters = 0  # pulls that wait for something to come
        self._waiting: deque[Delivery] = deque()
        self._taken: dict[str, Delivery] = {}
        self._bytes = 0  # of both
        self._numbers = itertools.count(1)

    def put(self, body: bytes) -> Delivery:
        """Hand a body to the workers. Raises InboxFull."""
        with self._changed:
            full = len(self._waiting) + len(self._taken) >= self._most
            if full or self._bytes + len(body) > self._most_bytes:
                raise InboxFull("the source takes no more at the moment")
            delivery = Delivery(str(next(self._numbers)), body, self._clock.now())
            self._bytes += len(body)
            self._waiting.append(delivery)
            self._changed.notify()
        return delivery

    def give_up(self, delivery: Delivery) -> None:
        """Stop waiting for a delivery. One that no worker has taken is gone: its sender was told to
        send it again. One that is being stored merges with that."""
        with self._changed:
            if delivery in self._waiting:
                self._waiting.remove(delivery)
                self._bytes -= len(delivery.body)
            elif self._taken.pop(delivery.handle, None):
                self._bytes -= len(delivery.body)

    def take(self, most: int, wait_s: float, stopped: threading.Event) -> list[Delivery]:
        """Return up to `most` deliveries, waiting at most `wait_s` seconds for the first, or until
        `stopped`, of which `wake` tells."""
        until = self._clock.monotonic() + wait_s
        with self._changed:
            self.waiters += 1
            while not self._waiting and not stopped.is_set():
                left = until - self._clock.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            self.waiters -= 1
            if stopped.is_set():
                return []
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._taken |= {one.handle: one for one in taken}
        return taken

    def finish(self, handle: str) -> bool:
        """Report that a delivery is durable; return whether its sender still waits to hear it."""
        with self._changed:
            delivery = self._taken.pop(handle, None)
            if delivery is None:
                return False
            self._bytes -= len(delivery.body)
        delivery.done.set_result(None)
        return True

    def wake(self) -> None:
        """Let all who wait look whether they are to stop."""
        with self._changed:
            self._changed.notify_all()


class PushPuller:
    """Pulls from an inbox."""

    def __init__(self, source: str, inbox: Inbox) -> None:
        self._source = source
        self._inbox = inbox
        self._cancelled = threading.Event()

    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        taken = self._inbox.take(batch_size, wait_s, self._cancelled)
        if not taken and self._cancelled.is_set():
            raise SourceCancelled("cancelled")
        return [
            Envelope(
                source=self._source,
                # The same for each time that it is sent, so that a timeline shows them as one.
                envelope_id=hashlib.sha256(one.body).hexdigest()[:32],
                body=one.body,
                handle=one.handle,
                enqueued_at=one.arrived_at,
                flaw=None if one.body.strip() else Reason.NO_BODY,
            )
            for one in taken
        ]

    def ack(self, committed: Sequence[Committed]) -> AckResult:
        told = [self._inbox.finish(one.envelope.handle) for one in committed if one.envelope.handle]
        return AckResult(acked=sum(told), expired=len(told) - sum(told))

    def cancel(self) -> None:
        self._cancelled.set()
        self._inbox.wake()

    def close(self) -> None:
        """Nothing to release: the inbox belongs to the source."""


class PushKind:
    """`puller = "push"`. One inbox for each source of this process."""

    origin = Origin.PUSH

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inboxes: dict[str, Inbox] = {}

    def problems(
        self, name: str, source: SourceSettings, account: AccountSettings
    ) -> list[Problem]:
        place, cure = f"sources.{name}.push_secret", "write one: openssl rand -hex 16"
        secret = source.push_secret.get_secret_value()
        if not secret:
            return [Problem(place, "is required for puller 'push'", cure=cure)]
        if not _SECRET.fullmatch(secret):
            rule = f"must be {SECRET_LEAST} to 256 letters, digits, dots, hyphens, ~ and _"
            return [Problem(place, rule, cure=cure)]
        return []

    def open(
        self,
        name: str,
        source: SourceSettings,
        account: AccountSettings,
        credentials: CredentialsSource,
        clock: Clock,
    ) -> PushPuller:
        """Build a puller on the source's inbox."""
        return PushPuller(name, self.inbox(name, clock))

    def inbox(self, name: str, clock: Clock) -> Inbox:
        """Return the inbox of a source, made when it is first asked for."""
        with self._lock:
            return self._inboxes.setdefault(name, Inbox(clock))


KIND = PushKind()
