"""`receiptd reconcile`: ask the providers now for what never came."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from receiptd.cli import exit_codes
from receiptd.cli.bars import bars
from receiptd.cli.options import ConfigOption, load_settings, open_database, time_option
from receiptd.errors import ConfigError, Problem

if TYPE_CHECKING:
    from receiptd.assembly import QueryPlan
    from receiptd.config import Settings
    from receiptd.reconcile.now import Outcome
    from receiptd.reconcile.part import Part
    from receiptd.store import Store
    from receiptd.store.plan import Span

_SHOWN = 20  # rows of a dry run


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog="Example: receiptd reconcile --since 2026-11-01 --account main --dry-run")(
        reconcile
    )


def reconcile(
    config: ConfigOption = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Sends from this time on, due or not: 2026-11-20 (a day in China), "
            "2026-11-20T15:08:09+08:00.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Sends before this time.", show_default=False),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of this account only.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask nothing; print what would be asked about.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Ask the providers about sends whose receipts never came.

    Without --since or --until: about all that is due, as the daemon does by itself. Keeps to the
    rate of `[reconcile]`; beside a running daemon it leaves the asking to it and follows. What is
    older than the providers remember is declared `lost`. Safe to interrupt and to repeat.
    """
    from receiptd.store.plan import Span

    settings = load_settings(config)
    span = Span(since=time_option(since, "--since"), until=time_option(until, "--until"))
    with _opened(settings, account) as (store, plans):
        if problems := store.problems():
            raise ConfigError(problems)
        everything = bool(since or until)
        if dry_run:
            _show_plan(store, plans, span, everything=everything, as_json=as_json)
            return
        outcomes, lost = _ask(settings, store, plans, span, everything=everything)
    _report(outcomes, lost, as_json=as_json)
    raise typer.Exit(_exit_code(outcomes))


@contextmanager
def _opened(
    settings: "Settings", account: str | None
) -> Iterator[tuple["Store", list["QueryPlan"]]]:
    from receiptd.assembly import plan_queries
    from receiptd.clock import SystemClock

    plans = plan_queries(settings, SystemClock())
    store = open_database(settings)
    try:
        if account is not None and account not in {one.account for one in plans}:
            known = ", ".join(one.account for one in plans) or "none"
            rule = "there is no such account with a query API"
            raise ConfigError([Problem(f"accounts.{account}", rule, cure=f"there are: {known}")])
        yield store, [one for one in plans if account in (None, one.account)]
    finally:
        for one in plans:
            one.api.close()
        store.close()


def _ask(
    settings: "Settings",
    store: "Store",
    plans: list["QueryPlan"],
    span: "Span",
    *,
    everything: bool,
) -> tuple[list["Outcome"], dict[str, int]]:
    from receiptd.pulse import Pulse
    from receiptd.reconcile.losses import Losses
    from receiptd.reconcile.now import reconcile_now

    lost: dict[str, int] = {}
    outcomes = []
    with _progress() as show:
        for one in plans:
            part = _part(settings, store, lost)
            try:
                outcomes.append(
                    reconcile_now(
                        part,
                        span,
                        provider=one.provider,
                        account=one.account,
                        api=one.api,
                        all_of_it=everything,
                        advanced=show(one.account),
                    )
                )
            except KeyboardInterrupt:
                part.stopping.set()
                one.api.cancel()
                raise
        part = _part(settings, store, lost)
        Losses(part, pulse=Pulse("losses", part.clock)).run_once()
    return outcomes, lost


def _part(settings: "Settings", store: "Store", lost: dict[str, int]) -> "Part":
    import os

    from receiptd.clock import SystemClock
    from receiptd.gate import Gate
    from receiptd.reconcile.part import Part
    from receiptd.reconcile.schedule import schedule

    def note(account: str, count: int) -> None:
        lost[account] = lost.get(account, 0) + count

    clock = SystemClock()
    return Part(
        store=store,
        schedule=schedule(settings.reconcile),
        per_second=settings.reconcile.max_per_second,
        instance=f"reconcile:{os.getpid()}",
        store_gate=Gate(clock),
        stopping=threading.Event(),
        clock=clock,
        lost=note,
    )


@contextmanager
def _progress() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    from rich.progress import BarColumn, MofNCompleteColumn

    with bars("{task.description:<16}", BarColumn(), MofNCompleteColumn()) as progress:

        def show(account: str) -> Callable[[int, int], None]:
            task = progress.add_task(account, total=None)
            return lambda wanted, left: progress.update(task, total=wanted, completed=wanted - left)

        yield show


def _show_plan(
    store: "Store", plans: list["QueryPlan"], span: "Span", *, everything: bool, as_json: bool
) -> None:
    import msgspec

    from receiptd import masking
    from receiptd.clock import SystemClock
    from receiptd.store import plan

    now = SystemClock().now()
    told: list[dict[str, object]] = []
    for one in plans:
        mine = msgspec.structs.replace(span, provider=one.provider, account=one.account)
        due_at = None if everything else now
        with store.reading() as connection:
            backlog = plan.backlog(connection, mine, due_at)
            rows = plan.listed(connection, mine, due_at, _SHOWN)
        told.append(
            {
                "account": one.account,
                "sends": backlog.rows,
                "oldest": None if backlog.oldest is None else backlog.oldest.isoformat(),
                "first": [
                    {
                        "biz_id": row.biz_id,
                        "phone": masking.masked("phone", row.phone),
                        "submitted_at": row.submitted_at.isoformat(),
                        "asked": row.query_count,
                    }
                    for row in rows
                ],
            }
        )
    if as_json:
        typer.echo(json.dumps({"dry_run": True, "accounts": told}, ensure_ascii=False))
        return
    for account in told:
        typer.echo(f"{account['account']}: {account['sends']} sends to ask about")
        first = account["first"]
        assert isinstance(first, list)
        for row in first:
            typer.echo(
                f"  {row['biz_id']}  {row['phone']}  sent {row['submitted_at']}"
                f"  asked {row['asked']} times"
            )


def _report(outcomes: list["Outcome"], lost: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        told = [
            {
                "account": one.account,
                "sends": one.wanted,
                "left": one.left,
                "calls": one.calls,
                "by_a_daemon": one.elsewhere,
            }
            for one in outcomes
        ]
        typer.echo(json.dumps({"dry_run": False, "accounts": told, "lost": lost}))
        return
    for one in outcomes:
        calls = ", ".join(f"{count} {word}" for word, count in sorted(one.calls.items()))
        line = f"{one.account}: {one.wanted} sends to ask about, {one.left} left"
        typer.echo(f"{line}; calls: {calls}" if calls else line)
        if one.elsewhere:
            typer.echo(f"{one.account}: a daemon is asking; `receiptd status` shows how far it is")
    for account, count in sorted(lost.items()):
        typer.echo(f"{account}: {count} sends are lost: nobody can be asked any more")


def _exit_code(outcomes: list["Outcome"]) -> int:
    from receiptd.reconcile.asking import REFUSED, UNAVAILABLE

    failures = {one.failure for one in outcomes}
    if REFUSED in failures:
        return exit_codes.CREDENTIALS_REFUSED
    if UNAVAILABLE in failures:
        return exit_codes.UNAVAILABLE
    return exit_codes.TRY_AGAIN if any(one.left for one in outcomes) else exit_codes.OK
