"""What the soak sends, over MNS, over RocketMQ, and pushed: as fast as it is taken, or slower."""

import itertools
import threading
import time
from collections.abc import Sequence

from receiptd.sandbox import Sandbox
from receiptd.sandbox.poison import BODIES, ON_THE_WIRE
from torture.soak_push import Pusher
from torture.soak_sms import Oddity, bodies, oddity, reply
from torture.traffic import MNS, PUSH, ROCKETMQ

# What may wait with the broker: enough for full batches, and the lag stays below some seconds.
_MOST_WAITING = 4096
_SEND_EACH = 64
_LOOK_S = 0.01
_PUSH_RECEIPTS = 16
# Of ten SMS, so many by each road: what companies of this size have is mostly MNS.
_ROADS = (MNS, MNS, MNS, MNS, MNS, MNS, ROCKETMQ, ROCKETMQ, ROCKETMQ, PUSH)
_POISON = (*BODIES, *ON_THE_WIRE)


class Flow:
    """Sends the receipts of a range of SMS."""

    def __init__(
        self, sandbox: Sandbox, queues: Sequence[str], topics: Sequence[str], pusher: Pusher
    ) -> None:
        self._sandbox = sandbox
        self._pusher = pusher
        self._queues = queues
        self._topics = topics
        self._up = sandbox.queue("SmsUp")
        for name in queues:
            sandbox.create_queue(name)
        for name in topics:
            sandbox.create_topic(name)
        self._poison = itertools.cycle(_POISON)
        self.poisoned = 0
        self.answered = 0

    def send(self, numbers: range, stopped: threading.Event, per_s: float = 0) -> None:
        """Return when all of them are with the broker, or pushed; earlier if `stopped`. At most
        `per_s` a second, unless that is 0."""
        pushed: list[bytes] = []
        began_at = time.monotonic()
        for place, number in enumerate(numbers):
            if place % _SEND_EACH == 0:
                early_s = began_at + place / per_s - time.monotonic() if per_s else 0.0
                if stopped.wait(max(0.0, early_s)) or not self._await_room(stopped):
                    return
            self._send(number, pushed)
            if len(pushed) >= _PUSH_RECEIPTS:
                self._pusher.push(pushed, stopped)
                pushed = []
        if pushed:
            self._pusher.push(pushed, stopped)

    def left(self) -> int:
        """Return how many messages the broker still holds, and bodies are not pushed."""
        return self._waiting() + self._sandbox.depth(self._up) + self._pusher.left()

    def _waiting(self) -> int:
        return sum(map(self._sandbox.depth, (*self._queues, *self._topics)))

    def _await_room(self, stopped: threading.Event) -> bool:
        while self._waiting() > _MOST_WAITING:
            if stopped.wait(_LOOK_S):
                return False
        return not stopped.is_set()

    def _send(self, number: int, pushed: list[bytes]) -> None:
        road, odd = _ROADS[number % len(_ROADS)], oddity(number)
        # Many to one queue before the next, so that batches are full.
        queue = self._queues[number // _SEND_EACH % len(self._queues)]
        topic = self._topics[number // _SEND_EACH % len(self._topics)]
        for body in bodies(number, odd, jushita=road == ROCKETMQ):
            if road == MNS:
                self._sandbox.send_mns(queue, body)
            elif road == ROCKETMQ:
                self._sandbox.publish_mq(topic, body.decode())
            else:
                pushed.append(body)
        if odd is Oddity.POISONED:
            self.poisoned += 1
            if road == MNS:
                self._send_poison(queue)
            elif road == ROCKETMQ:
                self._sandbox.publish_mq(topic, "{}")
            else:
                self._pusher.push_poison(f"no JSON, {number}".encode())
        elif odd is Oddity.ANSWERED:
            self.answered += 1
            self._sandbox.send_mns(self._up, reply(number))

    def _send_poison(self, queue: str) -> None:
        one = next(self._poison)
        if one.raw is not None:
            self._sandbox.send_raw_mns(queue, one.raw)
        else:
            self._sandbox.send_mns(queue, one.body, one.encode)
