"""`Sandbox`: the whole thing behind one object, for tests, the demo and the command line."""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from receiptd.sandbox.actions import ACTIONS, MESSAGE_TYPES
from receiptd.sandbox.application import Application
from receiptd.sandbox.clock import Clock, ManualClock, RealClock
from receiptd.sandbox.connection import Hub
from receiptd.sandbox.control import Control
from receiptd.sandbox.credentials import Keyring
from receiptd.sandbox.dispatches import Dispatch, Sent, Truth
from receiptd.sandbox.faults import Fault, Faults
from receiptd.sandbox.gateway import Gateway
from receiptd.sandbox.journal import Journal, RequestEvent
from receiptd.sandbox.listener import Listener
from receiptd.sandbox.polling import Polls
from receiptd.sandbox.polyv import PolyvGateway
from receiptd.sandbox.scenario import Scenario
from receiptd.sandbox.service import Service
from receiptd.sandbox.sms import Desk
from receiptd.sandbox.top import TopGateway
from receiptd.sandbox.top_methods import METHODS
from receiptd.sandbox.world import AckEvent, World

QUEUE_PREFIX = "Alicom-Queue-1092397003988387-"
TOPIC = "jst-sms-report"
ACCESS_KEYS = {"testAK": "testSK"}
TOP_KEYS = {"12345678": "topSecret"}
POLYV_APPS = {"exampleapp": "polyvSecret"}


class Sandbox:
    """The providers on loopback. A context manager; every method may be called from any thread."""

    def __init__(
        self,
        *,
        scenario: Scenario | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        access_keys: Mapping[str, str] | None = None,
        top_keys: Mapping[str, str] | None = None,
        polyv_apps: Mapping[str, str] | None = None,
        queue_prefix: str = QUEUE_PREFIX,
        topic: str = TOPIC,
        tokens_only: bool = False,
        token_lifetime_s: float = 600,
        visibility_s: float = 30,
        invisible_s: float = 300,
        batch_limit: int = 16,
        virtual_time: bool = False,
        history: int = 100_000,
    ) -> None:
        scenario = scenario or Scenario()
        self.clock: Clock = ManualClock() if virtual_time else RealClock()
        self.skew_s = (
            0.0  # how far the broker's clock is ahead of ours, for Date headers and checks
        )
        self.errors: list[BaseException] = []  # bugs of the sandbox, and what `on_ack` raised
        self.topic = topic
        self._host, self._port, self._tls = host, port, tls
        self._prefix = queue_prefix
        self._world = World(
            self.clock, visibility_s=visibility_s, invisible_s=invisible_s, history=history
        )
        # The real one answers from one slice of a queue: with less than asked for, though more
        # may be there.
        self._world.batch_limit = batch_limit
        for message_type in MESSAGE_TYPES:
            self._world.create_queue(self.queue(message_type))
        self._world.create_topic(topic)
        self._keyring = Keyring(access_keys or ACCESS_KEYS, self.clock, token_lifetime_s)
        self._keyring.wall = self._wall
        self._desk = Desk(
            self._world, scenario, queue_prefix=queue_prefix, topic=topic, history=history
        )
        self._faults = Faults(scenario.faults, scenario.seed)
        self._journal = Journal(history)
        self._polls = Polls(self._world)
        self._polls.began_waiting = self._journal.ring
        self._world.changed = self._polls.notice
        if isinstance(self.clock, ManualClock):
            self.clock.on_advance(self._polls.notice_all)
        self._control = Control(self._world, self._desk, self._faults, self._journal)
        service = Service(
            world=self._world,
            keyring=self._keyring,
            polls=self._polls,
            queue_prefix=queue_prefix,
            tokens_only=tokens_only,
            base_url=lambda: self.url,
        )
        app = Application(
            service,
            self._control,
            rpc=Gateway(self._keyring, self._desk, ACTIONS),
            top=TopGateway(top_keys or TOP_KEYS, self._desk, METHODS, self._wall),
            polyv=PolyvGateway(polyv_apps or POLYV_APPS, self._desk, self._wall),
        )
        self._hub = Hub(app, self._faults, self._journal, self.clock)
        self._hub.wall = self._wall
        self._hub.broke = self.errors.append
        self._listener: Listener | None = None

    # --- life -------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if error is None and self.errors:
            raise self.errors[0]

    def start(self) -> None:
        """Listen, in a thread."""
        self._listener = self._listen()
        self._listener.start()

    def stop(self) -> None:
        """Stop listening and close every connection; the world stays and can be looked at."""
        if self._listener is not None:
            self._listener.stop()

    def restart(self) -> None:
        """Come back on the same port after `stop`, with all state: a broker that was down."""
        self.start()

    def serve(self, ready: Callable[[], object] = lambda: None) -> None:
        """Serve in this thread until SIGINT or SIGTERM."""
        self._listener = self._listen()
        try:
            asyncio.run(self._listener.run(ready, on_signals=True))
        finally:
            self._listener.stop()

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._port

    @property
    def url(self) -> str:
        """The base of all endpoints."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self._port}"

    # --- messages ---------------------------------------------------------------------------------

    def queue(self, message_type: str) -> str:
        """Return the full name of the queue of a message type."""
        return f"{self._prefix}{message_type}"

    def create_queue(self, name: str) -> None:
        """Make an MNS queue beside those of the message types, unless it is there."""
        self._world.create_queue(name)

    def create_topic(self, name: str) -> None:
        """Make a RocketMQ topic beside the first one, unless it is there."""
        self._world.create_topic(name)

    def send_mns(
        self, queue: str, body: bytes | str, encode: bool = True, *, delay_s: float = 0
    ) -> str:
        """Put a message into a queue; returns its id. `encode`: base64, as the provider does."""
        return self._world.send(queue, _bytes(body), encode=encode, delay_s=delay_s).message_id

    def send_raw_mns(self, queue: str, xml_template: str | bytes) -> str:
        """Put a verbatim `<Message>…</Message>` element into a queue; returns its id.

        `{id}`, `{handle}`, `{enqueued}`, `{next_visible}`, `{first}` and `{count}` are filled in.
        """
        return self._world.send(queue, b"", raw=_bytes(xml_template)).message_id

    def publish_mq(
        self, topic: str, body: str, tag: str = "", properties: Mapping[str, str] | None = None
    ) -> str:
        """Put a message into a topic, made if it is not there; returns its id."""
        self._world.create_topic(topic)
        text = "".join(f"{key}:{value}|" for key, value in (properties or {}).items())
        return self._world.publish(topic, _bytes(body), tag=tag, properties=text).message_id

    def send_raw_mq(self, topic: str, xml_template: str | bytes, tag: str = "") -> str:
        """Put a verbatim `<Message>…</Message>` element into a topic; returns its id."""
        self._world.create_topic(topic)
        return self._world.publish(topic, b"", tag=tag, raw=_bytes(xml_template)).message_id

    def send_sms(self, phones: Sequence[str], *, out_id: str = "", jushita: bool = False) -> str:
        """Send as SendSms does, without a request; returns the BizId."""
        return self._desk.accept(phones, out_id=out_id, jushita=jushita)

    def depth(self, queue_or_topic: str, group: str | None = None) -> int:
        """Return the messages not yet deleted or acked, visible or not."""
        return self._world.depth(queue_or_topic, group)

    # --- misbehaviour -----------------------------------------------------------------------------

    def set_fault(self, fault: Fault) -> None:
        """Put one more fault in force."""
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """End all faults; connections that already hang stay so."""
        self._faults.clear()

    def close_connections(self) -> None:
        """Cut every open connection, as a broker that is restarted does."""
        if self._listener is not None:
            self._listener.in_loop(self._hub.abort_all)

    def expire_tokens(self) -> None:
        """Let every token issued so far be expired."""
        self._keyring.expire_all()

    @property
    def expired_token_code(self) -> str:
        """The error code for an expired token, at its own status (403 by default)."""
        return self._keyring.expired_code

    @expired_token_code.setter
    def expired_token_code(self, code: str) -> None:
        self._keyring.expired_code = code

    @property
    def scenario(self) -> Scenario:
        """What becomes of the next send; one with faults replaces those in force."""
        return self._desk.scenario

    @scenario.setter
    def scenario(self, scenario: Scenario) -> None:
        self._control.use(scenario)

    # --- what happened ----------------------------------------------------------------------------

    @property
    def on_ack(self) -> Callable[[AckEvent], None] | None:
        """Called in the server before an ack is executed; what it raises ends up in `errors`."""
        return self._world.on_ack

    @on_ack.setter
    def on_ack(self, listener: Callable[[AckEvent], None] | None) -> None:
        self._world.on_ack = listener

    @property
    def acked(self) -> Sequence[AckEvent]:
        """What was deleted or acked, oldest first (a snapshot)."""
        return self._world.snapshot_acks()

    @property
    def requests(self) -> Sequence[RequestEvent]:
        """The latest requests, oldest first (a snapshot)."""
        return self._journal.snapshot()

    @property
    def request_counts(self) -> Counter[str]:
        """All requests so far by operation (a snapshot)."""
        return Counter(self._journal.counts)

    @property
    def deliveries(self) -> Mapping[str, int]:
        """How often each message was handed out, by message id (a snapshot)."""
        return self._world.snapshot_deliveries()

    @property
    def sends(self) -> Sequence[Sent]:
        """What was sent: (biz_id, phone, out_id, fate), oldest first (a snapshot)."""
        return self._desk.sends

    def truth(self) -> list[Truth]:
        """Return what in the end becomes of each message, told or not, oldest first.

        As (provider, biz_id, phone, out_id, outcome): "delivered", "failed", or None if the
        carrier never answers. It holds from the send on, before anybody can know it.
        """
        return self._desk.truth()

    @property
    def poison_ids(self) -> Sequence[str]:
        """Message ids of the poison that the scenario mixed in (a snapshot)."""
        return self._world.snapshot_poison()

    @property
    def dispatches(self) -> Sequence[Dispatch]:
        """What was sent, with all that the provider knows (a snapshot)."""
        return self._desk.snapshot()

    @property
    def state(self) -> Mapping[str, object]:
        """What `GET /_sandbox/state` tells."""
        state: dict[str, object] = json.loads(json.dumps(self._control.state()))
        return state

    def polls_waiting(self) -> int:
        """Return how many long polls wait at this moment."""
        return self._polls.waiting()

    def wait_until(self, predicate: Callable[[], bool], timeout_s: float = 10) -> bool:
        """Block until `predicate` holds, looking again at each request; False if it is too late."""
        return self._journal.wait_until(predicate, timeout_s)

    def _listen(self) -> Listener:
        server = Listener(self._hub, self._polls, self._host, self._port, self._tls)
        self._port = server.port
        return server

    def _wall(self) -> float:
        return RealClock().now() + self.skew_s


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
