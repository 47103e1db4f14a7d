"""`receiptd status`: how all instances are doing, as the database knows it."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from receiptd.cli.options import ConfigOption, load_settings, open_database
from receiptd.clock import utc_text
from receiptd.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from rich.console import Console

    from receiptd.cli.status_view import Frame
    from receiptd.clock import Clock
    from receiptd.config import Settings
    from receiptd.status import Status, StatusReader
    from receiptd.store import Store

# A resized window is redrawn this often, without asking the database.
_REDRAWS_PER_S = 4


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog="Example: receiptd status --watch --every 5s")(status)


def status(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[
        str, typer.Option(metavar="TIME", help="How often --watch reads it: 2s, 1m.")
    ] = "2s",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; with --watch, one line each time.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Show how it goes: per source the last pull and commit, the lag and the counts of all
    instances; per account what is awaited, overdue and lost, and when the oldest gap is lost for
    ever; the quarantine by reason; audits that differ; who holds which lease.

    Reads the database only, so it works from anywhere and while no daemon runs. --watch goes on
    through an outage of the database and shows it. Exits 69 if the database is away.
    """
    pause_s = _seconds(every)
    settings = load_settings(config)
    with _open_reader(settings) as (store, reader, clock):
        if not watch:
            _check(store)
            _print(reader.read(), as_json=as_json)
            return
        # An interrupt in the middle of a drawing would leave the terminal as it is then.
        from receiptd.signals import stop_signals

        stop = threading.Event()
        with stop_signals(stop):
            _watch(_frames(store, reader, clock, stop, pause_s), as_json=as_json)


@contextmanager
def _open_reader(settings: "Settings") -> Iterator[tuple["Store", "StatusReader", "Clock"]]:
    from receiptd.clock import SystemClock
    from receiptd.status import StatusReader

    clock = SystemClock()
    store = open_database(settings)
    try:
        yield store, StatusReader(store, settings, clock), clock
    finally:
        store.close()


def _check(store: "Store") -> None:
    if problems := store.problems():
        raise ConfigError(problems)


def _print(status: "Status", *, as_json: bool) -> None:
    if as_json:
        from receiptd.status.shown import plain

        typer.echo(json.dumps(plain(status), ensure_ascii=False, indent=2))
        return
    from receiptd.cli.status_view import Frame, View

    _console().print(View(Frame(status, at=status.taken_at)))


def _watch(frames: "Iterator[Frame]", *, as_json: bool) -> None:
    """Show one frame after the other until interrupted."""
    from receiptd.cli.status_view import View

    console = _console()
    if as_json:
        for frame in frames:
            _print_line(frame)
    elif not console.is_terminal:
        for frame in frames:
            console.print(View(frame))
    else:
        _live(console, frames)


def _live(console: "Console", frames: "Iterator[Frame]") -> None:
    from rich.live import Live

    from receiptd.cli.status_view import View

    view = View(next(frames))
    # On a screen of its own: what the terminal showed before stays as it was.
    try:
        with Live(view, console=console, screen=True, refresh_per_second=_REDRAWS_PER_S) as live:
            for frame in frames:
                view = View(frame)
                live.update(view, refresh=True)
    finally:
        console.print(view)  # the last one stays


def _frames(
    store: "Store",
    reader: "StatusReader",
    clock: "Clock",
    stop: threading.Event,
    pause_s: float,
) -> "Iterator[Frame]":
    """Yield what is known now, every `pause_s` seconds until `stop`; an outage does not end it."""
    from receiptd.cli.status_view import Frame

    status: Status | None = None
    error, away_since, is_checked = "", None, False
    while not stop.is_set():
        try:
            if not is_checked:
                _check(store)
                is_checked = True
            status = reader.read()
            error, away_since = "", None
        except StoreUnavailable as exc:
            error, away_since = str(exc), away_since or clock.now()
        yield Frame(status, error=error, away_since=away_since, at=clock.now(), every_s=pause_s)
        clock.wait(stop, pause_s)


def _print_line(frame: "Frame") -> None:
    from receiptd.status.shown import plain

    if frame.error or frame.status is None:
        line = {"taken_at": utc_text(frame.at), "error": frame.error}
    else:
        line = plain(frame.status)
    typer.echo(json.dumps(line, ensure_ascii=False))
    sys.stdout.flush()


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False)


def _seconds(every: str) -> float:
    from receiptd.config.durations import parse

    try:
        return parse(every).total_seconds()
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--every") from None
