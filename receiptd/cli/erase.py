"""`receiptd erase`: a person's data out of the database."""

import getpass
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from receiptd.cli import exit_codes
from receiptd.cli.bars import bars
from receiptd.cli.options import ConfigOption, load_settings, open_database
from receiptd.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from receiptd.erase import Erased, Eraser, Number
    from receiptd.store.erasure import TableName


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog="Example: receiptd erase --phone 13900000001 --dry-run")(erase)


def erase(
    phone: Annotated[
        str,
        typer.Option(
            metavar="NUMBER",
            help="In any spelling; with its country code if it is not China's. - reads it from "
            "stdin, where no list of processes and no history shows it.",
        ),
    ],
    because: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Why, for the record: a ticket's number.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Erase nothing; print what would be erased.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    vacuum: Annotated[
        bool,
        typer.Option(
            "--vacuum",
            help="SQLite: write the file anew afterwards, for old copies in its free space. Needs "
            "as much room again; a daemon waits meanwhile.",
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Erase a person's data by phone number. This cannot be undone.

    Receipts stay for billing, but say no longer who: the phone becomes erased:<random>, out_id
    goes; status, times and biz_id stay, and nobody is asked about them any more. Replies and
    notifications not yet delivered are deleted. Journal rows keep source, ids, times and outcome;
    the body becomes {"erased":true}, also where a body that could not be read mentions the number.
    Where others' rows mention it, the mention goes.

    Reads every table once. Works beside a running daemon in short transactions; safe to interrupt
    and to repeat. That it was done is kept in the table `erasures`, with the number masked.

    Not reached: backups; files that were exported; what a server keeps of old rows until VACUUM
    (PostgreSQL) or purge (MySQL) and in its logs. A redelivery, a replay or another send brings
    rows back: erase again.
    """
    from receiptd.clock import SystemClock
    from receiptd.erase import Eraser

    number = _number(phone)
    with closing(open_database(load_settings(config))) as store:
        if problems := store.problems():
            raise ConfigError(problems)
        if not (dry_run or yes):
            _confirm(number, from_stdin=phone == "-")
        with _progress() as told:
            eraser = Eraser(store, number, SystemClock(), told=told)
            done = eraser.count() if dry_run else _run(eraser, because, vacuum=vacuum)
    _report(number, done, dry_run=dry_run, as_json=as_json)


def _run(eraser: "Eraser", because: str | None, *, vacuum: bool) -> "Erased":
    try:
        return eraser.run(asked_by=_user(), because=because, vacuum=vacuum)
    except (StoreUnavailable, KeyboardInterrupt):
        print(
            f"receiptd: stopped after {eraser.rows.total()} rows; run it again for the rest",
            file=sys.stderr,
        )
        raise


def _number(text: str) -> "Number":
    from receiptd.erase import NotANumber, Number

    try:
        return Number(sys.stdin.readline(64) if text == "-" else text)
    except NotANumber as exc:
        raise typer.BadParameter(str(exc), param_hint="--phone") from None


def _confirm(number: "Number", *, from_stdin: bool) -> None:
    if from_stdin or not sys.stdin.isatty():
        rule = "nobody can be asked here: add it if you are sure"
        raise typer.BadParameter(rule, param_hint="--yes")
    if not typer.confirm(f"Erase all data of {number.hint} for good?", err=True):
        typer.echo("receiptd: nothing was erased", err=True)
        raise typer.Exit(exit_codes.INTERRUPTED)


def _user() -> str:
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


@contextmanager
def _progress() -> Iterator[Callable[["TableName", float], None]]:
    """Show how much of each table is read, where stderr is a terminal."""
    from rich.progress import BarColumn, TaskProgressColumn

    from receiptd.erase import TABLES

    with bars("{task.description:<10}", BarColumn(), TaskProgressColumn()) as progress:
        tasks = {table: progress.add_task(table, total=1.0) for table in TABLES}
        yield lambda table, done: progress.update(tasks[table], completed=done)


def _report(number: "Number", done: "Erased", *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        head = {"dry_run": dry_run, "phone": number.hint, "erasure": done.id}
        typer.echo(json.dumps({**head, **done.rows, "traces": done.has_traces}))
    else:
        for table, rows in done.rows.items():
            typer.echo(f"{table:<12}{rows} rows {'to erase' if dry_run else 'erased'}")
        if done.id is not None:
            typer.echo(f"recorded as erasure {done.id}")
    if done.has_traces:
        typer.echo(
            "receiptd: the database's files still hold these digits: old copies in free space or "
            "the log, which --vacuum removes, or a longer number",
            err=True,
        )
