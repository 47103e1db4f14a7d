"""`receiptd audit`: the provider's daily counts against ours."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from receiptd.cli import exit_codes
from receiptd.cli.options import ConfigOption, load_settings, open_database
from receiptd.errors import ConfigError, Problem, SourceError, SourceRefused

if TYPE_CHECKING:
    from receiptd.clock import Clock
    from receiptd.config import Settings
    from receiptd.providers.base import Provider
    from receiptd.reconcile.audit import Audited, Auditor
    from receiptd.store import Store

# Nobody tells a command to stop but by a signal, which ends it.
_NEVER = threading.Event()


class _Outcome(NamedTuple):
    """What became of the audit of one account: its days, or why there are none or not all."""

    account: str
    days: Sequence["Audited"] = ()
    error: SourceError | None = None
    has_counts: bool = True


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog="Example: receiptd audit --days 3 --json")(audit)


def audit(
    day: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DAY",
            help="A day of China, as 2026-05-06; can be given again. Else yesterday.",
            show_default=False,
        ),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(metavar="N", help="The last N days before today.", show_default=False),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="This account; else all.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare what the provider counts per day with what the database holds.

    A send counts on the China day on which the provider sent it. Where the two sides differ, the
    day's sends without a final receipt are asked about at once by the daemon, instead of by their
    plan; audit the day again after that. What the provider has more even then was sent without the
    ledger's knowledge, and its receipt never came.

    A difference is a result: the exit code is 0. It is 69 if a provider is away, 77 if it refuses
    the credentials; the other accounts are audited all the same.
    """
    from receiptd.clock import SystemClock

    clock = SystemClock()
    wanted = _days(day or (), days, clock)
    settings = load_settings(config)
    providers = _providers(settings, account)
    outcomes = []
    with closing(open_database(settings)) as store:
        if problems := store.problems():
            raise ConfigError(problems)
        for name, provider in providers.items():
            with _auditor(settings, name, provider, store, clock) as auditor:
                outcome = _audit(name, auditor, wanted, told=_ignore if as_json else _print)
            outcomes.append(outcome)
            if not outcome.has_counts and not as_json:
                typer.echo(_countless(settings, name, provider))
            if outcome.error is not None:
                typer.echo(f"receiptd: {name}: {outcome.error}", err=True)
    if as_json:
        typer.echo(json.dumps(_told(outcomes), indent=2))
    raise typer.Exit(_exit_code(outcomes))


def _days(given: Sequence[str], last: int | None, clock: "Clock") -> list[date]:
    """Return the days that are asked for, each once, the earliest first."""
    from receiptd.china import china_day
    from receiptd.reconcile.audit import OLDEST_DAYS

    today = china_day(clock.now())
    if given and last is not None:
        raise typer.BadParameter("either this or --days", param_hint="--day")
    if last is not None and not 1 <= last <= OLDEST_DAYS:
        raise typer.BadParameter(f"1 to {OLDEST_DAYS}", param_hint="--days")
    if not given:
        return [today - timedelta(days=ago) for ago in range(last or 1, 0, -1)]
    found = set()
    for text in given:
        try:
            one = datetime.strptime(text, "%Y-%m-%d").date()
        except ValueError:
            raise typer.BadParameter("a day as 2026-05-06", param_hint="--day") from None
        if one > today:
            raise typer.BadParameter(f"{one} has not begun in China", param_hint="--day")
        if (today - one).days > OLDEST_DAYS:
            rule = f"{one} is more than {OLDEST_DAYS} days ago: nobody can be asked any more"
            raise typer.BadParameter(rule, param_hint="--day")
        found.add(one)
    return sorted(found)


def _providers(settings: "Settings", account: str | None) -> dict[str, "Provider"]:
    """Return the provider of each account that is asked for. Raises ConfigError with everything
    that is wrong with them."""
    from receiptd.plugins import find_provider

    if account is not None and account not in settings.accounts:
        cure = f"configured: {', '.join(sorted(settings.accounts)) or 'none'}"
        raise ConfigError([Problem(f"accounts.{account}", "there is no such account", cure=cure)])
    problems: list[Problem] = []
    found = {}
    for name in sorted(settings.accounts) if account is None else [account]:
        one = settings.accounts[name]
        provider = find_provider(one.provider, f"accounts.{name}.provider", problems)
        if provider is not None:
            problems += provider.problems(name, one)
            found[name] = provider
    if problems:
        raise ConfigError(problems)
    return found


@contextmanager
def _auditor(
    settings: "Settings", name: str, provider: "Provider", store: "Store", clock: "Clock"
) -> Iterator["Auditor | None"]:
    """Yield the auditor of an account, None if its provider has no query API."""
    from receiptd.reconcile.audit import Auditor
    from receiptd.reconcile.throttle import Throttle

    api = provider.open_query(name, settings.accounts[name], clock)
    if api is None:
        yield None
        return
    throttle = Throttle(settings.reconcile.max_per_second, clock)
    with closing(api):
        yield Auditor(
            provider=provider.name,
            account=name,
            api=api,
            store=store,
            throttle=lambda: throttle.wait(_NEVER),
            clock=clock,
        )


def _audit(
    name: str,
    auditor: "Auditor | None",
    days: Sequence[date],
    *,
    told: Callable[["Audited"], None],
) -> _Outcome:
    """Audit one day after the other until one fails."""
    if auditor is None:
        return _Outcome(name, has_counts=False)
    done: list[Audited] = []
    try:
        for day in days:
            audited = auditor.audit_patiently(day, _NEVER)
            if audited is None:
                return _Outcome(name, has_counts=False)
            told(audited)
            done.append(audited)
    except SourceError as exc:
        return _Outcome(name, done, exc)
    return _Outcome(name, done)


def _ignore(audited: "Audited") -> None:
    pass


def _print(audited: "Audited") -> None:
    one = audited.audit
    typer.echo(f"{one.account} {one.day}: {_verdict(audited)}")
    typer.echo(f"{'':<12}{'provider':>12}{'held':>12}{'difference':>12}")
    for figure, theirs in one.theirs.items():
        ours = one.ours[figure]
        difference = f"{ours - theirs:+,}" if ours != theirs else "0"
        typer.echo(f"  {figure:<10}{theirs:>12,}{ours:>12,}{difference:>12}")


def _verdict(audited: "Audited") -> str:
    if not audited.audit.differs:
        return "equal"
    rows = audited.made_due
    asked = f"; {rows:,} open {'send is' if rows == 1 else 'sends are'} asked about at once"
    return "differs" + (asked if rows else "")


def _countless(settings: "Settings", name: str, provider: "Provider") -> str:
    text = f"{name}: the provider {provider.name} has no daily counts"
    other = settings.accounts[name].receipts_account
    if provider.receipts_provider != provider.name and other:
        text += f"; its sends count with those of {other}"
    return text


def _told(outcomes: Sequence[_Outcome]) -> dict[str, Any]:
    return {
        "audits": [_told_day(one) for outcome in outcomes for one in outcome.days],
        "without_counts": [one.account for one in outcomes if not one.has_counts],
        "errors": [
            {"account": one.account, "code": one.error.code, "error": str(one.error)}
            for one in outcomes
            if one.error is not None
        ],
    }


def _told_day(audited: "Audited") -> dict[str, Any]:
    one = audited.audit
    return {
        "account": one.account,
        "day": one.day.isoformat(),
        "differs": one.differs,
        "provider": one.theirs,
        "held": one.ours,
        "made_due": audited.made_due,
    }


def _exit_code(outcomes: Sequence[_Outcome]) -> int:
    errors = [one.error for one in outcomes if one.error is not None]
    if any(isinstance(error, SourceRefused) for error in errors):
        return exit_codes.CREDENTIALS_REFUSED
    return exit_codes.UNAVAILABLE if errors else exit_codes.OK
