"""What an online check says: branches of steps, each with its outcome and cure."""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from receiptd.clock import Clock


class Outcome(StrEnum):
    OK = "ok"
    WARN = "warn"  # works, but somebody should know
    FAIL = "fail"
    SKIP = "skip"  # not asked


class Fault(StrEnum):
    """Who mends a failed step."""

    NETWORK = "network"
    CREDENTIALS = "credentials"  # keys and rights
    CONFIGURATION = "configuration"  # names, types, the host's clock


class Verdict(msgspec.Struct, frozen=True):
    """What one step found; texts hold no secret, handle or phone number."""

    outcome: Outcome
    detail: str = ""
    cure: str = ""
    fault: Fault | None = None


class Step(msgspec.Struct, frozen=True):
    """One step with its verdict, and the seconds it took."""

    name: str
    verdict: Verdict
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return self.verdict.outcome is Outcome.FAIL


class Branch(msgspec.Struct, frozen=True):
    """The steps at one service of an account or source; `endpoint` is "" if nobody says where."""

    kind: str  # `account` or `source`
    name: str
    service: str
    endpoint: str
    steps: tuple[Step, ...]


def ok(detail: str = "") -> Verdict:
    return Verdict(Outcome.OK, detail)


def warn(detail: str, cure: str = "") -> Verdict:
    return Verdict(Outcome.WARN, detail, cure)


def fail(fault: Fault, detail: str, cure: str = "") -> Verdict:
    return Verdict(Outcome.FAIL, detail, cure, fault)


def skip(detail: str) -> Verdict:
    return Verdict(Outcome.SKIP, detail)


def timed(name: str, act: Callable[[], Verdict], clock: Clock) -> Step:
    """Do one step and return it with its time."""
    started = clock.monotonic()
    verdict = act()
    return Step(name, verdict, clock.monotonic() - started)


def in_turn(acts: list[tuple[str, Callable[[], Verdict]]], clock: Clock) -> list[Step]:
    """Do the named steps in turn; those behind the first that failed are skipped."""
    steps: list[Step] = []
    failed = ""
    for name, act in acts:
        if failed:
            steps.append(Step(name, skip(f"skipped: {failed} failed")))
            continue
        steps.append(timed(name, act, clock))
        if steps[-1].failed:
            failed = name
    return steps
