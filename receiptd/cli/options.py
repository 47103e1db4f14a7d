"""What several commands share: their options, and how they come to the configuration."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from receiptd.config import Settings
    from receiptd.store import Store

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration; else $RECEIPTD_CONFIG, ./config.toml or "
        "/etc/receiptd/config.toml.",
        show_default=False,
    ),
]


def load_settings(config: Path | None) -> "Settings":
    """Return the configuration. Raises ConfigError with everything that is wrong with it."""
    from receiptd.config.loading import load
    from receiptd.plugins import unknown_names

    return load(config, os.environ, unknown_names)


def open_database(settings: "Settings") -> "Store":
    """Return the store, not yet connected. Raises ConfigError if its URL cannot be used."""
    from receiptd.clock import SystemClock
    from receiptd.store import open_store

    return open_store(settings.database.url.get_secret_value(), SystemClock())
