"""What `receiptd send` prints, and how it ends."""

import json
from collections.abc import Iterable, Mapping, Sequence

import typer

from receiptd import masking
from receiptd.cli import exit_codes
from receiptd.clock import utc_text
from receiptd.errors import Problem
from receiptd.model import Receipt, Status
from receiptd.phone import mask
from receiptd.sending import Outcome, SendResult
from receiptd.sending_csv import Line
from receiptd.store.following import SentRow
from receiptd.store.merge import Key, key

# One by one up to here; more numbers are counted, and --json has them all.
_MOST_LISTED = 20
_DELIVERED, _FAILED, _AWAITED = "delivered", "failed", "awaited"
_INVALID, _STOPPED = "invalid", "stopped"
_CODES = {
    Outcome.ACCEPTED: exit_codes.OK,
    Outcome.REFUSED: exit_codes.DATA_REFUSED,
    Outcome.UNANSWERED: exit_codes.TRY_AGAIN,
    Outcome.NOT_SENT: exit_codes.UNAVAILABLE,
    _DELIVERED: exit_codes.OK,
    _FAILED: exit_codes.DATA_REFUSED,
    _AWAITED: exit_codes.TRY_AGAIN,
    _INVALID: exit_codes.DATA_REFUSED,
    _STOPPED: exit_codes.TRY_AGAIN,
}


class Report:
    """Collects what became of the calls, tells what went wrong at once, and ends with the rest."""

    def __init__(self, *, account: str, api: str, as_json: bool, quiet: bool, waits: bool) -> None:
        """`quiet`: nothing on stdout if all went well; `waits`: `follow` will be called."""
        self._account = account
        self._api = api
        self._as_json = as_json
        self._quiet = quiet
        self._waits = waits
        self._results: list[tuple[SendResult, Sequence[Line]]] = []
        self._found: Mapping[Key, SentRow] = {}
        self._problems: list[dict[str, object]] = []
        self._stopped_at: int | None = None

    @property
    def accepted(self) -> list[Receipt]:
        """The rows that can have receipts."""
        return [row for result, _ in self._results for row in result.of(Outcome.ACCEPTED)]

    def invalid(self, problems: Iterable[tuple[int | None, Problem]]) -> None:
        """Tell why nothing is sent: (line of the file, or None; problem)."""
        for number, one in problems:
            _complain(f"{'' if number is None else f'line {number}: '}{one}")
            line = {} if number is None else {"line": number}
            self._problems.append(
                line | {"place": one.place, "rule": one.rule, "value": one.value, "cure": one.cure}
            )

    def add(self, result: SendResult, lines: Sequence[Line]) -> None:
        """Take what became of one call; `lines` of the file, if it has some."""
        self._results.append((result, lines))
        verdict = result.verdict
        if verdict.outcome is not Outcome.ACCEPTED:
            told = ": ".join(part for part in (verdict.code, verdict.meaning) if part)
            told += f"; {verdict.cure}" if verdict.cure else ""
            _complain(f"{_span(lines)}{verdict.outcome.replace('_', ' ')}: {told}")
        if not result.is_complete:
            ids = ", ".join(result.biz_ids) or "none"
            _complain(
                f"{_span(lines)}the database went away after the call; the provider's id is {ids}, "
                "the ledger has it as unanswered; do not send it again"
            )

    def stop(self, lines: Sequence[Line], why: str = "") -> None:
        """Note that `lines` and those after them were not sent."""
        if lines:
            self._stopped_at = lines[0].number
            _complain(f"{why + '; ' if why else ''}stopped before line {self._stopped_at}")

    def interrupt(self, lines: Sequence[Line]) -> None:
        """Note that the user stopped in the call of `lines`."""
        after = "; the lines after it were not sent" if lines else ""
        _complain(f"{_span(lines)}interrupted: it may have been sent{after}; do not send it again")

    def follow(self, found: Mapping[Key, SentRow]) -> None:
        """Take what has become of the accepted rows."""
        self._found = found

    def finish(self) -> int:
        """Print the result; return the exit code."""
        outcome = self._outcome()
        code = _CODES[outcome]
        if outcome is Outcome.REFUSED and any(
            result.verdict.is_about_credentials for result, _ in self._results
        ):
            code = exit_codes.CREDENTIALS_REFUSED
        if self._quiet and code == exit_codes.OK:
            return code
        if self._as_json:
            typer.echo(json.dumps(self._json(outcome), ensure_ascii=False))
        elif self._results:
            self._print()
        return code

    def _outcome(self) -> str:
        """Return the first of the words that is true, the gravest first."""
        if self._problems:
            return _INVALID
        seen = {result.verdict.outcome for result, _ in self._results}
        if Outcome.REFUSED in seen:
            return Outcome.REFUSED
        statuses = {self._status(row) for row in self.accepted} if self._waits else set()
        if Status.FAILED in statuses:
            return _FAILED
        if seen == {Outcome.NOT_SENT}:
            return Outcome.NOT_SENT
        incomplete = any(not result.is_complete for result, _ in self._results)
        if Outcome.UNANSWERED in seen or incomplete:
            return Outcome.UNANSWERED
        if seen != {Outcome.ACCEPTED} or self._stopped_at is not None:
            return _STOPPED
        if not self._waits:
            return Outcome.ACCEPTED
        return _DELIVERED if statuses == {Status.DELIVERED} else _AWAITED

    def _status(self, row: Receipt) -> Status:
        found = self._found.get(key(row))
        return found.status if found is not None else row.status

    def _json(self, outcome: str) -> dict[str, object]:
        told: dict[str, object] = {
            "outcome": outcome,
            "account": self._account,
            "api": self._api,
            "numbers": sum(len(result.rows) for result, _ in self._results),
        }
        for one in (Outcome.ACCEPTED, Outcome.REFUSED, Outcome.UNANSWERED):
            told[one.value] = sum(len(result.of(one)) for result, _ in self._results)
        if self._problems:
            told["problems"] = self._problems
        if self._stopped_at is not None:
            told["stopped_at_line"] = self._stopped_at
        told["calls"] = [self._call(result, lines) for result, lines in self._results]
        return told

    def _call(self, result: SendResult, lines: Sequence[Line]) -> dict[str, object]:
        verdict, took = result.verdict, result.took
        return {
            "lines": [lines[0].number, lines[-1].number] if lines else None,
            "outcome": verdict.outcome,
            "out_id": result.out_id,
            "biz_ids": result.biz_ids,
            "submitted_at": utc_text(result.submitted_at),
            "code": verdict.code or None,
            "meaning": masking.text(verdict.meaning) or None,
            "cure": masking.text(verdict.cure) or None,
            "complete": result.is_complete,
            "booked_s": round(took.booked_s, 4),
            "called_s": round(took.called_s, 4),
            "completed_s": round(took.completed_s, 4),
            "rows": [self._row(row) for row in result.rows],
        }

    def _row(self, row: Receipt) -> dict[str, object]:
        found = self._found.get(key(row))
        told: dict[str, object] = {
            "phone": mask(row.phone),
            "biz_id": row.biz_id,
            "status": self._status(row),
            "err_code": found.err_code if found is not None else row.err_code,
        }
        if found is not None:
            # The carrier's; what an API says of a refusal repeats what was sent.
            told["err_msg"] = masking.text(found.err_msg or "") or None
            told["origin"] = found.origin
            told |= {name: round(seconds, 3) for name, seconds in _legs(found).items()}
        return told

    def _print(self) -> None:
        rows = [row for result, _ in self._results for row in result.rows]
        if len(rows) <= _MOST_LISTED:
            for row in rows:
                typer.echo(self._line(row))
        else:
            counts = {one: sum(self._status(row) is one for row in rows) for one in Status}
            words = (f"{count} {status}" for status, count in counts.items() if count)
            typer.echo(f"{len(rows)} numbers in {len(self._results)} calls: {', '.join(words)}")
        if len(self._results) == 1:
            [(result, _)] = self._results
            took = result.took
            typer.echo(
                f"{self._api}: booked in {took.booked_s:.3f} s, call {took.called_s:.3f} s, "
                f"completed in {took.completed_s:.3f} s; out_id {result.out_id or '-'}"
            )

    def _line(self, row: Receipt) -> str:
        found = self._found.get(key(row))
        line = f"{self._status(row):<10}{mask(row.phone):<14}{row.biz_id}"
        code, words = (found.err_code, found.err_msg) if found else (row.err_code, None)
        if code and self._status(row) is not Status.DELIVERED:
            line += masking.text(f"  {code} {words or ''}").rstrip()
        if found is None or not (legs := _legs(found)):
            return line
        told = ", ".join(f"{_LEGS[name]} {seconds:.1f} s" for name, seconds in legs.items())
        return f"{line}  {told}; by {found.origin}"


_LEGS = {
    "provider_to_carrier_s": "provider to carrier",
    "carrier_to_phone_s": "carrier to phone",
    "receipt_to_database_s": "receipt to database",
}


def _legs(row: SentRow) -> dict[str, float]:
    """Return how long each leg took that is known, in seconds."""
    # Providers tell whole seconds, cut off: what seems to end before it began took less than one.
    times = (row.submitted_at, row.sent_at, row.reported_at, row.updated_at)
    found: dict[str, float] = {}
    if row.reported_at is None and row.sent_at is None:
        return found
    for name, begin, end in zip(_LEGS, times, times[1:], strict=False):
        if begin is not None and end is not None:
            found[name] = max(0.0, (end - begin).total_seconds())
    return found


def _span(lines: Sequence[Line]) -> str:
    if not lines:
        return ""
    first, last = lines[0].number, lines[-1].number
    return f"line {first}: " if first == last else f"lines {first}-{last}: "


def _complain(text: str) -> None:
    typer.echo(f"receiptd: {masking.text(text)}", err=True)
