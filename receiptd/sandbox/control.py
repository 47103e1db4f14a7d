"""`/_sandbox/…`: the sandbox's state and switches over HTTP, for whoever runs it as a process."""

import ipaddress
import json
import tomllib
from collections import Counter
from collections.abc import Callable

from pydantic import TypeAdapter

from receiptd.sandbox.exchange import Answer, Request, ServiceError
from receiptd.sandbox.faults import Fault, Faults
from receiptd.sandbox.journal import Journal
from receiptd.sandbox.scenario import Scenario
from receiptd.sandbox.sms import Desk
from receiptd.sandbox.world import World

_FAULTS = TypeAdapter(list[Fault])


class Control:
    """State and switches; only loopback may ask."""

    def __init__(self, world: World, desk: Desk, faults: Faults, journal: Journal) -> None:
        self._world = world
        self._desk = desk
        self._faults = faults
        self._journal = journal
        self._handlers: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("GET", "state"): self._state,
            ("GET", "truth"): lambda request: _json(self._desk.truth()),
            ("PUT", "scenario"): self._set_scenario,
            ("PUT", "faults"): self._set_faults,
            ("DELETE", "faults"): self._clear_faults,
            ("POST", "publish"): self._publish,
            ("POST", "clock"): self._advance,
        }

    def handle(self, request: Request) -> Answer:
        """Answer one request."""
        if not ipaddress.ip_address(request.peer).is_loopback:
            raise ServiceError(403, "AccessDenied", "only from this machine")
        handler = self._handlers.get((request.method, request.path.removeprefix("/_sandbox/")))
        if handler is None:
            raise ServiceError(404, "InvalidRequestURL", "no such switch")
        try:
            return handler(request)
        except (ValueError, RuntimeError) as error:  # pydantic's and tomllib's are ValueErrors
            raise ServiceError(400, "InvalidArgument", str(error)) from None

    def state(self) -> dict[str, object]:
        """Return what can be counted."""
        world = self._world
        return {
            "now": world.clock.now(),
            "sends": self._desk.send_count,
            "fates": Counter(sent.fate for sent in self._desk.sends),
            "depths": {
                **{queue.name: queue.mailbox.depth() for queue in world.queues()},
                **{topic.name: world.depth(topic.name) for topic in world.topics()},
            },
            "dead_letters": {
                mailbox.name: len(mailbox.dead)
                for topic in world.topics()
                for mailbox in topic.groups.values()
            },
            "deliveries": world.delivery_count,
            "redeliveries": world.redelivery_count,
            "acks": world.ack_count,
            "poison": len(world.snapshot_poison()),
            "requests": dict(self._journal.counts),
            "connections": self._journal.connections,
            "faults": [
                fault.model_dump(exclude_defaults=True) for fault in self._faults.in_force()
            ],
            "faults_struck": self._faults.struck,
        }

    def use(self, scenario: Scenario) -> None:
        """Follow this scenario from now on; if it names faults, they replace those in force."""
        self._desk.scenario = scenario
        if scenario.faults:
            self._faults.set(scenario.faults, scenario.seed)

    def _state(self, request: Request) -> Answer:
        return _json(self.state())

    def _set_scenario(self, request: Request) -> Answer:
        self.use(Scenario.from_toml(request.body.decode()))
        return Answer(204)

    def _set_faults(self, request: Request) -> Answer:
        text = request.body.decode()
        # JSON: a list of faults. TOML: [[faults]] tables, as in a scenario.
        values = json.loads(text) if text.lstrip().startswith("[{") else tomllib.loads(text)
        if isinstance(values, dict):
            unknown = sorted(set(values) - {"faults"})
            if unknown:
                raise ValueError(f"unknown key {unknown[0]!r}: [[faults]] tables are expected")
            values = values.get("faults", [])
        self._faults.set(_FAULTS.validate_python(values))
        return Answer(204)

    def _clear_faults(self, request: Request) -> Answer:
        self._faults.clear()
        return Answer(204)

    def _publish(self, request: Request) -> Answer:
        query = request.query
        if query.get("queue"):
            message = self._world.send(query["queue"], request.body)
        elif query.get("topic"):
            message = self._world.publish(query["topic"], request.body, tag=query.get("tag", ""))
        else:
            raise ValueError("?queue= or ?topic= is needed")
        return _json({"message_id": message.message_id})

    def _advance(self, request: Request) -> Answer:
        clock = self._world.clock
        clock.advance(float(request.query.get("advance", "0")))
        return _json({"now": clock.now()})


def _json(value: object) -> Answer:
    return Answer(200, json.dumps(value).encode(), "application/json;charset=utf-8")
