"""One line of messages with visibility timeouts and handles: an MNS queue or a consumer group."""

import base64
import heapq
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

_HANDLE = re.compile(r"[0-9]-[A-Za-z0-9_-]{8,}")
_NEVER_COMPACT_BELOW = 1024  # stale heap entries; rebuilding a small heap is not worth it


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was sent."""

    message_id: str
    body: bytes  # before base64: what the sender meant
    wire: str  # the text inside <MessageBody>
    enqueued_at: float
    priority: int = 8  # MNS: 1 is served before 16
    tag: str = ""
    properties: str = ""  # RocketMQ: `k:v|k:v|`
    raw: bytes | None = None  # a verbatim <Message> element that replaces all the rest on the wire


@dataclass(slots=True, eq=False)
class Held:
    """A message's state in one mailbox."""

    message: Message
    visible_at: float
    handle: str = ""
    count: int = 0
    first_at: float = 0.0
    gone: bool = False
    ahead: int = 0  # how many places it overtakes (reordering)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as handed out once."""

    message: Message
    handle: str
    count: int
    first_at: float
    next_visible_at: float


class Refused(Enum):
    """Why a handle does not work."""

    UNKNOWN = "ReceiptHandleError"
    EXPIRED = "MessageNotExist"


@dataclass(slots=True)
class Mailbox:
    """Messages waiting, ready and in flight. Not thread-safe: the world holds the lock."""

    name: str
    retention_s: float
    max_count: int | None = None  # deliveries after which the broker gives up (RocketMQ: 288)
    dead: list[Message] = field(default_factory=list)
    _held: dict[str, Held] = field(default_factory=dict)
    _handles: dict[str, Held] = field(default_factory=dict)
    _waiting: list[tuple[float, int, Held]] = field(default_factory=list)
    _ready: list[tuple[int, int, int, Held]] = field(default_factory=list)
    _serial: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _stale: int = 0

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def put(self, message: Message, visible_at: float, ahead: int = 0) -> None:
        """Add a message that can be taken from `visible_at` on."""
        held = Held(message, visible_at, ahead=ahead)
        self._held[message.message_id] = held
        self._wait(held)

    def take(
        self,
        now: float,
        limit: int,
        hidden_s: float,
        wanted: Callable[[Message], bool] | None = None,
    ) -> list[Delivery]:
        """Hand out up to `limit` visible messages and hide them; unwanted ones leave for good."""
        self._promote(now)
        taken: list[Delivery] = []
        while self._ready and len(taken) < limit:
            held = heapq.heappop(self._ready)[3]
            if held.gone:
                self._stale -= 1
                continue
            if wanted is not None and not wanted(held.message):
                self._drop(held)
                continue
            if self.max_count is not None and held.count >= self.max_count:
                self.dead.append(held.message)
                self._drop(held)
                continue
            taken.append(self._deliver(held, now, hidden_s))
        return taken

    def peek(self, now: float, limit: int) -> list[Held]:
        """Return up to `limit` visible messages, in order, and change nothing."""
        self._promote(now)
        ready = sorted(entry for entry in self._ready if not entry[3].gone)
        return [entry[3] for entry in ready[:limit]]

    def find(self, handle: str, now: float) -> Held | Refused:
        """Return what `handle` holds: only the latest handle works, and only while it hides."""
        held = self._handles.get(handle)
        if held is None:
            return Refused.EXPIRED if _HANDLE.fullmatch(handle) else Refused.UNKNOWN
        if held.visible_at <= now:
            return Refused.EXPIRED
        return held

    def delete(self, handle: str, now: float) -> Held | Refused:
        """Remove the message that `handle` holds."""
        held = self.find(handle, now)
        if isinstance(held, Held):
            self._drop(held)
            self._stale += 1  # its entry is still in one of the heaps
        return held

    def change_visibility(self, handle: str, now: float, hidden_s: float) -> Delivery | Refused:
        """Hide the message for `hidden_s` from now on, under a new handle."""
        held = self.find(handle, now)
        if isinstance(held, Refused):
            return held
        fresh = Held(held.message, held.visible_at, "", held.count - 1, held.first_at)
        self._drop(held)
        self._stale += 1
        self._held[held.message.message_id] = fresh
        return self._deliver(fresh, now, hidden_s)

    def depth(self) -> int:
        """Return the messages not yet deleted, visible or not."""
        return len(self._held)

    def holds(self, message_id: str) -> bool:
        """Tell whether this message is still to be deleted."""
        return message_id in self._held

    def counts(self, now: float) -> tuple[int, int, int]:
        """Return how many messages are visible, in flight, and not yet due."""
        active = inactive = delayed = 0
        for held in self._held.values():
            if held.visible_at <= now:
                active += 1
            elif held.count:
                inactive += 1
            else:
                delayed += 1
        return active, inactive, delayed

    def outlook(self, now: float) -> tuple[int, float | None]:
        """Return about how many messages can be taken now, and when the next one comes."""
        self._promote(now)
        return len(self._ready), self._waiting[0][0] if self._waiting else None

    def _deliver(self, held: Held, now: float, hidden_s: float) -> Delivery:
        held.count += 1
        held.first_at = held.first_at or now
        held.visible_at = now + hidden_s
        held.ahead = 0
        self._handles.pop(held.handle, None)
        held.handle = self._new_handle(held)
        self._handles[held.handle] = held
        self._wait(held)
        return Delivery(held.message, held.handle, held.count, held.first_at, held.visible_at)

    def _new_handle(self, held: Held) -> str:
        # Like the real one it holds the next visible time; unlike it, nothing that must be quoted:
        # the SDKs put handles into URLs as they are.
        text = f"{next(self._serial):010d}-{int(held.visible_at)}-{held.count}"
        encoded = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        return f"{held.message.priority % 10}-{encoded}"

    def _wait(self, held: Held) -> None:
        heapq.heappush(self._waiting, (held.visible_at, next(self._serial), held))
        if self._stale > _NEVER_COMPACT_BELOW and self._stale > len(self._held):
            self._compact()

    def _promote(self, now: float) -> None:
        while self._waiting and (self._waiting[0][0] <= now or self._waiting[0][2].gone):
            held = heapq.heappop(self._waiting)[2]
            if held.gone:
                self._stale -= 1
            elif now - held.message.enqueued_at > self.retention_s:
                self._drop(held)
            else:
                serial = next(self._serial)
                order = serial - held.ahead
                heapq.heappush(self._ready, (held.message.priority, order, serial, held))

    def _drop(self, held: Held) -> None:
        held.gone = True
        self._held.pop(held.message.message_id, None)
        self._handles.pop(held.handle, None)

    def _compact(self) -> None:
        self._waiting = [entry for entry in self._waiting if not entry[2].gone]
        self._ready = [entry for entry in self._ready if not entry[3].gone]
        heapq.heapify(self._waiting)
        heapq.heapify(self._ready)
        self._stale = 0
