"""What becomes of a sent SMS: a scenario, from TOML or Python; unknown keys are refused."""

import random
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from receiptd.sandbox.faults import Fault
from receiptd.sandbox.oddities import Oddities, Seconds, Share

# lost: delivered or failed, but only the query APIs tell. unanswered: the carrier never reports, so
# that a query says "waiting" for ever.
Fate = Literal["delivered", "failed", "lost", "unanswered"]

DEFAULT_ERROR_CODES = {
    "MOBILE_NOT_ON_SERVICE": 4.0,
    "MK:0001": 2.0,
    "IS_CLOSED": 2.0,
    "UNDELIV": 1.0,
    "MOBILE_IN_BLACK": 1.0,
}


class Scenario(BaseModel):
    """The shares and delays by which receipts come, or do not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int | None = None  # None: different in every run
    delivered: Share | None = None  # None: what the others leave
    failed: Share = 0.0
    lost: Share = 0.0  # never reported by a queue
    lost_failed: Share | None = None  # of the lost; None: as many as of those that are reported
    unanswered: Share = 0.0
    phones: dict[str, Fate] = Field(
        default_factory=dict
    )  # a number whose fate is not left to chance
    error_codes: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=lambda: dict(DEFAULT_ERROR_CODES)
    )  # of the failed ones, with weights
    delay_s: Seconds | tuple[Seconds, Seconds] = (
        0.0  # from the send to its receipt, or least and most
    )
    duplicates: Share = 0.0  # receipts enqueued twice, with different message ids
    conflicts: Share = 0.0  # receipts followed by a later one that says the opposite
    reordered: Share = 0.0  # receipts that overtake others
    poison: Share = 0.0  # receipts accompanied by a message that cannot be understood
    poison_on_the_wire: bool = False  # some of the poison breaks the XML of its whole batch
    replies: Share = 0.0  # delivered messages that the phone's user answers (SmsUp)
    reply_texts: tuple[str, ...] = ("TD", "收到", "1", "谢谢👍")
    jushita: Share = 0.0  # receipts that come in Jushita's shape, over RocketMQ
    jushita_envelope: bool = False  # wrapped as the message channel does
    oaid_receivers: Literal["missing", "masked", "plain"] = (
        "missing"  # what a Jushita receipt tells of the number behind an OAID
    )
    polyv_per_day: Annotated[int, Field(gt=0)] = 2000  # messages of a Polyv user
    polyv_per_number: Annotated[int, Field(gt=0)] = 10  # and of these to one number
    query: Oddities = Field(default_factory=Oddities)
    send_refusals: dict[str, Share] = Field(
        default_factory=dict
    )  # error code of a send call: share
    faults: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        rest = 1.0 - self.failed - self.lost - self.unanswered
        if rest < -1e-9:
            raise ValueError("failed + lost + unanswered is more than 1")
        if self.delivered is not None and abs(self.delivered - rest) > 1e-6:
            raise ValueError(
                f"delivered + failed + lost + unanswered is {self.delivered + 1 - rest:g}, not 1"
            )
        if sum(self.send_refusals.values()) > 1:
            raise ValueError("send_refusals are more than 1 together")
        return self

    @field_validator("delay_s")
    @classmethod
    def _least_before_most(cls, value: float | tuple[float, float]) -> float | tuple[float, float]:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError("the least delay is above the most")
        return value

    @field_validator("error_codes")
    @classmethod
    def _some_code(cls, value: dict[str, float]) -> dict[str, float]:
        if not value:
            raise ValueError("at least one error code is needed")
        return value

    @classmethod
    def from_toml(cls, text: str) -> "Scenario":
        """Read a scenario; raises ValueError naming every key that is wrong."""
        values: dict[str, Any] = tomllib.loads(text)
        return cls.model_validate(values)

    @classmethod
    def from_file(cls, path: Path) -> "Scenario":
        """Read a scenario file."""
        return cls.from_toml(path.read_text(encoding="utf-8"))

    def fate(self, phone: str, chance: random.Random) -> Fate:
        """Decide what becomes of one message."""
        drawn = (
            chance.random()
        )  # drawn even if not needed: one phone's fate must not shift the others'
        if phone in self.phones:
            return self.phones[phone]
        if drawn < self.failed:
            return "failed"
        if drawn < self.failed + self.lost:
            return "lost"
        return "unanswered" if drawn < self.failed + self.lost + self.unanswered else "delivered"

    def succeeds(self, fate: Fate, chance: random.Random) -> bool | None:
        """Decide what the carrier knows of a message of this fate; None: nothing, ever."""
        if fate == "lost":
            share = self.lost_failed
            if share is None:
                reported = 1.0 - self.lost - self.unanswered
                share = self.failed / reported if reported > 1e-9 else 0.0
            return chance.random() >= share
        return None if fate == "unanswered" else fate == "delivered"

    def delay(self, chance: random.Random) -> float:
        """Draw the seconds from the send to its receipt."""
        if isinstance(self.delay_s, tuple):
            return chance.uniform(*self.delay_s)
        return self.delay_s

    def error_code(self, chance: random.Random) -> str:
        """Draw the code of a failed message."""
        return chance.choices(list(self.error_codes), list(self.error_codes.values()))[0]

    def refusal(self, chance: random.Random) -> str | None:
        """Draw the business error of a send call, if it is to be refused."""
        drawn = chance.random()
        for code, share in self.send_refusals.items():
            if drawn < share:
                return code
            drawn -= share
        return None
