"""What `receiptd check` prints: line by line as it is found, or as JSON at the end."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

import typer

from receiptd.cli import exit_codes, languages
from receiptd.errors import Problem

if TYPE_CHECKING:
    from receiptd.online import Branch, Step

# What ends the command if several levels found something: what a person must mend goes first.
_WORST_FIRST = (exit_codes.CONFIG, exit_codes.CREDENTIALS_REFUSED, exit_codes.UNAVAILABLE)
_CODE_OF_FAULT = {
    "network": exit_codes.UNAVAILABLE,
    "credentials": exit_codes.CREDENTIALS_REFUSED,
    "configuration": exit_codes.CONFIG,
}
_NAME_COLUMNS = 10


class Report:
    """Prints what was found as it is found, as JSON at the end, and knows the exit code."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._codes: set[int] = set()
        self._passed: list[str] = []
        self._unused: list[str] = []
        self._problems: list[Problem] = []
        self._branches: list[Branch] = []

    def passed(self, what: str) -> None:
        self._passed.append(what)
        self._print(f"OK  {languages.translated(what)}")

    def unused(self, places: Sequence[str]) -> None:
        """Tell of tables that have no effect yet: nobody shall wait for it."""
        self._unused += places
        for place in places:
            self.skipped(f"{place}: takes effect in a later version")

    def skipped(self, what: str) -> None:
        self._print(f"SKIP  {languages.translated(what)}")

    def problems(self, found: Sequence[Problem], code: int = exit_codes.CONFIG) -> None:
        self._problems += found
        if found:
            self._codes.add(code)
        if not self._as_json:
            for problem in found:
                typer.echo(f"receiptd: {languages.problem(problem)}", err=True)

    def branch(self, branch: "Branch") -> None:
        self._branches.append(branch)
        title = languages.translated(f"{branch.kind} {branch.name}, {branch.service}")
        self._print(f"\n{title}  {branch.endpoint}".rstrip())
        for step in branch.steps:
            self._step(step)
            if step.failed and step.verdict.fault is not None:
                self._codes.add(_CODE_OF_FAULT[step.verdict.fault])

    def end(self) -> int:
        """Print what is printed at the end; return the exit code."""
        code = next((one for one in _WORST_FIRST if one in self._codes), exit_codes.OK)
        if self._as_json:
            result = {
                "ok": not self._codes,
                "passed": self._passed,
                "problems": [_told(one) for one in self._problems],
                **({"unused": self._unused} if self._unused else {}),
                **({"online": list(map(_branch_told, self._branches))} if self._branches else {}),
            }
            typer.echo(json.dumps(result, indent=2))
        elif code:
            meaning = languages.translated(exit_codes.MEANINGS[code])
            typer.echo(
                f"receiptd: {languages.translated(f'exit code {code}')}: {meaning}", err=True
            )
        return code

    def _step(self, step: "Step") -> None:
        verdict = step.verdict
        name = _padded(languages.translated(step.name), _NAME_COLUMNS)
        detail = languages.translated(verdict.detail)
        # A skipped step took no time.
        took = "" if verdict.outcome == "skip" else f"{step.seconds * 1000:.0f} ms"
        self._print(f"  {verdict.outcome.upper():4}  {name}  {took:>8}  {detail}".rstrip())
        if verdict.cure:
            self._print(f"        -> {languages.translated(verdict.cure)}")

    def _print(self, line: str) -> None:
        if not self._as_json:
            typer.echo(line)


def _padded(text: str, columns: int) -> str:
    """Return `text` filled up to `columns` of a terminal, where a Chinese character takes two."""
    wide = sum(east_asian_width(character) in "WF" for character in text)
    return text + " " * max(0, columns - len(text) - wide)


def _told(one: Problem) -> dict[str, str]:
    return {"place": one.place, "rule": one.rule, "value": one.value, "cure": one.cure}


def _branch_told(branch: "Branch") -> dict[str, Any]:
    return {
        "kind": branch.kind,
        "name": branch.name,
        "service": branch.service,
        "endpoint": branch.endpoint,
        "steps": [
            {
                "step": step.name,
                "outcome": step.verdict.outcome,
                "seconds": round(step.seconds, 3),
                "detail": step.verdict.detail,
                "cure": step.verdict.cure,
                "fault": step.verdict.fault,
            }
            for step in branch.steps
        ],
    }
