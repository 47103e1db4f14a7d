"""From an accepted send to the receipts it causes, as the scenario says."""

import itertools
import random
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from receiptd.sandbox.poison import BODIES, ON_THE_WIRE
from receiptd.sandbox.receipts import channel_envelope, jushita_report, sms_report, sms_up
from receiptd.sandbox.scenario import Fate, Scenario
from receiptd.sandbox.world import World

OVERTAKES_AT_MOST = 200  # places in the queue that a reordered receipt jumps
CARRIER_S = 1.0  # from the provider to the carrier, at most
CONFLICT_AFTER_S = 2.0
REPLY_AFTER_S = 5.0


class Sent(NamedTuple):
    """One number of one accepted send, and its fate."""

    biz_id: str
    phone: str
    out_id: str
    fate: Fate


@dataclass(frozen=True, slots=True)
class Dispatch:
    """All that the provider knows of one sent message, for the query APIs."""

    sent: Sent
    send_api: str
    sign_name: str
    template_code: str
    sent_at: float
    reported_at: float | None  # None: never
    code: str


class Desk:
    """Takes sends, decides fates, enqueues receipts and replies. Thread-safe."""

    def __init__(
        self,
        world: World,
        scenario: Scenario,
        *,
        queue_prefix: str,
        topic: str,
        history: int = 100_000,
    ) -> None:
        self.dispatches: deque[Dispatch] = deque(maxlen=history)
        self.send_count = 0
        self._world = world
        self._queue_prefix = queue_prefix
        self._topic = topic
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        # Receipt ids must not repeat over restarts beside one database, so they are not seeded.
        self._base = int(world.clock.now() * 1000) * 100_000
        self.scenario = scenario

    @property
    def scenario(self) -> Scenario:
        """What becomes of the next send."""
        return self._scenario

    @scenario.setter
    def scenario(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._seed = scenario.seed if scenario.seed is not None else secrets.randbits(64)
        self._since = 0

    @property
    def sends(self) -> Sequence[Sent]:
        """What was sent, oldest first."""
        return [dispatch.sent for dispatch in self.snapshot()]

    def snapshot(self) -> list[Dispatch]:
        """Return what was sent with all that the provider knows, oldest first."""
        with self._lock:
            return list(self.dispatches)

    def refusal(self) -> str | None:
        """Return the business error that the scenario has for this call, if any."""
        with self._lock:
            self._since += 1
            return self._scenario.refusal(random.Random(f"{self._seed}/call/{self._since}"))

    def accept(
        self,
        phones: Sequence[str],
        *,
        out_id: str = "",
        sign_names: Sequence[str] = ("示例",),
        template_code: str = "SMS_1",
        send_api: str = "SendSms",
        jushita: bool = False,
    ) -> str:
        """Accept one send request; returns its receipt id."""
        with self._lock:
            number = next(self._numbers)
            self._since += 1
            nth, scenario, seed = self._since, self._scenario, self._seed
        biz_id = f"{self._base + number}^0"
        now = self._world.clock.now()
        for place, phone in enumerate(phones):
            # One source of chance per message: its fate does not depend on its neighbours.
            chance = random.Random(f"{seed}/{nth}/{place}/{phone}")
            fate = scenario.fate(phone, chance)
            code = scenario.error_code(chance) if fate == "failed" else "DELIVERED"
            due_at = now + scenario.delay(chance)
            dispatch = Dispatch(
                sent=Sent(biz_id, phone, out_id, fate),
                send_api=send_api,
                sign_name=sign_names[place % len(sign_names)],
                template_code=template_code,
                sent_at=min(now + CARRIER_S * chance.random(), due_at),
                reported_at=None if fate == "lost" else due_at,
                code=code,
            )
            with self._lock:
                self.dispatches.append(dispatch)
                self.send_count += 1
            self._report(dispatch, scenario, chance, jushita=jushita)
        return biz_id

    def _report(
        self, dispatch: Dispatch, scenario: Scenario, chance: random.Random, *, jushita: bool
    ) -> None:
        due_at = dispatch.reported_at
        jushita = chance.random() < scenario.jushita or jushita
        if chance.random() < scenario.poison:
            self._poison(scenario, chance, due_at or self._world.clock.now())
        if due_at is None:
            return
        success = dispatch.sent.fate == "delivered"
        ahead = chance.randint(1, OVERTAKES_AT_MOST) if chance.random() < scenario.reordered else 0
        copies = 2 if chance.random() < scenario.duplicates else 1
        for _ in range(copies):
            self._enqueue(dispatch, success, dispatch.code, due_at, jushita, ahead)
        if chance.random() < scenario.conflicts:
            code = scenario.error_code(chance) if success else "DELIVERED"
            self._enqueue(dispatch, not success, code, due_at + CONFLICT_AFTER_S, jushita, ahead)
        if success and chance.random() < scenario.replies:
            self._reply(dispatch, scenario, chance, due_at + REPLY_AFTER_S * chance.random())

    def _enqueue(
        self, dispatch: Dispatch, success: bool, code: str, due_at: float, jushita: bool, ahead: int
    ) -> None:
        shape = jushita_report if jushita else sms_report
        body = shape(
            biz_id=dispatch.sent.biz_id,
            phone=dispatch.sent.phone,
            out_id=dispatch.sent.out_id,
            code=code,
            success=success,
            sent_at=dispatch.sent_at,
            reported_at=due_at,
        )
        if not jushita:
            self._world.send(f"{self._queue_prefix}SmsReport", body, due_at=due_at, ahead=ahead)
            return
        if self._scenario.jushita_envelope:
            body = channel_envelope(
                topic="alibaba_aliqin_TaFcSmsDR",
                content=body,
                number=next(self._numbers),
                at=due_at,
            )
        self._world.publish(self._topic, body, due_at=due_at, ahead=ahead)

    def _reply(
        self, dispatch: Dispatch, scenario: Scenario, chance: random.Random, at: float
    ) -> None:
        body = sms_up(
            phone=dispatch.sent.phone,
            content=chance.choice(scenario.reply_texts),
            dest_code="2400001",
            sign_name=dispatch.sign_name,
            sequence_id=self._base // 100_000 * 1000 + next(self._numbers),
            at=at,
        )
        self._world.send(f"{self._queue_prefix}SmsUp", body, due_at=at)

    def _poison(self, scenario: Scenario, chance: random.Random, at: float) -> None:
        kinds = BODIES + ON_THE_WIRE if scenario.poison_on_the_wire else BODIES
        poison = chance.choice(kinds)
        message = self._world.send(
            f"{self._queue_prefix}SmsReport",
            poison.body,
            encode=poison.encode,
            raw=poison.raw,
            due_at=at,
        )
        self._world.mark_poison(message.message_id)
