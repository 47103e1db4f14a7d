"""From an accepted send to the receipts it causes, as the scenario says."""

import itertools
import random
import secrets
import threading
from collections.abc import Sequence

from receiptd.sandbox.course import Course, course
from receiptd.sandbox.dispatches import Dispatch, Dispatches, Outcome, Provider, Sent, Truth
from receiptd.sandbox.lookup import Lookup
from receiptd.sandbox.poison import Poison
from receiptd.sandbox.receipts import channel_envelope, jushita_report, sms_report, sms_up
from receiptd.sandbox.scenario import Scenario
from receiptd.sandbox.world import World


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
        self.clock = world.clock
        self._world = world
        self._queue_prefix = queue_prefix
        self._topic = topic
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        # Receipt ids must not repeat over restarts beside one database, so they are not seeded.
        self._base = int(world.clock.now() * 1000) * 100_000
        self.scenario = scenario
        self._dispatches = Dispatches(history)
        self.lookup = Lookup(
            self._dispatches, self.clock, lambda: self.scenario.query, lambda: self.chance("query")
        )

    @property
    def scenario(self) -> Scenario:
        """What becomes of the next send."""
        return self._scenario

    @scenario.setter
    def scenario(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._seed = scenario.seed if scenario.seed is not None else secrets.randbits(64)
        self._since = 0
        self._asked = 0  # counted apart: questions must not change the fates of the next sends

    @property
    def send_count(self) -> int:
        """How many messages were accepted."""
        return self._dispatches.count

    @property
    def sends(self) -> Sequence[Sent]:
        """What was sent, oldest first."""
        return [dispatch.sent for dispatch in self.snapshot()]

    def snapshot(self) -> list[Dispatch]:
        """Return what was sent with all that the provider knows, oldest first."""
        return self._dispatches.snapshot()

    def truth(self) -> list[Truth]:
        """Return what in the end becomes of each message, oldest first."""
        return [dispatch.truth for dispatch in self.snapshot()]

    def refusal(self) -> str | None:
        """Return the business error that the scenario has for this call, if any."""
        with self._lock:
            self._since += 1
            return self._scenario.refusal(random.Random(f"{self._seed}/call/{self._since}"))

    def chance(self, purpose: str) -> random.Random:
        """Return a source of chance for one answer."""
        with self._lock:
            self._asked += 1
            return random.Random(f"{self._seed}/{purpose}/{self._asked}")

    def accept(
        self,
        phones: Sequence[str],
        *,
        out_id: str = "",
        sign_names: Sequence[str] = ("示例",),
        template_code: str = "SMS_1",
        send_api: str = "SendSms",
        jushita: bool = False,
        provider: Provider | None = None,
        receivers: Sequence[str] | None = None,
    ) -> str:
        """Accept one send request; returns its receipt id.

        `receivers`: the numbers as receipts and queries show them, "" for not at all.
        """
        with self._lock:
            number = next(self._numbers)
            self._since += 1
            nth, scenario, seed = self._since, self._scenario, self._seed
        biz_id = f"{self._base + number}^0"
        now = self.clock.now()
        for place, phone in enumerate(phones):
            drawn = course(scenario, phone, now, f"{seed}/{nth}/{place}/{phone}", jushita=jushita)
            dispatch = Dispatch(
                sent=Sent(biz_id, phone, out_id, drawn.fate),
                send_api=send_api,
                sign_name=sign_names[place % len(sign_names)],
                template_code=template_code,
                sent_at=drawn.sent_at,
                reported_at=drawn.outcomes[0].at if drawn.copies else None,
                outcomes=drawn.outcomes,
                provider=provider or ("jushita" if jushita else "aliyun"),
                over_topic=drawn.over_topic,
                receiver=phone if receivers is None else receivers[place],
            )
            self._dispatches.add(dispatch, now - scenario.query.lag_s)
            self._report(dispatch, drawn)
        return biz_id

    def _report(self, dispatch: Dispatch, drawn: Course) -> None:
        if drawn.poison is not None:
            self._poison(drawn.poison, drawn.poison_at)
        for _ in range(drawn.copies):
            self._enqueue(dispatch, drawn.outcomes[0], drawn.ahead)
        if drawn.copies:
            for later in drawn.outcomes[1:]:
                self._enqueue(dispatch, later, drawn.ahead)
        if drawn.reply:
            self._reply(dispatch, drawn.reply, drawn.reply_at)

    def _enqueue(self, dispatch: Dispatch, outcome: Outcome, ahead: int) -> None:
        shape = jushita_report if dispatch.over_topic else sms_report
        body = shape(
            biz_id=dispatch.sent.biz_id,
            phone=dispatch.receiver,
            out_id=dispatch.sent.out_id,
            code=outcome.code,
            success=outcome.success,
            sent_at=dispatch.sent_at,
            reported_at=outcome.at,
        )
        if not dispatch.over_topic:
            queue = f"{self._queue_prefix}SmsReport"
            self._world.send(queue, body, due_at=outcome.at, ahead=ahead)
            return
        if self._scenario.jushita_envelope:
            body = channel_envelope(
                topic="alibaba_aliqin_TaFcSmsDR",
                content=body,
                number=next(self._numbers),
                at=outcome.at,
            )
        self._world.publish(self._topic, body, due_at=outcome.at, ahead=ahead)

    def _reply(self, dispatch: Dispatch, text: str, at: float) -> None:
        body = sms_up(
            phone=dispatch.sent.phone,
            content=text,
            dest_code="2400001",
            sign_name=dispatch.sign_name,
            sequence_id=self._base // 100_000 * 1000 + next(self._numbers),
            at=at,
        )
        self._world.send(f"{self._queue_prefix}SmsUp", body, due_at=at)

    def _poison(self, poison: Poison, at: float) -> None:
        message = self._world.send(
            f"{self._queue_prefix}SmsReport",
            poison.body,
            encode=poison.encode,
            raw=poison.raw,
            due_at=at,
        )
        self._world.mark_poison(message.message_id)
