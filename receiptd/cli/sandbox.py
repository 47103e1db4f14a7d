"""`receiptd sandbox`: the providers on loopback, to try things out against."""

from pathlib import Path
from typing import Annotated

import typer

from receiptd.errors import ConfigError, Problem, SourceUnavailable


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog="Example: receiptd sandbox --print-config > config.toml; receiptd sandbox")(
        sandbox
    )


def sandbox(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen.")
    ] = "127.0.0.1:8700",
    access_key: Annotated[
        str, typer.Option(metavar="ID:SECRET", help="The access key that it knows.")
    ] = "testAK:testSK",
    top_key: Annotated[
        str,
        typer.Option(metavar="KEY:SECRET", help="The TOP key that it knows."),
    ] = "12345678:topSecret",
    queue_prefix: Annotated[
        str, typer.Option(metavar="TEXT", help="What the MNS queues' names begin with.")
    ] = "Alicom-Queue-1092397003988387-",
    topic: Annotated[
        str, typer.Option(metavar="TEXT", help="The RocketMQ topic of Jushita's receipts.")
    ] = "jst-sms-report",
    scenario: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML: what becomes of each SMS, and which faults occur.",
            show_default=False,
        ),
    ] = None,
    tokens_only: Annotated[
        bool, typer.Option("--tokens-only", help="Let only tokens read the queues, as the real do.")
    ] = False,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config", help="Print the config.toml that reads from it, and do not serve."
        ),
    ] = False,
) -> None:
    """Serve the providers' protocols on loopback, until SIGTERM or SIGINT.

    Sends no SMS and reaches no network. The vendors' own SDKs work against it.
    """
    from receiptd.sandbox.server import listen_address, serve

    try:
        host, port = listen_address(listen)
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--listen") from None
    key_id, key_secret = _pair(access_key, "--access-key")
    app_key, app_secret = _pair(top_key, "--top-key")
    if print_config:
        from receiptd.sandbox.configuration import config_toml

        where = f"[{host}]" if ":" in host else host
        text = config_toml(
            f"http://{where}:{port}",
            access_key_id=key_id,
            access_key_secret=key_secret,
            app_key=app_key,
            app_secret=app_secret,
            queue_prefix=queue_prefix,
            topic=topic,
        )
        typer.echo(text, nl=False)
        return
    try:
        serve(
            listen,
            access_keys={key_id: key_secret},
            top_keys={app_key: app_secret},
            queue_prefix=queue_prefix,
            topic=topic,
            scenario=scenario,
            tokens_only=tokens_only,
            ready=lambda running: typer.echo(f"sandbox at {running.url}"),
        )
    except ValueError as exc:
        raise ConfigError([Problem(str(scenario), f"is no scenario: {exc}")]) from None
    except OSError as exc:
        cure = "is the address free, and the scenario readable?"
        raise SourceUnavailable(f"sandbox at {listen}: {exc.strerror}", cure=cure) from None


def _pair(value: str, option: str) -> tuple[str, str]:
    first, colon, second = value.partition(":")
    if not (first and colon and second):
        raise typer.BadParameter("two words with a colon between them", param_hint=option)
    return first, second
