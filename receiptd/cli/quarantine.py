"""`receiptd quarantine`: what could not be understood, shown safely, and dropped on purpose."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from receiptd.cli import exit_codes
from receiptd.cli.bars import bars
from receiptd.cli.options import ConfigOption, load_settings, open_database, time_option
from receiptd.clock import utc_text
from receiptd.errors import ConfigError

if TYPE_CHECKING:
    from receiptd.quarantine import Shelf
    from receiptd.store import Store
    from receiptd.store.journal import JournalRow

_MOST_COUNTED = 1_000_000

_ReasonOption = Annotated[
    str | None,
    typer.Option(
        metavar="REASON",
        help="Only these: bad_field, or with its detail, bad_field:err_code.",
        show_default=False,
    ),
]
_SourceOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Only what this source brought.", show_default=False),
]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(no_args_is_help=True)
    group.command(name="list", epilog="Example: receiptd quarantine list --reason bad_field")(list_)
    group.command(epilog="Example: receiptd quarantine show 1234")(show)
    group.command(
        epilog='Example: receiptd quarantine drop --reason not_json --because "test messages"'
    )(drop)
    app.add_typer(
        group,
        name="quarantine",
        help="What could not be understood: list it, look at it, drop it.",
        epilog="Example: receiptd quarantine list",
    )


def list_(
    reason: _ReasonOption = None,
    source: _SourceOption = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, help="Rows shown of each reason, the newest first.")
    ] = 5,
    config: ConfigOption = None,
    as_json: _JsonOption = False,
) -> None:
    """List what could not be understood, by reason, that of the newest message first.

    A reason can have a detail behind a colon: the field that it is about.
    """
    from receiptd import quarantine
    from receiptd.store.journal import Selection

    selection = Selection(reason=reason, source=source)
    with _open_store(config) as store:
        shelves = quarantine.shelves(store, selection, limit)
    if as_json:
        rows = sum(shelf.rows for shelf in shelves)
        reasons = [_shelf(shelf) for shelf in shelves]
        typer.echo(json.dumps({"quarantined": rows, "reasons": reasons}, ensure_ascii=False))
        return
    if not shelves:
        typer.echo("nothing is quarantined" + (" for this" if reason or source else ""))
    for shelf in shelves:
        _print_shelf(shelf)


def show(
    id: Annotated[int, typer.Argument(metavar="ID", help="The number that `list` shows.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="Print only the body, however long it is.")
    ] = False,
    config: ConfigOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Show one journal row: why it was quarantined, what to do about it, and its body.

    In the body, phone numbers are masked and control characters escaped; base64 around JSON is
    taken off. `receiptd export journal` has it to the byte.
    """
    from receiptd import quarantine

    with _open_store(config) as store:
        row = quarantine.find(store, id)
    if row is None:
        typer.echo(f"receiptd: the journal has no row {id}", err=True)
        raise typer.Exit(exit_codes.DATA_REFUSED)
    body = quarantine.shown(row.body, None) if raw else quarantine.shown(row.body)
    if as_json:
        typer.echo(json.dumps(_row(row) | _explained(row) | {"body": body}, ensure_ascii=False))
    elif raw:
        typer.echo(body)
    else:
        told = _row(row) | _explained(row)
        for name, value in told.items():
            if value not in (None, ""):
                typer.echo(f"{name:<13}{value}")
        typer.echo(f"{'body':<13}{body}")


def drop(
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID", help="The numbers that `list` shows.", show_default=False),
    ] = None,
    reason: _ReasonOption = None,
    source: _SourceOption = None,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only what was received before: 2026-05-06T15:08:09+08:00; without a zone it is "
            "China's.",
            show_default=False,
        ),
    ] = None,
    because: Annotated[
        str,
        typer.Option(metavar="TEXT", help="Why: it stays in the journal with your user name."),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask no question.")] = False,
    config: ConfigOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Drop what is not worth a replay: single rows, or all of a reason.

    The rows stay in the journal as `dropped`, with both reasons, until retention takes them; no
    replay looks at them any more. Asks first if it is more than one, on a terminal.
    """
    from receiptd import quarantine
    from receiptd.store.journal import Selection

    if not because.strip():
        raise typer.BadParameter("say why: it stays in the journal", param_hint="--because")
    selection = Selection(reason=reason, source=source, until=time_option(before, "--before"))
    if bool(ids) == (selection != Selection()):
        rule = "give numbers, or else --reason, --source or --before"
        raise typer.BadParameter(rule, param_hint="ID")
    note = quarantine.signed(because)
    with _open_store(config) as store:
        if ids:
            _confirm(len(ids), yes=yes)
            dropped = quarantine.drop(store, ids, note)
        else:
            _confirm(quarantine.count(store, selection, _MOST_COUNTED), yes=yes)
            with _progress() as advance:
                dropped = quarantine.drop_all(store, selection, note, advance)
    missed = len(ids) - dropped if ids else 0
    if as_json:
        typer.echo(json.dumps({"dropped": dropped, "not_quarantined": missed}))
    else:
        typer.echo(f"{dropped} dropped")
    if missed:
        typer.echo(f"receiptd: {missed} of these are not quarantined", err=True)
        raise typer.Exit(exit_codes.DATA_REFUSED)


@contextmanager
def _open_store(config: Path | None) -> Iterator["Store"]:
    with closing(open_database(load_settings(config))) as store:
        if problems := store.problems():
            raise ConfigError(problems)
        yield store


def _confirm(rows: int, *, yes: bool) -> None:
    if rows > 1 and not yes and sys.stdin.isatty():
        more = "or more " if rows == _MOST_COUNTED else ""
        if not typer.confirm(f"Drop {rows} {more}rows?", err=True):
            typer.echo("receiptd: nothing was dropped", err=True)
            raise typer.Exit(exit_codes.INTERRUPTED)


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Show how many are done, where stderr is a terminal."""
    from rich.progress import SpinnerColumn

    with bars(SpinnerColumn(), "dropping{task.completed:>12,.0f} rows") as progress:
        task = progress.add_task("", total=None)
        yield lambda rows: progress.advance(task, rows)


def _print_shelf(shelf: "Shelf") -> None:
    from receiptd import masking, quarantine

    advice = quarantine.advice(shelf.reason)
    typer.echo(f"{masking.text(shelf.reason) or '(no reason)'}: {shelf.rows} rows")
    typer.echo(f"  {advice.meaning}")
    typer.echo(f"  cure: {advice.cure}")
    for row in shelf.newest:
        typer.echo(
            f"  {row.id:>10}  {_time(row.received_at)}  {masking.text(row.source):<16}"
            f"  {masking.text(row.envelope_id)}" + (f" [{row.part}]" if row.part else "")
        )
    if (rest := shelf.rows - len(shelf.newest)) > 0 and shelf.newest:
        typer.echo(f"  {'…':>10}  and {rest} more")


def _shelf(shelf: "Shelf") -> dict[str, Any]:
    from receiptd import masking, quarantine

    advice = quarantine.advice(shelf.reason)
    return {
        "reason": masking.text(shelf.reason),
        "rows": shelf.rows,
        "newest_at": _time(shelf.newest_at),
        "meaning": advice.meaning,
        "cure": advice.cure,
        "newest": [_row(row) for row in shelf.newest],
    }


def _row(row: "JournalRow") -> dict[str, Any]:
    from receiptd import masking

    return {
        "id": row.id,
        "source": masking.text(row.source),
        "envelope_id": masking.text(row.envelope_id),
        "part": row.part,
        "kind": row.kind,
        "outcome": row.outcome,
        "received_at": _time(row.received_at),
        "enqueued_at": _time(row.enqueued_at),
        "pull_count": row.pull_count,
        "bytes": len(row.body),
    }


def _explained(row: "JournalRow") -> dict[str, Any]:
    from receiptd import masking, quarantine
    from receiptd.store import journal

    reason, because = journal.split_reason(row.reason)
    advice = quarantine.advice(reason) if reason else None
    return {
        "reason": masking.text(reason),
        "meaning": advice.meaning if advice else "",
        "cure": advice.cure if advice and row.outcome == "quarantined" else "",
        "dropped": masking.text(because),
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else utc_text(at, "seconds")
