"""What exists in the sandbox: queues, topics, groups, messages, and what happened to them."""

import base64
import itertools
import secrets
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from receiptd.sandbox.clock import Clock
from receiptd.sandbox.exchange import refusal
from receiptd.sandbox.mailbox import Delivery, Held, Mailbox, Message, Refused

MQ_RETENTION_S = 3 * 86400.0
MQ_MAX_CONSUMED = 288  # times, five minutes apart: a day; then the dead-letter queue
MQ_LOG_LIMIT = (
    10_000  # messages kept for groups that have not come yet, once all known groups acked them
)


@dataclass(frozen=True, slots=True)
class AckEvent:
    """A message that a consumer deleted or acknowledged."""

    queue: str  # or topic
    message_id: str
    body: bytes  # as sent, before base64; of a raw message the raw element
    at: float


@dataclass(slots=True)
class Queue:
    """An MNS queue: its attributes, by the names of the XML elements, and its messages."""

    name: str
    attributes: dict[str, int | bool]
    mailbox: Mailbox
    created_at: float
    modified_at: float


@dataclass(slots=True)
class Topic:
    """A RocketMQ topic: every consumer group has a mailbox of its own."""

    name: str
    log: deque[Message] = field(default_factory=deque)
    groups: dict[str, Mailbox] = field(default_factory=dict)


class World:
    """All state, behind one lock; every public method may be called from any thread."""

    def __init__(
        self,
        clock: Clock,
        *,
        visibility_s: float = 30,
        invisible_s: float = 300,
        history: int = 100_000,
    ) -> None:
        self.clock = clock
        self.visibility_s = visibility_s
        self.invisible_s = invisible_s
        self.on_ack: Callable[[AckEvent], None] | None = None
        self.batch_limit = 16
        self.changed: Callable[[Mailbox], None] = lambda mailbox: None
        self.acks: deque[AckEvent] = deque(maxlen=history)
        self.ack_count = 0
        self.delivery_count = 0
        self.redelivery_count = 0
        self.deliveries: Counter[str] = Counter()
        self._poison_ids: deque[str] = deque(maxlen=history)
        self._history = history
        self._queues: dict[str, Queue] = {}
        self._topics: dict[str, Topic] = {}
        self._lock = threading.RLock()
        self._run = secrets.token_hex(4).upper()
        self._numbers = itertools.count(1)

    # --- MNS queues -------------------------------------------------------------------------------

    def create_queue(self, name: str, **attributes: int | bool) -> Queue:
        """Create a queue, or return it if it exists with the same attributes."""
        with self._lock:
            existing = self._queues.get(name)
            if existing is not None:
                if any(existing.attributes[key] != value for key, value in attributes.items()):
                    raise refusal("QueueAlreadyExist", "The queue exists with other attributes.")
                return existing
            merged = self._default_attributes() | attributes
            now = self.clock.now()
            mailbox = Mailbox(name, float(merged["MessageRetentionPeriod"]))
            queue = self._queues[name] = Queue(name, merged, mailbox, now, now)
            return queue

    def set_queue_attributes(self, name: str, attributes: dict[str, int | bool]) -> None:
        """Change attributes of an existing queue."""
        with self._lock:
            queue = self.queue(name)
            queue.attributes |= attributes
            queue.mailbox.retention_s = float(queue.attributes["MessageRetentionPeriod"])
            queue.modified_at = self.clock.now()

    def delete_queue(self, name: str) -> None:
        """Remove a queue and its messages; like the service, silent if there is none."""
        with self._lock:
            self._queues.pop(name, None)

    def queue(self, name: str) -> Queue:
        """Return the queue, or refuse with QueueNotExist."""
        with self._lock:
            if name not in self._queues:
                raise refusal("QueueNotExist")
            return self._queues[name]

    def queues(self) -> list[Queue]:
        """Return all queues in order of their names."""
        with self._lock:
            return [self._queues[name] for name in sorted(self._queues)]

    def queue_counts(self, queue: Queue) -> tuple[int, int, int]:
        """Return how many messages are visible, in flight, and delayed."""
        with self._lock:
            return queue.mailbox.counts(self.clock.now())

    def send(
        self,
        name: str,
        body: bytes,
        *,
        encode: bool = True,
        wire: str | None = None,
        raw: bytes | None = None,
        due_at: float | None = None,
        delay_s: float = 0,
        priority: int = 8,
        ahead: int = 0,
    ) -> Message:
        """Put a message into a queue at `due_at` (now), to hide there for another `delay_s`."""
        if wire is None:
            wire = base64.b64encode(body).decode() if encode else body.decode("utf-8", "replace")
        with self._lock:
            queue = self.queue(name)
            at = due_at if due_at is not None else self.clock.now()
            message = Message(self._message_id(), body, wire, at, priority, raw=raw)
            delay_s = delay_s or float(queue.attributes["DelaySeconds"])
            queue.mailbox.put(message, at + delay_s, ahead)
        self.changed(queue.mailbox)
        return message

    # --- RocketMQ topics --------------------------------------------------------------------------

    def create_topic(self, name: str) -> Topic:
        """Create a topic, or return it if it exists."""
        with self._lock:
            return self._topics.setdefault(name, Topic(name))

    def topic(self, name: str) -> Topic:
        """Return the topic, or refuse with TopicNotExist."""
        with self._lock:
            if name not in self._topics:
                raise refusal("TopicNotExist")
            return self._topics[name]

    def topics(self) -> list[Topic]:
        """Return all topics in order of their names."""
        with self._lock:
            return [self._topics[name] for name in sorted(self._topics)]

    def group(self, topic_name: str, group: str) -> Mailbox:
        """Return a consumer group's mailbox; a group that is new here gets the whole log."""
        with self._lock:
            topic = self.topic(topic_name)
            if group not in topic.groups:
                mailbox = Mailbox(f"{topic_name}/{group}", MQ_RETENTION_S, MQ_MAX_CONSUMED)
                for message in topic.log:
                    mailbox.put(message, message.enqueued_at)
                topic.groups[group] = mailbox
            return topic.groups[group]

    def publish(
        self,
        topic_name: str,
        body: bytes,
        *,
        tag: str = "",
        properties: str = "",
        raw: bytes | None = None,
        due_at: float | None = None,
        ahead: int = 0,
    ) -> Message:
        """Put a message into a topic, for every group."""
        with self._lock:
            topic = self.topic(topic_name)
            at = due_at if due_at is not None else self.clock.now()
            wire = body.decode("utf-8", "replace")
            message = Message(
                self._message_id(), body, wire, at, tag=tag, properties=properties, raw=raw
            )
            topic.log.append(message)
            self._prune(topic)
            mailboxes = list(topic.groups.values())
            for mailbox in mailboxes:
                mailbox.put(message, at, ahead)
        for mailbox in mailboxes:
            self.changed(mailbox)
        return message

    # --- both -------------------------------------------------------------------------------------

    def take(
        self,
        mailbox: Mailbox,
        limit: int,
        hidden_s: float,
        wanted: Callable[[Message], bool] | None = None,
    ) -> list[Delivery]:
        """Hand out visible messages and count the deliveries."""
        with self._lock:
            taken = mailbox.take(self.clock.now(), min(limit, self.batch_limit), hidden_s, wanted)
            for delivery in taken:
                self.deliveries[delivery.message.message_id] += 1
                self.redelivery_count += delivery.count > 1
            self.delivery_count += len(taken)
            if len(self.deliveries) > self._history:
                for old in list(itertools.islice(self.deliveries, self._history // 10)):
                    del self.deliveries[old]
            return taken

    def peek(self, mailbox: Mailbox, limit: int) -> list[Held]:
        """Return visible messages without hiding them."""
        with self._lock:
            return mailbox.peek(self.clock.now(), limit)

    def acknowledge(
        self, owner: str, mailbox: Mailbox, handles: Iterable[str]
    ) -> list[tuple[str, Refused]]:
        """Delete what the handles hold; return those that do not work, with the reason.

        `on_ack` is called before anything is deleted and without the lock, so that a test may ask
        the daemon's database, or this world, whether the row is already there.
        """
        handles = list(handles)
        if self.on_ack is not None:
            for event in self._found(owner, mailbox, handles):
                self.on_ack(event)
        failed: list[tuple[str, Refused]] = []
        with self._lock:
            now = self.clock.now()
            for handle in handles:
                held = mailbox.delete(handle, now)
                if isinstance(held, Refused):
                    failed.append((handle, held))
                else:
                    self.acks.append(self._ack_event(owner, held, now))
                    self.ack_count += 1
        return failed

    def change_visibility(
        self, mailbox: Mailbox, handle: str, hidden_s: float
    ) -> Delivery | Refused:
        """Hide a message for longer or shorter, under a new handle."""
        with self._lock:
            changed = mailbox.change_visibility(handle, self.clock.now(), hidden_s)
        self.changed(mailbox)
        return changed

    def outlook(self, mailbox: Mailbox) -> tuple[int, float | None]:
        """Return about how many messages can be taken now, and when the next one comes."""
        with self._lock:
            return mailbox.outlook(self.clock.now())

    def depth(self, name: str, group: str | None = None) -> int:
        """Return the messages not yet acked: of a queue, or of a topic (one group or all)."""
        with self._lock:
            if name in self._queues:
                return self._queues[name].mailbox.depth()
            topic = self.topic(name)
            if group is not None:
                return self.group(name, group).depth()
            if not topic.groups:
                return len(topic.log)
            return sum(mailbox.depth() for mailbox in topic.groups.values())

    def snapshot_acks(self) -> Sequence[AckEvent]:
        """Return what was acked so far, oldest first."""
        with self._lock:
            return list(self.acks)

    def snapshot_deliveries(self) -> dict[str, int]:
        """Return how often each message was handed out."""
        with self._lock:
            return dict(self.deliveries)

    def mark_poison(self, message_id: str) -> None:
        """Note that a message was made to be not understood."""
        with self._lock:
            self._poison_ids.append(message_id)

    def snapshot_poison(self) -> list[str]:
        """Return the ids of the poison, oldest first."""
        with self._lock:
            return list(self._poison_ids)

    def _found(self, owner: str, mailbox: Mailbox, handles: list[str]) -> list[AckEvent]:
        with self._lock:
            now = self.clock.now()
            held = [mailbox.find(handle, now) for handle in dict.fromkeys(handles)]
            return [self._ack_event(owner, one, now) for one in held if isinstance(one, Held)]

    @staticmethod
    def _ack_event(owner: str, held: Held, now: float) -> AckEvent:
        message = held.message
        body = message.body if message.raw is None else message.raw
        return AckEvent(owner, message.message_id, body, now)

    def _message_id(self) -> str:
        number = next(self._numbers)
        now_ms = int(self.clock.now() * 1000)
        return f"{self._run}{number:08X}-1-{now_ms:X}-{number % 1_000_000_000:09d}"

    def _default_attributes(self) -> dict[str, int | bool]:
        return {
            "VisibilityTimeout": int(self.visibility_s) if self.visibility_s >= 1 else 1,
            "MaximumMessageSize": 65536,
            "MessageRetentionPeriod": 345600,
            "DelaySeconds": 0,
            "PollingWaitSeconds": 0,
            "LoggingEnabled": False,
        }

    def hidden_s(self, queue: Queue) -> float:
        """Return how long this queue hides a message that was handed out."""
        configured = int(queue.attributes["VisibilityTimeout"])
        # A test may want a visibility below one second, which the attribute cannot say.
        return self.visibility_s if configured == max(1, int(self.visibility_s)) else configured

    def _prune(self, topic: Topic) -> None:
        oldest_kept = self.clock.now() - MQ_RETENTION_S
        while topic.log and topic.log[0].enqueued_at < oldest_kept:
            topic.log.popleft()
        while len(topic.log) > MQ_LOG_LIMIT and topic.groups:
            first = topic.log[0].message_id
            if any(mailbox.holds(first) for mailbox in topic.groups.values()):
                break
            topic.log.popleft()
