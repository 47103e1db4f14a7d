"""`receiptd demo`: all of it at once, without an account and without a configuration."""

import os
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog="Example: receiptd demo --messages 200 --keep /tmp/receiptd-demo")(demo)


def demo(
    # From 10 on, each of the four send APIs is called.
    messages: Annotated[
        int, typer.Option(min=10, metavar="COUNT", help="How many SMS to send.")
    ] = 1000,
    seed: Annotated[
        int, typer.Option(metavar="NUMBER", help="The same number gives the same run.")
    ] = 1,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep the database and the logs there.", show_default=False
        ),
    ] = None,
) -> None:
    """Show receiptd at work, on loopback and SQLite (or $RECEIPTD_DATABASE__URL).

    Starts the sandbox and the daemon, sends SMS through all four send APIs, kills and restarts the
    daemon half way, and loses two receipts on purpose, which reconciliation finds. Ends with a
    table that accounts for every send. Needs no account, no network and no configuration. Exits 0
    only if every send is accounted for, and both were found.
    """
    from receiptd import demo as show

    url = os.environ.get("RECEIPTD_DATABASE__URL")
    raise typer.Exit(show.run(seed=seed, messages=messages, keep=keep, database_url=url))
