"""An explanation on a terminal. Every text of a vendor's or a phone's goes through `_safe`: it must
not steer the terminal."""

from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from receiptd.cli.tones import TONES
from receiptd.clock import Clock, SystemClock
from receiptd.explain.events import Event, Explanation, Timeline, What
from receiptd.explain.timeline import reply_time
from receiptd.explain.words import describe, span
from receiptd.masking import escaped
from receiptd.store.lookups import JournalRow, Reply, StoredReceipt

_BY = {
    "biz_id": "with this biz_id",
    "phone": "to this phone",
    "out_id": "with this out_id",
    "sequence_id": "answered by this reply",
}
_STYLES = {
    What.STATUS: "bold",
    What.UNEXPLAINED: "bold",
    What.QUARANTINED: "yellow",
    What.REFUSED: "red",
    What.WINDOW_CLOSED: "red",
    What.LOST_AT: "yellow",
}
_AHEAD = (What.NEXT_QUERY, What.LOST_AT)


def show(
    explanation: Explanation, console: Console | None = None, clock: Clock | None = None
) -> None:
    """Print `explanation` on stdout, or on `console`."""
    console = console or Console(highlight=False)
    now = (clock or SystemClock()).now()
    for timeline in explanation.timelines:
        console.print(_timeline(timeline, now), soft_wrap=False)
        console.print()
    for line in _remarks(explanation):
        console.print(line)


def _timeline(timeline: Timeline, now: datetime) -> RenderableType:
    return Group(_head(timeline), _summary(timeline, now), _events(timeline, now))


def _head(timeline: Timeline) -> Text:
    sms = timeline.sms
    return Text.assemble(
        (_safe(sms.biz_id), "bold"),
        ("  to ", "dim"),
        (_safe(sms.phone), "bold"),
        (f"  {_safe(sms.provider)}/{_safe(sms.account)}  ", "dim"),
        (sms.status.value, f"bold {TONES[sms.status]}"),
    )


def _summary(timeline: Timeline, now: datetime) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _summary_rows(timeline, now):
        table.add_row("  " + name, Text(value))
    return table


def _summary_rows(timeline: Timeline, now: datetime) -> list[tuple[str, str]]:
    sms, meaning = timeline.sms, timeline.meaning
    rows: list[tuple[str, str]] = []
    if meaning is not None:
        told = " ".join(_safe(part) for part in (sms.err_code, sms.err_msg) if part)
        rows.append(("code", f"{told}: {meaning.err_class}, {meaning.text}"))
        if meaning.cure:
            rows.append(("cure", meaning.cure))
    if sms.segments is not None:
        rows.append(("billed", f"{sms.segments} segment" + ("" if sms.segments == 1 else "s")))
    if sms.conflict:
        rows.append(("conflict", "one source said delivered, another failed; the later one counts"))
    if sms.query_count:
        rows.append(("asked", f"{sms.query_count} times"))
    if timeline.lost_at is not None:
        left = (timeline.lost_at - now).total_seconds()
        when = f"in {span(left)}" if left > 0 else f"{span(-left)} ago"
        rows.append(("lost", f"for ever {when}, unless something is heard"))
    elif _never_asked(sms):
        rows.append(("asked", "never: the time of its send is not known"))
    return rows


def _never_asked(sms: StoredReceipt) -> bool:
    return sms.submitted_at is None and sms.status.value in ("awaited", "pending")


def _events(timeline: Timeline, now: datetime) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    day = None
    for event in timeline.events:
        at = event.at.astimezone() if event.at is not None else None
        if at is not None and at.date() != day:
            day = at.date()
            table.add_row(Text(f"  {day.isoformat()}", "dim"), Text(_zone(at), "dim"))
        table.add_row(_clock(at), _words(event, now))
    return table


def _words(event: Event, now: datetime) -> Text:
    text = Text(_safe(describe(event)), _STYLES.get(event.what, ""))
    if event.at is not None and event.what in _AHEAD:
        left = (event.at - now).total_seconds()
        if left > 0:
            text.append(f" (in {span(left)})", "dim")
        else:
            text.append(f" (due {span(-left)} ago: is reconciliation running?)", "yellow")
    return text


def _clock(at: datetime | None) -> str:
    if at is None:
        return "  (no time)"
    # The vendors' own times have no fraction.
    fraction = f".{at.microsecond // 1000:03d}" if at.microsecond else ""
    return f"  {at:%H:%M:%S}{fraction}"


def _zone(at: datetime) -> str:
    offset = at.strftime("%z")
    return f"UTC{offset[:3]}:{offset[3:]}" if at.utcoffset() else "UTC"


def _remarks(explanation: Explanation) -> list[Text]:
    lines = [_quarantined(one) for one in explanation.quarantined]
    lines += [_reply(one) for one in explanation.replies]
    shown = len(explanation.timelines)
    by = _BY.get(explanation.found_by or "", "")
    if explanation.total > shown:
        more = explanation.total - shown
        lines.append(Text(f"{more} more SMS {by}: --limit {explanation.total} shows them", "dim"))
    elif shown > 1:
        lines.append(Text(f"{shown} SMS {by}", "dim"))
    if not explanation.is_complete:
        lines.append(Text("Not everything was read: there may be more than this.", "yellow"))
    return lines


def _quarantined(row: JournalRow) -> Text:
    at = row.received_at.astimezone(UTC)
    return Text(
        f"journal row {row.id} names it, and is {row.outcome.value} ({_safe(row.reason or '')}): "
        f"pulled from {_safe(row.source)} at {at:%Y-%m-%d %H:%M:%S} UTC",
        "yellow",
    )


def _reply(reply: Reply) -> Text:
    at = reply_time(reply).astimezone(UTC)
    content = _safe(reply.content or "(empty)")
    return Text(f"{at:%Y-%m-%d %H:%M:%S} UTC  a reply from {_safe(reply.phone)}: {content}")


def _safe(text: str) -> str:
    return escaped(text)
