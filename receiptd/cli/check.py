"""`receiptd check`: is everything as it must be, before the daemon is started?"""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from receiptd.cli import exit_codes
from receiptd.cli.options import ConfigOption, load_settings, open_database
from receiptd.errors import ConfigError, Problem, StoreUnavailable

if TYPE_CHECKING:
    from receiptd.config import Settings

_UPGRADE = "receiptd db upgrade"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog="Example: receiptd check --config config.toml")(check)


def check(
    config: ConfigOption = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the configuration's JSON schema and exit.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check the configuration, the plug-ins it names, and the database.

    Pulls nothing and upgrades nothing. Each problem is printed with its place, the rule and the
    cure; the exit code is 78, or 69 if the database is away.
    """
    if schema:
        from receiptd.config.loading import json_schema

        typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return
    passed: list[str] = []
    problems: list[Problem] = []
    code = exit_codes.OK
    try:
        settings = load_settings(config)
        passed.append("configuration")
        _check_plugins(settings, passed, problems)
        _check_database(settings, passed, problems)
    except ConfigError as exc:
        problems.extend(exc.problems)
    except StoreUnavailable as exc:
        problems.append(Problem("database", str(exc)))
        code = exit_codes.UNAVAILABLE
    _print(passed, problems, as_json=as_json)
    raise typer.Exit(exit_codes.CONFIG if problems and code == exit_codes.OK else code)


def _check_plugins(settings: "Settings", passed: list[str], problems: list[Problem]) -> None:
    from receiptd import assembly
    from receiptd.clock import SystemClock

    try:
        plans = assembly.plan(settings, SystemClock())
    except ConfigError as exc:
        problems.extend(exc.problems)
        return
    for name, account in settings.accounts.items():
        passed.append(f"account {name} ({account.provider})")
    for plan in plans:
        passed.append(f"source {plan.name} ({plan.settings.puller})")
    if not plans:
        passed.append("sources: none are configured, so `receiptd run` would refuse to start")


def _check_database(settings: "Settings", passed: list[str], problems: list[Problem]) -> None:
    store = open_database(settings)
    try:
        wanted = settings.database.upgrade_on_start
        upgrades = wanted if wanted is not None else store.is_local
        found = store.problems()
    finally:
        store.close()
    # What `run` mends by itself at the start is no problem.
    kept = [one for one in found if not (upgrades and _UPGRADE in one.cure)]
    problems.extend(kept)
    if not kept:
        passed.append("database (the schema is upgraded at the start)" if found else "database")


def _print(passed: list[str], problems: list[Problem], *, as_json: bool) -> None:
    if as_json:
        told = [
            {"place": one.place, "rule": one.rule, "value": one.value, "cure": one.cure}
            for one in problems
        ]
        typer.echo(json.dumps({"ok": not problems, "passed": passed, "problems": told}, indent=2))
        return
    for line in passed:
        typer.echo(f"OK  {line}")
    for problem in problems:
        typer.echo(f"receiptd: {problem}", err=True)
