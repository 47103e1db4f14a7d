"""`receiptd run`: the daemon."""

import os

import typer

from receiptd.cli.options import ConfigOption, load_settings


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog="Example: receiptd run --config /etc/receiptd/config.toml")(run)


def run(config: ConfigOption = None) -> None:
    """Pull receipts and store them, until SIGTERM or SIGINT.

    The first signal finishes the batches in hand and stops; a second one leaves at once. Nothing is
    acked that is not committed.
    """
    settings = load_settings(config)
    from receiptd import daemon, log
    from receiptd.config.loading import find

    log.configure(settings.log.format, settings.log.level)
    log.catch_uncaught()
    log.get_logger().info(
        "config.loaded",
        file=str(find(config, os.environ) or "environment"),
        sources=len(settings.sources),
        accounts=len(settings.accounts),
    )
    for place in settings.unused:
        log.get_logger().warning("config.unused", place=place)
    raise typer.Exit(daemon.run(settings))
