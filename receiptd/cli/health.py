"""`receiptd health`: is the daemon well? For container probes."""

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Annotated, Any

import typer

from receiptd.cli import exit_codes
from receiptd.cli.options import ConfigOption, load_settings
from receiptd.errors import ConfigError, Problem

if TYPE_CHECKING:
    from receiptd.config import Settings

_LARGEST_ANSWER = 1 << 20  # bytes
# Where the daemon listens on all addresses, it listens on this one, too.
_SAME_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog="Example: receiptd health --url http://127.0.0.1:8650")(health)


def health(
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where the daemon listens; else http.listen of the configuration.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=60, metavar="SECONDS", help="How long it may take.")
    ] = 3.0,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what /readyz says.")] = False,
) -> None:
    """Ask a running daemon whether it is ready: one call of /readyz.

    Ready is who gets things done: every source was polled, the database answers, no thread is
    stuck. Exits 0 if so, else 69.
    """
    target = (url or _configured(load_settings(config))).rstrip("/") + "/readyz"
    report = _ask(target, timeout)
    ready = report.get("ready") is True
    if as_json:
        typer.echo(json.dumps(report))
    else:
        typer.echo("ready" if ready else f"not ready: {report.get('reason') or 'no reason given'}")
    raise typer.Exit(exit_codes.OK if ready else exit_codes.UNAVAILABLE)


def _configured(settings: "Settings") -> str:
    host, port = settings.http.host, settings.http.port
    if not host:
        cure = "give it an address, or ask another daemon with --url"
        raise ConfigError([Problem("http.listen", "turns HTTP off", cure=cure)])
    host = _SAME_MACHINE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _ask(target: str, timeout: float) -> dict[str, Any]:
    # No proxy of the environment's: it is on this machine, or named by the operator.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(target, timeout=timeout) as answer:
            body = answer.read(_LARGEST_ANSWER)
    except urllib.error.HTTPError as exc:
        body = exc.read(_LARGEST_ANSWER)
    except ValueError:
        raise typer.BadParameter("http://host:port", param_hint="--url") from None
    except (OSError, urllib.error.URLError):
        return {"ready": False, "reason": "nobody answers there"}
    try:
        report = json.loads(body)
    except ValueError:
        report = None
    if not isinstance(report, dict) or "ready" not in report:
        return {"ready": False, "reason": "what answers there is no receiptd"}
    return report
