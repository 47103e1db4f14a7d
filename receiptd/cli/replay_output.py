"""What `receiptd replay` was asked for, and how it tells of it."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from receiptd.cli.bars import bars

if TYPE_CHECKING:
    from receiptd.replay.batches import Refused
    from receiptd.replay.run import Result
    from receiptd.replay.savers import Change
    from receiptd.store import Store
    from receiptd.store.journal import Selection

# Of the journal: `quarantine list` shows them all. Of a file, nothing else does.
_MOST_ROWS_LISTED = 20
_MOST_COUNTED = 1_000_000


class Asked(NamedTuple):
    """What was asked for on the command line."""

    files: list[Path]
    quarantined: bool
    selection: "Selection"
    message_type: str | None
    account: str | None
    after_id: int
    after_line: int
    rate: float | None
    dry_run: bool
    as_json: bool
    config: Path | None


@contextmanager
def show_progress(asked: Asked, store: "Store") -> Iterator[Callable[[int], None]]:
    """Show how much is done, where stderr is a terminal, in rows or, of files, in bytes."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TimeRemainingColumn,
    )

    # What a preview prints on a terminal shows by itself how far it is.
    hidden = asked.dry_run and sys.stdout.isatty()
    amount = DownloadColumn() if asked.files else MofNCompleteColumn()
    with bars("replaying", BarColumn(), amount, TimeRemainingColumn(), hidden=hidden) as progress:
        task = progress.add_task("", total=None if progress.disable else _total(asked, store))
        yield lambda size: progress.advance(task, size)


def _total(asked: Asked, store: "Store") -> int | None:
    """Return how much there is, None if that is not known or would take long to count."""
    if asked.files:
        known = all(file.is_file() for file in asked.files)
        return sum(file.stat().st_size for file in asked.files) if known else None
    if asked.after_id >= 0:
        return None
    from receiptd.store import journal

    with store.reading() as connection:
        rows = journal.count(
            connection, asked.selection, quarantined=asked.quarantined, most=_MOST_COUNTED
        )
    return rows if rows < _MOST_COUNTED else None


class Listing:
    """Tells on stderr what is refused."""

    def __init__(self, asked: Asked) -> None:
        self._most = None if asked.files else _MOST_ROWS_LISTED
        self._count = 0

    def __call__(self, refused: "Refused") -> None:
        self._count += 1
        if self._most is None or self._count <= self._most:
            _tell(f"{refused.place}: {refused.rule}")
        elif self._count == self._most + 1:
            _tell("and more: `receiptd quarantine list` shows them all")


def _tell(text: str) -> None:
    from receiptd import masking

    # Not typer.echo, which would write past the progress bar.
    print(f"receiptd: {masking.text(text)}", file=sys.stderr)


def tell_where(asked: Asked, result: "Result") -> None:
    """Say with which command it goes on."""
    selection = asked.selection
    words: list[str] = ["receiptd", "replay"]
    given: list[tuple[str, object]] = [
        ("--reason", selection.reason),
        ("--source", selection.source),
        ("--until", None if selection.until is None else selection.until.isoformat()),
        ("--type", asked.message_type),
        ("--account", asked.account),
        ("--rate", asked.rate),
        ("--config", asked.config),
    ]
    position = list(result.position)
    if asked.files:
        names = [str(file) for file in asked.files]
        name, *position = position or [names[0]]
        words += names[names.index(name) :]
    elif asked.quarantined:
        words.append("--quarantined")
        given.append(("--since", _since(asked)))
    elif not position:
        given.append(("--since", _since(asked)))
    words += [word for name, value in given if value is not None for word in (name, str(value))]
    words += [*position, *(["--dry-run"] if asked.dry_run else [])]
    _tell(f"stopped after {result.records} records; go on with: {shlex.join(words)}")


def _since(asked: Asked) -> str | None:
    return None if asked.selection.since is None else asked.selection.since.isoformat()


def print_change(change: "Change") -> None:
    from receiptd import masking, phone

    who = "" if change.phone is None else phone.mask(change.phone)
    was = change.old or "new"
    text = f"{change.table:<9}{masking.text(change.identity):<26}{who:<14}{was} -> {change.new}"
    if change.old == change.new:
        text += f" ({', '.join(change.columns)})"
    typer.echo(text)


def print_json(change: "Change") -> None:
    from msgspec.structs import asdict

    from receiptd import masking, phone

    shown = asdict(change) | {
        "identity": masking.text(change.identity),
        "phone": None if change.phone is None else phone.mask(change.phone),
    }
    typer.echo(json.dumps(shown, ensure_ascii=False))


def report(asked: Asked, result: "Result") -> None:
    from receiptd.model import REPLAY_SOURCE

    if asked.as_json:
        told = {
            "dry_run": asked.dry_run,
            "complete": result.is_complete,
            "records": result.records,
            "changed": result.changed,
            "replayed": result.settled,
            "refused": result.refused,
            "reasons": dict(result.reasons.most_common()),
            "passed_over": result.passed_over,
            "unexplained": dict(result.unexplained.most_common()),
        }
        typer.echo(json.dumps(told))
        return
    would = "would be " if asked.dry_run else ""
    typer.echo(f"{result.records} records understood: {result.changed} rows {would}new or changed")
    if not asked.files:
        typer.echo(f"{result.settled} quarantined journal rows {would}replayed")
    if result.refused:
        reasons = ", ".join(f"{count} {word}" for word, count in result.reasons.most_common())
        typer.echo(f"{result.refused} refused: {reasons}")
    if result.passed_over:
        typer.echo(f"{result.passed_over} passed over (own questions, dropped, erased)")
    for source, count in result.unexplained.most_common():
        # What came from files has no source that could be configured.
        cure = "" if source == REPLAY_SOURCE else "configure it, or "
        typer.echo(f"{count} skipped: no source {source} is configured; {cure}give --type")
