"""The status on a terminal, from 80 columns on. Every text of the database's goes through
`escaped`: it must not steer the terminal."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from receiptd.cli.tones import TONES
from receiptd.explain.words import span
from receiptd.masking import escaped
from receiptd.model import Status as SmsStatus
from receiptd.status import Account, Database, Source, Status
from receiptd.store.audits import Audit

_WIDE = 118  # columns, from which on every count has one
_NAME_WIDTH = 7  # what 80 columns leave for it beside the largest numbers
_INSTANCES_MOST = 6
_TABLES_MOST = 4
_SOON_H = 72.0  # less than this until a gap is lost for ever is for somebody to act on
_EXACT = 10_000_000  # a larger count has three digits too many to be read
_UNITS = ("B", "kB", "MB", "GB", "TB")


class Frame(msgspec.Struct, frozen=True):
    """What is known at one moment; `status` is the last that could be read."""

    status: Status | None
    at: datetime
    error: str = ""
    away_since: datetime | None = None
    every_s: float | None = None  # of --watch


class View:
    """A frame, as wide as the terminal is when it is drawn."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        frame = self._frame
        yield _title(frame)
        if frame.error:
            yield _outage(frame)
        if frame.status is not None:
            yield from _body(frame.status, is_wide=options.max_width >= _WIDE)


def _title(frame: Frame) -> Text:
    text = Text.assemble(("receiptd status", "bold"), f"  {frame.at:%Y-%m-%d %H:%M:%S} UTC")
    if frame.every_s is not None:
        text.append(f"  every {span(frame.every_s)}, Ctrl-C ends", "dim")
    return text


def _outage(frame: Frame) -> Text:
    since = frame.away_since or frame.at
    text = Text.assemble(
        ("DATABASE AWAY", "bold white on red"),
        (f" for {_ago(since, frame.at)}: {escaped(frame.error)}", "red"),
    )
    if frame.status is not None:
        text.append(f"; the figures are of {frame.status.taken_at:%H:%M:%S}", "red")
    return text


def _body(status: Status, *, is_wide: bool) -> Iterator[RenderableType]:
    yield Text()
    yield _sources(status, is_wide=is_wide)
    yield from _instances(status)
    yield Text()
    yield _open_sends(status)
    yield Text()
    yield _ended_sends(status)
    if not status.counted.is_complete:
        rows = status.counted.rows
        yield Text(f"  of the newest {rows:,} receipts: more were too many to count", "yellow")
    yield Text()
    yield from _lines(status)


def _table(title: str, *names: str, gap: int = 2) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, gap, 0, 0),
        header_style="dim",
        pad_edge=False,
    )
    for place, name in enumerate(names):
        # Where it is narrow, names are folded and numbers are not.
        if place == 0:
            table.add_column(name, overflow="fold", min_width=_NAME_WIDTH)
        else:
            table.add_column(name, justify="right", no_wrap=True)
    return table


# --- sources ---


def _sources(status: Status, *, is_wide: bool) -> Table:
    names = ["source", "pull", "commit", "lag", "pulled", "changed", "acked", "unacked", "quar."]
    if is_wide:
        names += ["redeliv.", "ack late", "ack failed"]
    table = _table("Sources", *names, gap=2 if is_wide else 1)
    for source in status.sources:
        row = [
            _source_name(source),
            _age(source.last_pull_at, status.taken_at),
            _age(source.last_commit_at, status.taken_at),
            Text("-" if source.lag_s is None else span(source.lag_s)),
            _number(source.pulled),
            _number(source.changed),
            _number(source.acked),
            _number(source.in_flight),
            _number(source.quarantined, "yellow"),
        ]
        if is_wide:
            row += [
                _number(source.redelivered),
                _number(source.ack_expired, "yellow"),
                _number(source.ack_failed, "yellow"),
            ]
        table.add_row(*row)
    if not status.sources:
        table.add_row(Text("none are configured", "dim"))
    return table


def _source_name(source: Source) -> Text:
    return Text(escaped(source.name), "" if source.is_configured else "dim")


def _instances(status: Status) -> Iterator[Text]:
    """Who works on each source, where that is not one process that is well."""
    for source in status.sources:
        name = escaped(source.name)
        if not source.instances:
            yield Text(f"  {name}: no instance has ever pulled it", "yellow")
            continue
        if source.silent_since is not None:
            ago = _ago(source.silent_since, status.taken_at)
            at = f"{source.silent_since:%Y-%m-%d %H:%M} UTC"
            yield Text(f"  {name}: SILENT for {ago}, since {at}: is it running?", "red")
        shown = source.instances[:_INSTANCES_MOST]
        parts = [
            f"{escaped(one.name)} {'silent for ' if one.is_silent else ''}{span(one.age_s)}"
            + ("" if one.is_silent else " ago")
            for one in shown
        ]
        if more := len(source.instances) - len(shown):
            parts.append(f"{more} more")
        yield Text(f"  {name}: {', '.join(parts)}", "dim")


# --- accounts ---


def _open_sends(status: Status) -> Table:
    names = ("awaited", "pending", "overdue", "due", "undated", "oldest gap", "lost in")
    table = _table("Sends that wait for an end", "account", *names)
    for account in status.accounts:
        gap = account.oldest_gap_at
        table.add_row(
            _account_name(account),
            _number(account.awaited),
            _number(account.pending),
            _number(account.overdue, "yellow"),
            _number(account.due),
            _number(account.undated, "yellow"),
            Text("-") if gap is None else _age(gap, status.taken_at),
            _left(account.hours_to_loss),
        )
    return table


def _left(hours: float | None) -> Text:
    if hours is None:
        return Text("-")
    if hours <= 0:
        return Text("over", "bold red")
    return Text(span(hours * 3600), "bold red" if hours < _SOON_H else "")


def _ended_sends(status: Status) -> Table:
    ends = (SmsStatus.DELIVERED, SmsStatus.FAILED, SmsStatus.UNKNOWN, SmsStatus.LOST)
    table = _table("Sends that ended", "account", *(one.value for one in ends), "delivered of all")
    for account in status.accounts:
        counts = [getattr(account, one.value) for one in ends]
        total = sum(counts)
        table.add_row(
            _account_name(account),
            *(_number(count, TONES[one]) for one, count in zip(ends, counts, strict=True)),
            Text(f"{100 * account.delivered / total:.2f} %" if total else "-"),
        )
    return table


def _account_name(account: Account) -> Text:
    return Text(escaped(f"{account.provider}/{account.name}"))


# --- the rest ---


def _lines(status: Status) -> Iterator[RenderableType]:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    reasons = [f"{escaped(reason)} {count:,}" for reason, count in status.quarantine.items()]
    quarantine = Text(", ".join(reasons), "yellow") if reasons else Text("empty", "dim")
    table.add_row("Quarantine", quarantine)
    table.add_row("Audits", _audits(status.audits))
    holders = [
        f"{escaped(one.name)} by {escaped(one.holder)} for {_ago(status.taken_at, one.until)}"
        for one in status.leases
    ]
    table.add_row("Leases", Text("\n".join(holders) or "none are held", "dim"))
    table.add_row("Database", Text(_database(status.database), "dim"))
    yield table


def _database(database: Database) -> str:
    parts = [database.kind, f"schema {database.revision or 'none'}", _size(database.size_bytes)]
    largest = sorted(database.tables.items(), key=lambda one: -one[1])[:_TABLES_MOST]
    return ", ".join([*parts, *(f"{name} {_size(size)}" for name, size in largest)])


def _audits(audits: Iterable[Audit]) -> Text:
    """The counts in which the two sides differ."""
    lines = []
    for audit in audits:
        differing = [
            f"{name} {ours:,} of {theirs:,}"
            for name, theirs in audit.theirs.items()
            if (ours := audit.ours[name]) != theirs
        ]
        who = escaped(f"{audit.provider}/{audit.account}")
        lines.append(f"{audit.day} {who}: we hold {', '.join(differing)}")
    return Text("\n".join(lines), "yellow") if lines else Text("none differ", "dim")


def _number(count: int, style: str = "") -> Text:
    shown = f"{count:,}" if count < _EXACT else f"{count / 1_000_000:,.2f}M"
    return Text(shown, style if count else "dim")


def _age(at: datetime | None, now: datetime) -> Text:
    """How long ago, in one unit."""
    return Text("never", "dim") if at is None else Text(" ".join(_ago(at, now).split()[:2]))


def _ago(since: datetime, now: datetime) -> str:
    return span(max(0.0, (now - since).total_seconds()))


def _size(size: int) -> str:
    value, unit = float(size), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return (
        f"{value:.0f} {_UNITS[unit]}" if value >= 10 or not unit else f"{value:.1f} {_UNITS[unit]}"
    )
