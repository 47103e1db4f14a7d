"""`receiptd export`: receipts, replies and the journal as files."""

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import typer

from receiptd.cli import exit_codes
from receiptd.cli.bars import bars
from receiptd.cli.options import ConfigOption, load_settings, open_database, time_option
from receiptd.errors import ConfigError

if TYPE_CHECKING:
    from receiptd.export import Selection


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog="Example: receiptd export receipts --status failed --output failed.csv")(
        export
    )


def export(
    table: Annotated[
        Literal["receipts", "uplinks", "journal"],
        typer.Argument(help="What to export.", show_default=False),
    ],
    format: Annotated[
        Literal["csv", "ndjson", "parquet"],
        typer.Option(help="csv opens in Excel; parquet needs receiptd[parquet]."),
    ] = "csv",
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Rows created (journal: received) at this time or later: "
            "2026-05-06T15:08:09+08:00; without a zone it is China's.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Rows from before this time.", show_default=False),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATUS",
            help="Receipts of this status (awaited, pending, lost, unknown, failed, delivered); "
            "can be given again.",
            show_default=False,
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Receipts or replies of this account.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file; - for stdout.")
    ] = Path("-"),
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    time_zone: Annotated[
        str, typer.Option(metavar="ZONE", help="Of the times in it: Asia/Shanghai.")
    ] = "UTC",
    mask: Annotated[
        bool,
        typer.Option("--mask", help="Hide the middle of phone numbers, and the journal's bodies."),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Export receipts, uplinks (replies) or the journal. Phone numbers are whole without --mask.

    CSV is UTF-8 with a BOM and CRLF, for Excel. A text that a spreadsheet would compute or change
    (=1+1, +8613900000001, 007) has one TAB in front of it, which is not seen there and which a
    program takes off. A null is an empty cell without quotes.

    Safe beside a running daemon: each row is in it once, rows that come meanwhile may be missing.
    FILE (mode 0600) is there when it is whole, and not before.
    """
    from receiptd.export import Selection

    if status and table != "receipts":
        raise typer.BadParameter("only receipts have one", param_hint="--status")
    if account is not None and table == "journal":
        rule = "the journal has none: take receipts or uplinks"
        raise typer.BadParameter(rule, param_hint="--account")
    selection = Selection(
        table=table,
        since=time_option(since, "--since"),
        until=time_option(until, "--until"),
        statuses=_statuses(status or ()),
        account=account,
    )
    zone = _zone(time_zone)
    if str(output) != "-" and not force and output.exists():
        raise typer.BadParameter(f"{output}: is there already; see --force", param_hint="--output")
    if str(output) == "-" and format == "parquet" and sys.stdout.isatty():
        raise typer.BadParameter("parquet is nothing for a terminal", param_hint="--output")
    try:
        rows = _export(config, selection, format, output, mask=mask, zone=zone, overwrite=force)
    except OSError as exc:
        if exc.errno == errno.EPIPE:  # who reads has seen enough
            raise
        typer.echo(f"receiptd: {output}: {exc.strerror}; nothing was kept", err=True)
        raise typer.Exit(exit_codes.UNAVAILABLE) from None
    if str(output) != "-":
        typer.echo(f"{rows} rows in {output}")


def _export(
    config: Path | None,
    selection: "Selection",
    format: Literal["csv", "ndjson", "parquet"],
    output: Path,
    *,
    mask: bool,
    zone: tzinfo,
    overwrite: bool,
) -> int:
    from receiptd.export import export, whole_file

    with closing(open_database(load_settings(config))) as store:
        if problems := store.problems():
            raise ConfigError(problems)
        is_file = str(output) != "-"
        target = whole_file(output, overwrite=overwrite) if is_file else _stdout()
        with target as out, _progress() as on_page:
            return export(
                store.reading, selection, format, out, mask=mask, zone=zone, on_page=on_page
            )


@contextmanager
def _stdout() -> Iterator[BinaryIO]:
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


@contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    """Show how much is done, where stderr is a terminal."""
    from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with bars("exporting", *columns) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda done: progress.update(task, completed=done)


def _statuses(names: Sequence[str]) -> tuple[str, ...]:
    from receiptd.model import Status

    known = [status.value for status in Status]
    if unknown := [name for name in names if name not in known]:
        rule = f"{unknown[0]}: one of {', '.join(known)}"
        raise typer.BadParameter(rule, param_hint="--status")
    return tuple(names)


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter(
            "one that this machine knows: UTC, Asia/Shanghai", param_hint="--time-zone"
        ) from None
