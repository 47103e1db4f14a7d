"""`receiptd replay`: the journal, the quarantine or files, read once more by the rules of today."""

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from receiptd.cli import exit_codes
from receiptd.cli.options import (
    ConfigOption,
    load_settings,
    open_database,
    open_input,
    time_option,
)
from receiptd.cli.replay_output import (
    Asked,
    Listing,
    print_change,
    print_json,
    report,
    show_progress,
    tell_where,
)
from receiptd.errors import ConfigError

if TYPE_CHECKING:
    from receiptd.replay.batches import Batch
    from receiptd.replay.meaning import Meanings
    from receiptd.replay.run import Result
    from receiptd.replay.savers import CountingSaver
    from receiptd.store import Store
    from receiptd.store.journal import Selection


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog="Example: receiptd replay --quarantined --reason bad_field --dry-run")(
        replay
    )


def replay(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="JSON (an object, an array, one per line), base64 bodies of MNS, one per line, or "
            "an exported journal; - for stdin.",
            show_default=False,
        ),
    ] = None,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="What could not be understood so far.")
    ] = False,
    reason: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Only what was quarantined for this: bad_field, or bad_field:err_code.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="What was received at this time or later: 2026-05-06T15:08:09+08:00; without a "
            "zone it is China's.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Before this time; else now.", show_default=False),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only what this source brought.", show_default=False),
    ] = None,
    message_type: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="How to read files, and what came from sources that are not configured any more: "
            "aliyun.SmsReport.",
            show_default=False,
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The account that --type is of; else the only one of its provider.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; print what would change.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            min=0.1,
            help="Records per second; else as fast as leaves room for a daemon.",
            show_default=False,
        ),
    ] = None,
    after_id: Annotated[
        int, typer.Option(metavar="N", help="With --quarantined: go on behind this journal row.")
    ] = -1,
    after_line: Annotated[
        int,
        typer.Option(metavar="N", help="Go on behind this line (or element) of the first FILE."),
    ] = 0,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Read once more what was received, by today's rules, and merge it.

    With --quarantined or --since from the journal, else from files. What is understood now is
    merged into its row, and a quarantined journal row becomes `replayed` in the same transaction.
    What is not stays quarantined; what files hold is noted in the journal either way.

    Safe beside a running daemon, to interrupt and to repeat: the same records always end in the
    same rows. Exits 65 if something was refused: it is listed on stderr.
    """
    asked = Asked(
        files=files or [],
        quarantined=quarantined,
        selection=_selection(reason, source, since, until, by_time=since is not None),
        message_type=message_type,
        account=account,
        after_id=after_id,
        after_line=after_line,
        rate=rate,
        dry_run=dry_run,
        as_json=as_json,
        config=config,
    )
    _check(asked)
    from receiptd import log
    from receiptd.replay.meaning import BadRequest, Meanings

    settings = load_settings(config)
    # What is refused is listed below, in other words than the daemon's.
    log.configure(settings.log.format, "error")
    try:
        meanings = Meanings(settings, message_type, account)
        with closing(open_database(settings)) as store:
            if problems := store.problems():
                raise ConfigError(problems)
            result = _replay(asked, store, meanings)
    except BadRequest as exc:
        raise typer.BadParameter(str(exc), param_hint=exc.option) from None
    report(asked, result)
    if not result.is_complete:
        raise typer.Exit(exit_codes.INTERRUPTED)
    if result.refused or result.unexplained:
        raise typer.Exit(exit_codes.DATA_REFUSED)


def _selection(
    reason: str | None, source: str | None, since: str | None, until: str | None, *, by_time: bool
) -> "Selection":
    from receiptd.store.journal import Selection

    end = time_option(until, "--until")
    return Selection(
        reason=reason,
        source=source,
        since=time_option(since, "--since"),
        until=end or (datetime.now(UTC) if by_time else None),  # or it would never end
    )


def _check(asked: Asked) -> None:
    selection = asked.selection
    if asked.files:
        if asked.quarantined or selection != type(selection)():
            rule = "FILE does not go with --quarantined, --since, --until, --source or --reason"
            raise typer.BadParameter(rule, param_hint="FILE")
        for file in asked.files:
            with open_input(file):  # all of them, before the first is replayed
                pass
        return
    if not asked.quarantined and selection.since is None:
        raise typer.BadParameter(
            "say what to replay: --quarantined, --since TIME, or files", param_hint="FILE"
        )
    if selection.reason is not None and not asked.quarantined:
        raise typer.BadParameter("needs --quarantined", param_hint="--reason")
    if asked.after_id >= 0 and not asked.quarantined:
        raise typer.BadParameter("needs --quarantined", param_hint="--after-id")


def _replay(asked: Asked, store: "Store", meanings: "Meanings") -> "Result":
    from receiptd.clock import SystemClock
    from receiptd.errors import StoreUnavailable
    from receiptd.replay.run import Replayer
    from receiptd.signals import stop_signals

    stopping = threading.Event()
    with show_progress(asked, store) as advance, stop_signals(stopping):
        replayer = Replayer(
            _saver(asked, store),
            clock=SystemClock(),
            stopping=stopping,
            rate=asked.rate,
            on_refused=Listing(asked),
            on_batch=lambda batch: advance(batch.size),
        )
        try:
            replayer.run(_batches(asked, store, meanings, replayer.batch_rows))
        except StoreUnavailable:
            tell_where(asked, replayer.result)
            raise
    if not replayer.result.is_complete:
        tell_where(asked, replayer.result)
    return replayer.result


def _batches(asked: Asked, store: "Store", meanings: "Meanings", rows: int) -> Iterator["Batch"]:
    from receiptd.replay import batches, files

    if asked.quarantined:
        yield from batches.quarantined(store, meanings, asked.selection, asked.after_id, rows)
    elif not asked.files:
        yield from batches.received(store, meanings, asked.selection, rows)
    after = asked.after_line
    for file in asked.files:
        with open_input(file) as stream:
            yield from files.read_file(stream, str(file), meanings, after=after, rows=rows)
        after = 0


def _saver(asked: Asked, store: "Store") -> "CountingSaver":
    from receiptd.replay.savers import FileSaver, JournalSaver, Preview

    if asked.dry_run:
        return Preview(store, print_json if asked.as_json else print_change)
    return FileSaver(store) if asked.files else JournalSaver(store)
