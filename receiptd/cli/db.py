"""`receiptd db`: the database's schema, and what is too old to keep."""

import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from receiptd.cli.bars import bars
from receiptd.cli.options import ConfigOption, load_settings, open_database
from receiptd.errors import ConfigError

if TYPE_CHECKING:
    from receiptd.config import Settings
    from receiptd.store import Store
    from receiptd.store.retention import Limits

_TABLES = ("journal", "receipts", "progress")

_JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(no_args_is_help=True)
    group.command(epilog="Example: receiptd db upgrade --config /etc/receiptd/config.toml")(upgrade)
    group.command(epilog="Example: receiptd db current --json")(current)
    group.command(epilog="Example: receiptd db prune --journal 30d --dry-run")(prune)
    app.add_typer(
        group,
        name="db",
        help="Make, upgrade and show the database's schema; delete what is too old.",
        epilog="Example: receiptd db upgrade",
    )


def upgrade(config: ConfigOption = None) -> None:
    """Bring the schema up to what this version needs.

    Safe beside a running daemon, and safe to repeat. Prints each revision applied; nothing if the
    schema was up to date.
    """
    store = open_database(load_settings(config))
    try:
        applied = store.upgrade()
        for revision in applied:
            typer.echo(revision)
    finally:
        store.close()


def current(config: ConfigOption = None, as_json: _JsonOption = False) -> None:
    """Print the revision that the schema is at; `none` if there is no schema yet."""
    store = open_database(load_settings(config))
    try:
        revision = store.revision()
    finally:
        store.close()
    typer.echo(json.dumps({"revision": revision}) if as_json else revision or "none")


def prune(
    config: ConfigOption = None,
    journal: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Delete journal rows received longer ago: 90d, 12h, forever; else as configured.",
            show_default=False,
        ),
    ] = None,
    receipts: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Delete receipts unchanged for longer; else as configured.",
            show_default=False,
        ),
    ] = None,
    include_quarantined: Annotated[
        bool,
        typer.Option(
            "--include-quarantined",
            help="Delete old journal rows even if nobody replayed or dropped them yet.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Delete nothing; print what would be deleted.")
    ] = False,
    as_json: _JsonOption = False,
) -> None:
    """Delete what is older than the configured retention, as the daemon does by itself.

    Works beside a running daemon: in transactions of at most 1,000 rows, with a pause after each.
    Safe to interrupt and to repeat. Kept are quarantined rows that wait for a decision, and
    receipts that reconciliation still asks about. Prints the rows deleted per table.
    """
    settings = load_settings(config)
    limits = _limits(settings, journal, receipts, include_quarantined=include_quarantined)
    store = open_database(settings)
    try:
        if problems := store.problems():
            raise ConfigError(problems)
        removed = _prune(store, limits, dry_run=dry_run)
        kept = store.undecided(limits)
    finally:
        store.close()
    if as_json:
        rows = {table: removed[table] for table in _TABLES}
        typer.echo(json.dumps({"dry_run": dry_run, **rows, "quarantined_kept": kept}))
        return
    done = "to delete" if dry_run else "deleted"
    for table in _TABLES:
        typer.echo(f"{table:<12}{removed[table]} rows {done}")
    typer.echo(f"{'quarantined':<12}{kept} old rows kept")


def _limits(
    settings: "Settings", journal: str | None, receipts: str | None, *, include_quarantined: bool
) -> "Limits":
    from receiptd.store.retention import Limits

    configured = settings.retention
    return Limits(
        journal=configured.journal if journal is None else _age(journal, "--journal"),
        receipts=configured.receipts if receipts is None else _age(receipts, "--receipts"),
        include_quarantined=include_quarantined,
    )


def _age(text: str, option: str) -> timedelta | None:
    from receiptd.config.durations import parse_or_forever

    try:
        return parse_or_forever(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint=option) from None


def _prune(store: "Store", limits: "Limits", *, dry_run: bool) -> Counter[str]:
    from rich.progress import SpinnerColumn, TimeElapsedColumn

    from receiptd.clock import SystemClock
    from receiptd.housekeeping import prune_now

    rows = "{task.description:<10}{task.completed:>12,.0f} rows"
    with bars(SpinnerColumn(), rows, TimeElapsedColumn()) as progress:
        # No total: to count them takes as long as to delete them.
        tasks = {table: progress.add_task(table, total=None) for table in _TABLES}
        return prune_now(
            store,
            limits,
            clock=SystemClock(),
            dry_run=dry_run,
            told=lambda step: progress.advance(tasks[step.table], step.rows),
        )
