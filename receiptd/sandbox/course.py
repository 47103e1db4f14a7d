"""The course of one message, drawn in one go, so that it does not depend on its neighbours."""

import random
from dataclasses import dataclass

from receiptd.sandbox.dispatches import Outcome
from receiptd.sandbox.poison import BODIES, ON_THE_WIRE, Poison
from receiptd.sandbox.scenario import Fate, Scenario

DELIVERED = "DELIVERED"
OVERTAKES_AT_MOST = 200  # places in the queue that a reordered receipt jumps
CARRIER_S = 1.0  # from the provider to the carrier, at most
CONFLICT_AFTER_S = 2.0
REPLY_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Course:
    """What happens to one message, and when."""

    fate: Fate
    sent_at: float
    outcomes: tuple[Outcome, ...]
    over_topic: bool
    poison: Poison | None
    poison_at: float
    copies: int = 0  # of its receipt; 0: none comes
    ahead: int = 0  # places that its receipt jumps
    reply: str = ""
    reply_at: float = 0.0


def course(scenario: Scenario, phone: str, now: float, source: str, *, jushita: bool) -> Course:
    """Draw what becomes of a message; the same `source` gives the same course."""
    # The order of the draws is kept as it is: a seed must go on meaning the same.
    chance = random.Random(source)
    fate = scenario.fate(phone, chance)
    code = scenario.error_code(chance) if fate == "failed" else DELIVERED
    due_at = now + scenario.delay(chance)
    sent_at = min(now + CARRIER_S * chance.random(), due_at)
    over_topic = chance.random() < scenario.jushita or jushita
    poison = None
    if chance.random() < scenario.poison:
        poison = chance.choice(BODIES + ON_THE_WIRE if scenario.poison_on_the_wire else BODIES)
    if fate in ("lost", "unanswered"):
        outcomes = _untold(scenario, fate, due_at, source)
        return Course(fate, sent_at, outcomes, over_topic, poison, now)
    success = fate == "delivered"
    outcomes = (Outcome(due_at, success, code),)
    ahead = chance.randint(1, OVERTAKES_AT_MOST) if chance.random() < scenario.reordered else 0
    copies = 2 if chance.random() < scenario.duplicates else 1
    if chance.random() < scenario.conflicts:
        opposite = scenario.error_code(chance) if success else DELIVERED
        outcomes += (Outcome(due_at + CONFLICT_AFTER_S, not success, opposite),)
    reply, reply_at = "", 0.0
    if success and chance.random() < scenario.replies:
        reply_at = due_at + REPLY_AFTER_S * chance.random()
        reply = chance.choice(scenario.reply_texts)
    return Course(
        fate, sent_at, outcomes, over_topic, poison, due_at, copies, ahead, reply, reply_at
    )


def _untold(scenario: Scenario, fate: Fate, due_at: float, source: str) -> tuple[Outcome, ...]:
    chance = random.Random(f"{source}/untold")
    success = scenario.succeeds(fate, chance)
    if success is None:
        return ()
    return (Outcome(due_at, success, DELIVERED if success else scenario.error_code(chance)),)
