"""What several commands share: their options, and how they come to the configuration."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

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


def time_option(text: str | None, option: str) -> datetime | None:
    """Return a time as UTC; a day alone is its beginning in China. Raises typer.BadParameter."""
    from receiptd.ledger_import import moment

    if text is None:
        return None
    found = moment(f"{text} 00:00:00" if len(text) == len("2026-05-06") else text)
    if found is None:
        cure = "write 2024-05-06, 2024-05-06 15:08:09 (both China's time) or with a zone: "
        raise typer.BadParameter(cure + "2024-05-06T15:08:09+08:00", param_hint=option)
    return found


@contextmanager
def open_input(file: Path, option: str = "FILE") -> Iterator[BinaryIO]:
    """Yield a file, or stdin for `-`. Raises typer.BadParameter if it cannot be opened."""
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except OSError as exc:
        raise typer.BadParameter(f"{file}: {exc.strerror}", param_hint=option) from None
    with stream:
        yield stream
