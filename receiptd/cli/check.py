"""`receiptd check`: is everything as it must be, before the daemon is started?"""

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from receiptd.cli import exit_codes
from receiptd.cli.check_report import Report
from receiptd.cli.options import ConfigOption, load_settings, open_database
from receiptd.errors import ConfigError, Problem, StoreUnavailable

if TYPE_CHECKING:
    from receiptd.assembly import SourcePlan
    from receiptd.config import Settings

_UPGRADE = "receiptd db upgrade"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(
        epilog="Example: receiptd check --config config.toml --online\n\n"
        "Example: receiptd check --online --account main --timeout 5s --json"
    )(check)


def check(
    config: ConfigOption = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the configuration's JSON schema and exit.")
    ] = False,
    online: Annotated[
        bool, typer.Option("--online", help="Also ask every account and source for real.")
    ] = False,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="Of each step of --online.")
    ] = "10s",
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="NAME", help="With --online: it and its sources only."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="With --online: it only.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check the configuration, the database, and with --online every account and source.

    Three levels: the configuration and the plug-ins it names; the database: reachable, durable,
    migrated; and, asked for with --online, every service: name, connection, TLS, clock, key,
    rights, queue and message type. Nothing is sent, taken, hidden or upgraded. Each problem is
    printed with its cure; the exit code is 78 (configuration), 77 (key or rights) or 69 (database
    or network).
    """
    if schema:
        from receiptd.config.loading import json_schema

        typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return
    if (account or source) and not online:
        raise typer.BadParameter("needs --online", param_hint="--account, --source")
    report = Report(as_json=as_json)
    seconds = _seconds(timeout)
    plans = None
    try:
        settings = load_settings(config)
    except ConfigError as exc:
        report.problems(exc.problems)
    else:
        report.passed("configuration")
        report.unused(settings.unused)
        plans = _check_plugins(settings, report)
        _check_database(settings, report)
        if online and plans is not None:
            _check_online(settings, plans, account, source, seconds, report)
    if online and plans is None:
        report.skipped("online: not asked before the configuration is mended")
    raise typer.Exit(report.end())


def _seconds(timeout: str) -> float:
    from receiptd.config.durations import parse

    try:
        duration: timedelta = parse(timeout)
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--timeout") from None
    return duration.total_seconds()


def _check_plugins(settings: "Settings", report: Report) -> "list[SourcePlan] | None":
    from receiptd import assembly
    from receiptd.clock import SystemClock
    from receiptd.online.messages import name_problem

    try:
        plans = assembly.plan(settings, SystemClock())
    except ConfigError as exc:
        report.problems(exc.problems)
        return None
    report.problems([problem for plan in plans if (problem := name_problem(plan))])
    for name, account in settings.accounts.items():
        report.passed(f"account {name} ({account.provider})")
    for plan in plans:
        report.passed(f"source {plan.name} ({plan.settings.puller})")
    for remark in assembly.remarks(settings):
        report.passed(str(remark))
    if not plans:
        report.passed("sources: none are configured, so `receiptd run` would refuse to start")
    return plans


def _check_database(settings: "Settings", report: Report) -> None:
    try:
        store = open_database(settings)
        try:
            wanted = settings.database.upgrade_on_start
            upgrades = wanted if wanted is not None else store.is_local
            found = store.problems()
        finally:
            store.close()
    except ConfigError as exc:
        report.problems(exc.problems)
        return
    except StoreUnavailable as exc:
        report.problems([Problem("database", str(exc))], exit_codes.UNAVAILABLE)
        return
    # What `run` mends by itself at the start is no problem.
    kept = [one for one in found if not (upgrades and _UPGRADE in one.cure)]
    report.problems(kept)
    if not kept:
        report.passed("database (the schema is upgraded at the start)" if found else "database")


def _check_online(
    settings: "Settings",
    plans: "Sequence[SourcePlan]",
    account: str | None,
    source: str | None,
    seconds: float,
    report: Report,
) -> None:
    from receiptd.clock import SystemClock
    from receiptd.online import check_online

    _refuse_unknown("--account", account, settings.accounts)
    _refuse_unknown("--source", source, settings.sources)
    accounts = {
        name: one
        for name, one in settings.accounts.items()
        if account in (None, name) and source is None
    }
    sources = [
        plan
        for plan in plans
        if account in (None, plan.settings.account) and source in (None, plan.name)
    ]
    for branch in check_online(accounts, sources, SystemClock(), seconds):
        report.branch(branch)


def _refuse_unknown(option: str, name: str | None, known: Iterable[str]) -> None:
    if name is not None and name not in known:
        names = ", ".join(sorted(known)) or "none"
        told = f"{name!r} is not configured; configured: {names}"
        raise typer.BadParameter(told, param_hint=option)
