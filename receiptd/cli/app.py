"""The commands, put together."""

from typing import Annotated, Any

import typer

from receiptd import __version__
from receiptd.cli import (
    audit,
    check,
    db,
    demo,
    erase,
    explain,
    export,
    health,
    languages,
    quarantine,
    reconcile,
    replay,
    run,
    sandbox,
    send,
    sends,
    status,
)


def command() -> Any:
    """Return the whole program as one command."""
    app = typer.Typer(
        epilog="Example: receiptd demo",
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_root)
    for group in (
        demo,
        run,
        check,
        status,
        health,
        explain,
        send,
        sends,
        reconcile,
        audit,
        replay,
        quarantine,
        db,
        sandbox,
        export,
        erase,
    ):
        group.register(app)
    program = typer.main.get_command(app)
    languages.summarize(program)
    return program


def _print_version(given: bool) -> None:
    if given:
        typer.echo(f"receiptd {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback if receiptd itself fails.")
    ] = False,
) -> None:
    """SMS delivery receipts, turned into rows that a company can trust."""
