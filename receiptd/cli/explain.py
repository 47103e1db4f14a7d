"""`receiptd explain`: what became of one SMS, and how we know."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from receiptd.cli import exit_codes
from receiptd.cli.bars import bars
from receiptd.cli.options import ConfigOption, load_settings, open_database
from receiptd.errors import ConfigError

if TYPE_CHECKING:
    from receiptd.config import Settings
    from receiptd.explain import Explainer, Explanation
    from receiptd.explain.finding import Told


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog="Example: receiptd explain 13900000001 --limit 3")(explain)


def explain(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A biz_id, a phone (+86 139 0000 0001), an out_id, or a reply's sequence_id.",
            show_default=False,
        ),
    ],
    account: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only what is booked here.", show_default=False),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=1000, help="SMS at most, the newest first.")
    ] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    show_phones: Annotated[
        bool,
        typer.Option("--show-phones", help="Do not mask phones and replies in --json."),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Show the timeline of an SMS: sent, handed over, pulled, understood, queried; each change of
    its status and what made it; replies; what comes next and when it is lost for ever.

    Phones are shown whole, for the operator's own terminal; --json masks them. A phone or an out_id
    has no index, so it is sought in the whole table. Works beside a running daemon and changes
    nothing. Exits 65 if nothing is known of ID, 69 if the database is away.
    """
    from receiptd.explain import Unsearchable

    settings = load_settings(config)
    with _open_explainer(settings) as explainer, _progress() as told:
        try:
            explanation = explainer.explain(wanted, account=account, limit=limit, told=told)
        except Unsearchable as exc:
            raise typer.BadParameter(str(exc), param_hint="ID") from None
    if as_json:
        from receiptd.explain.shown import plain

        shown = plain(explanation, show_phones=show_phones)
        typer.echo(json.dumps(shown, ensure_ascii=False, indent=2))
    elif not explanation.is_empty:
        from receiptd.cli.explain_view import show

        show(explanation)
    if explanation.is_empty:
        _say_nothing_is_known(explanation, account)
        raise typer.Exit(exit_codes.DATA_REFUSED)


@contextmanager
def _open_explainer(settings: "Settings") -> Iterator["Explainer"]:
    from receiptd.clock import SystemClock
    from receiptd.explain import Explainer
    from receiptd.plugins import Installed

    store = open_database(settings)
    try:
        if problems := store.problems():
            raise ConfigError(problems)
        yield Explainer(store, settings, Installed(), SystemClock())
    finally:
        store.close()


def _say_nothing_is_known(explanation: "Explanation", account: str | None) -> None:
    # Without what was asked for: it may be a phone.
    where = ", ".join(one for one in explanation.searched if one != "quarantine")
    of = "" if account is None else f" of the account {account}"
    typer.echo(
        f"receiptd: nothing is known of it: no SMS{of} has it as its {where}, and no quarantined "
        "message names it",
        err=True,
    )


@contextmanager
def _progress() -> Iterator["Told"]:
    """Show how far the tables are read, where stderr is a terminal."""
    from rich.progress import BarColumn, TaskID, TaskProgressColumn

    tasks: dict[str, TaskID] = {}
    with bars("reading {task.description:<10}", BarColumn(), TaskProgressColumn()) as progress:

        def told(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield told
