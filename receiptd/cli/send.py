"""`receiptd send`: the end-to-end check, one SMS or a CSV of them, through any of the send APIs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from receiptd.cli.bars import bars
from receiptd.cli.options import ConfigOption, load_settings, open_database, open_input
from receiptd.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from receiptd.cli.send_report import Report
    from receiptd.sending import Sender
    from receiptd.sending_csv import Call
    from receiptd.store import Store

_EXAMPLE = (
    "Example: receiptd send --account main --phone 13900000001 --sign 云通信 --template SMS_123456 "
    "--param code=1234 --wait"
)
# Of one transaction, 0.2 s after the first and twice as long each time.
_ATTEMPTS = 5


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog=_EXAMPLE)(send)


def send(
    account: Annotated[str, typer.Option(metavar="NAME", help="The account in the configuration.")],
    api: Annotated[
        str,
        typer.Option(
            metavar="API",
            help="SendSms, SendBatchSms, polyv or jushita; else the account's usual one.",
            show_default=False,
        ),
    ] = "",
    phone: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NUMBER", help="To whom; can be given again. +86 139 0000 0001 is fine, too."
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="To whom, a line each, under a header: phone, sign_name, out_id, and the "
            "template's variables; - for stdin.",
            show_default=False,
        ),
    ] = None,
    sign: Annotated[
        str, typer.Option(metavar="TEXT", help="The signature.", show_default=False)
    ] = "",
    template: Annotated[
        str, typer.Option(metavar="CODE", help="The template.", show_default=False)
    ] = "",
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A variable of the template; can be given again."),
    ] = None,
    params_json: Annotated[
        str,
        typer.Option(metavar="JSON", help="The variables as one JSON object.", show_default=False),
    ] = "",
    out_id: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Your own id of it; else a fresh one.", show_default=False
        ),
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the receipts, which the daemon brings.")
    ] = False,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="How long to wait: 60s, 5m.")
    ] = "60s",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing unless something went wrong.")
    ] = False,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Send SMS for real, recorded in the ledger before the call and completed after it.

    Every limit of the API is checked before anything is sent; with --csv all lines are, and a bad
    one is listed with its number and holds back all. A call that the API refuses is told with its
    meaning and cure, and the next one goes on. A call that nobody answered may have been sent: do
    not send it again, reconciliation finds out.

    Exits 0 if all was accepted, with --wait only if all was delivered; 65 if something was refused
    or failed; 75 if it may have been sent, or has no receipt in time; 69 if nothing was sent, as a
    service is away; 77 if the credentials were refused.
    """
    wait_s = _seconds(timeout)
    if bool(phone) == bool(csv):
        raise typer.BadParameter("give it, or --csv, and not both", param_hint="--phone")
    common = _Common(_variables(param or [], params_json), sign, template, out_id)
    with _open(config, account, api) as (sender, store):
        from receiptd.cli.send_report import Report

        report = Report(account=account, api=sender.api, as_json=as_json, quiet=quiet, waits=wait)
        calls = (
            _calls_of(csv, common, sender, report)
            if csv
            else _call_to(phone or [], common, sender, report)
        )
        _send_all(sender, report, calls)
        if wait and report.accepted:
            _follow(store, report, wait_s)
    raise typer.Exit(report.finish())


class _Common(NamedTuple):
    """What is meant for all numbers."""

    params: dict[str, str]
    sign: str
    template: str
    out_id: str


def _call_to(
    phones: Sequence[str], common: _Common, sender: "Sender", report: "Report"
) -> list["Call"]:
    """Return the one call to `phones`; none if it would be refused, which is reported."""
    from receiptd.phone import to_e164
    from receiptd.providers.base import InvalidSend, SendOrder
    from receiptd.sending_csv import Call

    order = SendOrder(
        phones=[to_e164(one.strip()) for one in phones],
        params=[common.params] if common.params else [],
        sign_names=[common.sign] if common.sign else [],
        template_code=common.template,
        out_id=common.out_id,
    )
    try:
        sender.request(order)
    except InvalidSend as exc:
        report.invalid((None, problem) for problem in exc.problems)
        return []
    return [Call([], order)]


def _calls_of(file: Path, common: _Common, sender: "Sender", report: "Report") -> list["Call"]:
    """Return the calls for the lines of `file`; none if a line is bad, which is reported."""
    from receiptd import sending_csv

    with open_input(file, "--csv") as stream:
        lines, bad = sending_csv.read(
            stream, params=common.params, sign_name=common.sign, out_id=common.out_id
        )
    bad += sending_csv.problems(sender.request, lines, common.template)
    if bad:
        bad.sort(key=lambda one: one.number)
        report.invalid((one.number, one.problem) for one in bad)
        return []
    return list(sending_csv.calls(sender.request, lines, common.template))


def _send_all(sender: "Sender", report: "Report", calls: Sequence["Call"]) -> None:
    """Send call by call; stop where the service or the database cannot be reached."""
    from receiptd.providers.base import InvalidSend
    from receiptd.sending import Outcome

    with _progress(sum(len(call.order.phones) for call in calls)) as advance:
        for call in calls:
            try:
                result = sender.send(call.order)
            except InvalidSend as exc:
                report.invalid((None, problem) for problem in exc.problems)
                return
            except StoreError as exc:
                if call is calls[0]:
                    raise  # nothing was sent
                report.stop(call.lines, str(exc))
                return
            except KeyboardInterrupt:
                report.interrupt(call.lines)
                report.finish()
                raise
            report.add(result, call.lines)
            if result.verdict.outcome is Outcome.NOT_SENT:
                report.stop(call.lines)
                return
            advance(len(call.order.phones))


def _follow(store: "Store", report: "Report", timeout_s: float) -> None:
    from receiptd.clock import SystemClock
    from receiptd.sending import follow

    try:
        report.follow(follow(store, report.accepted, SystemClock(), timeout_s))
    except KeyboardInterrupt:
        report.finish()  # what was sent is sent
        raise


@contextmanager
def _open(config: Path | None, account: str, api: str) -> Iterator[tuple["Sender", "Store"]]:
    from receiptd.client import accounts
    from receiptd.clock import SystemClock
    from receiptd.ledger import Ledger
    from receiptd.sending import apis, open_sender

    settings = load_settings(config)
    clock = SystemClock()
    store = open_database(settings)
    try:
        ask_after = settings.reconcile.first_after
        ledger = Ledger(store, accounts(settings), clock, attempts=_ATTEMPTS, ask_after=ask_after)
        known = apis(ledger.books(account).provider)
        if api and api not in known:
            raise typer.BadParameter(f"one of {', '.join(known)}", param_hint="--api")
        sender = open_sender(settings, account, ledger, clock, api)
        try:
            if problems := store.problems():
                raise ConfigError(problems)
            yield sender, store
        finally:
            sender.close()
    finally:
        store.close()


def _variables(given: Sequence[str], params_json: str) -> dict[str, str]:
    """Return the template's variables."""
    import json

    try:
        found = json.loads(params_json) if params_json else {}
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        cure = 'write one object of texts: {"code":"1234"}'
        raise typer.BadParameter(cure, param_hint="--params-json")
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise typer.BadParameter("write name=value", param_hint="--param")
        found[name] = value
    return found


def _seconds(text: str) -> float:
    from receiptd.config.durations import parse

    try:
        return parse(text).total_seconds()
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--timeout") from None


@contextmanager
def _progress(numbers: int) -> Iterator[Callable[[int], None]]:
    """Show how many numbers were sent to, where stderr is a terminal and there are several."""
    from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with bars("sending", *columns, hidden=numbers < 2) as progress:
        task = progress.add_task("", total=numbers)
        yield lambda sent: progress.advance(task, sent)
