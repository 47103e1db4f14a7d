"""`receiptd sends`: what was sent, into the ledger, by whoever sent it."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from receiptd.cli import exit_codes
from receiptd.cli.bars import bars
from receiptd.cli.options import (
    ConfigOption,
    load_settings,
    open_database,
    open_input,
    time_option,
)
from receiptd.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from receiptd.ledger import Ledger
    from receiptd.ledger_import import Imported

# Of one transaction, 0.2 s after the first and twice as long each time: a daemon on the same
# SQLite file lets go of it many times meanwhile.
_ATTEMPTS = 5

_AccountOption = Annotated[
    str,
    typer.Option("--account", metavar="NAME", help="The account in the configuration."),
]
_JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(no_args_is_help=True)
    example = "Example: receiptd sends record --api SendSms --account main < sent.json"
    group.command(epilog=example)(record)
    group.command(
        name="import", epilog="Example: receiptd sends import sends.csv --account main --json"
    )(import_)
    app.add_typer(
        group,
        name="sends",
        help="Tell the ledger what was sent, so that a receipt that never comes is missed.",
        epilog="Example: receiptd sends import sends.csv --account main",
    )


def record(
    api: Annotated[
        str,
        typer.Option(
            metavar="API",
            help="SendSms, SendBatchSms, SendMessageToGlobe, polyv, jushita; or `own`.",
        ),
    ],
    account: _AccountOption,
    submitted_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="When it was called: 2024-05-06T15:08:09+08:00, or 2024-05-06 15:08:09 for "
            "China's time; else now.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Record calls of a send API, read as JSON from stdin.

    One object {"request": {...}, "response": {...}}, an array of them, or one per line; each may
    name its own "api", "account" and "submitted_at". The request holds the API's parameters, the
    response its answer: a refused send is recorded as failed; {} if no answer came.

    Safe beside a running daemon and to repeat with the same --submitted-at. Exits 65 if some input
    was refused; the rest is recorded.
    """
    from receiptd.clock import SystemClock
    from receiptd.ledger_import import Importer, read_json

    at = time_option(submitted_at, "--submitted-at") or SystemClock().now()
    with _open_ledger(config, account, api) as ledger:
        importer = Importer(ledger, account=account, api=api, submitted_at=at, on_bad=_tell)
        _report(importer.run(read_json(sys.stdin.buffer)), as_json=as_json)


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV with a header, or NDJSON; - for stdin.")
    ],
    account: _AccountOption,
    api: Annotated[
        str,
        typer.Option(metavar="API", help="What lines were sent by that do not say it themselves."),
    ] = "own",
    config: ConfigOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Import sends from a file.

    CSV needs the columns phone and biz_id, and should have submitted_at; out_id, sign_name,
    template_code, send_api, account and provider are read too, others are not. A line of NDJSON
    has the same fields, or is {"api", "request", "response", "submitted_at"} as the API has them.
    A time without a zone is China's.

    A line that is refused is listed on stderr with its number, and the rest goes in; the exit code
    is then 65. Safe beside a running daemon, to interrupt and to repeat: what is there stays.
    """
    from receiptd.ledger_import import Importer, read_file

    with open_input(file) as stream, _open_ledger(config, account, api) as ledger:
        importer = Importer(ledger, account=account, api=api, on_bad=_tell)
        try:
            with _progress(file) as advance:
                imported = importer.run(read_file(stream, advance))
        except StoreUnavailable:
            typer.echo(
                f"receiptd: stopped after {importer.stored.rows} rows; they are stored: import the "
                "same file again",
                err=True,
            )
            raise
        _report(imported, as_json=as_json)


@contextmanager
def _open_ledger(config: Path | None, account: str, api: str) -> Iterator["Ledger"]:
    from receiptd.client import accounts
    from receiptd.clock import SystemClock
    from receiptd.ledger import OWN, Ledger

    settings = load_settings(config)
    clock = SystemClock()
    store = open_database(settings)
    try:
        ledger = Ledger(
            store,
            accounts(settings),
            clock,
            attempts=_ATTEMPTS,
            ask_after=settings.reconcile.first_after,
        )
        known = [OWN, *sorted(ledger.books(account).provider.send_readers)]
        if api not in known:
            raise typer.BadParameter(f"one of {', '.join(known)}", param_hint="--api")
        if problems := store.problems():
            raise ConfigError(problems)
        yield ledger
    finally:
        store.close()


@contextmanager
def _progress(file: Path) -> Iterator[Callable[[int], None]]:
    """Show how much of the file is read, where stderr is a terminal."""
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with bars("importing", *columns) as progress:
        size = file.stat().st_size if file.is_file() else None
        task = progress.add_task("", total=size)
        yield lambda read: progress.advance(task, read)


def _tell(number: int, rule: str, cure: str) -> None:
    # Not typer.echo, which would write past the progress bar.
    print(f"receiptd: line {number}: {rule}; {cure}", file=sys.stderr)


def _report(imported: "Imported", *, as_json: bool) -> None:
    """Print the result; exit with 65 if some line was refused."""
    recorded = imported.recorded
    if as_json:
        result = {
            "lines": imported.lines,
            "bad_lines": imported.bad,
            "rows": recorded.rows,
            "accepted": recorded.accepted,
            "refused": recorded.refused,
            "unanswered": recorded.unanswered,
            "undated": imported.undated,
            "changed": recorded.changed,
        }
        typer.echo(json.dumps(result))
    else:
        typer.echo(f"{imported.lines} lines, {imported.bad} bad")
        typer.echo(
            f"{recorded.rows} sends: {recorded.accepted} accepted, {recorded.refused} refused by "
            f"the API, {recorded.unanswered} unanswered; {recorded.changed} new or changed"
        )
        if imported.undated:
            typer.echo(f"{imported.undated} without submitted_at: nobody can be asked about them")
    raise typer.Exit(exit_codes.DATA_REFUSED if imported.bad else exit_codes.OK)
