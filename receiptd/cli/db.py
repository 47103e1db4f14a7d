"""`receiptd db`: the database's schema."""

import json
from typing import Annotated

import typer

from receiptd.cli.options import ConfigOption, load_settings, open_database


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(no_args_is_help=True)
    group.command(epilog="Example: receiptd db upgrade --config /etc/receiptd/config.toml")(upgrade)
    group.command(epilog="Example: receiptd db current --json")(current)
    app.add_typer(
        group,
        name="db",
        help="Make, upgrade and show the database's schema.",
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


def current(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Print the revision that the schema is at; `none` if there is no schema yet."""
    store = open_database(load_settings(config))
    try:
        revision = store.revision()
    finally:
        store.close()
    typer.echo(json.dumps({"revision": revision}) if as_json else revision or "none")
