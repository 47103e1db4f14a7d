"""What the dashboard shows, as data: read from the store in one go, and judged. No wording."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec
from sqlalchemy import Connection

from receiptd.china import OFFSET, china_day
from receiptd.model import Status
from receiptd.store import audits, glance, rollup_blocks, rollups
from receiptd.store.audits import Audit
from receiptd.store.glance import Gaps, Progress
from receiptd.store.rollup_blocks import Freshness
from receiptd.store.rollups import Total

# A process tells of each source every 5 s; a minute and a half is a restart that took its time.
SILENT_AFTER = timedelta(seconds=90)
# Beyond the source's own wait for a message.
STUCK_AFTER = timedelta(seconds=120)
# The keeper looks every 30 s, and another instance takes over within 150 s.
STALE_AFTER = timedelta(minutes=4)
GAP_ALARM = timedelta(hours=24)
_DEADLINES = tuple(timedelta(hours=hours) for hours in (6, 24, 72, 168))
LATEST_DEADLINE = _DEADLINES[-1]
_MOST_ROWS = 12  # of a table; the rest in one row
_HOUR = timedelta(hours=1)
OTHER = rollups.OTHER

# The four parts of a bar, from the bottom up.
PARTS: Mapping[str, tuple[str, ...]] = {
    "delivered": (Status.DELIVERED.value,),
    "failed": (Status.FAILED.value,),
    "unclear": (Status.UNKNOWN.value, Status.LOST.value),
    "waiting": (Status.AWAITED.value, Status.PENDING.value),
}
_PART_OF = {status: part for part, statuses in PARTS.items() for status in statuses}


class Period(msgspec.Struct, frozen=True):
    """A choice of the page: so many places of so many hours, up to now."""

    name: str
    places: int
    step: timedelta
    label_every: int  # places; counted so that midnight (China) has one
    label: str  # strftime


PERIODS = {
    one.name: one
    for one in (
        Period("24h", 24, _HOUR, 3, "%H:%M"),
        Period("7d", 28, 6 * _HOUR, 4, "%m-%d"),
        Period("30d", 30, 24 * _HOUR, 4, "%m-%d"),
    )
}


class Readable(Protocol):
    """What is needed of the store."""

    def reading(self) -> AbstractContextManager[Connection]: ...


class Sums(msgspec.Struct):
    """How many SMS became what, and how long that took."""

    delivered: int = 0
    failed: int = 0
    unclear: int = 0
    waiting: int = 0
    timed: int = 0
    delivery_ms: int = 0
    lagged: int = 0
    lag_ms: int = 0

    def add(self, status: str, total: Total) -> None:
        """Take in the total of one status; one of a later version is unclear."""
        part = _PART_OF.get(status, "unclear")
        setattr(self, part, getattr(self, part) + total.count)
        for name in ("timed", "delivery_ms", "lagged", "lag_ms"):
            setattr(self, name, getattr(self, name) + getattr(total, name))

    @property
    def total(self) -> int:
        return self.delivered + self.failed + self.unclear + self.waiting

    @property
    def rate(self) -> float | None:
        """The share of delivered among those whose end is known; None if there are none."""
        ended = self.delivered + self.failed + self.unclear
        return self.delivered / ended if ended else None

    @property
    def delivery_s(self) -> float | None:
        return self.delivery_ms / self.timed / 1000 if self.timed else None

    @property
    def lag_s(self) -> float | None:
        return self.lag_ms / self.lagged / 1000 if self.lagged else None


class Place(msgspec.Struct, frozen=True):
    """One place of the time axis."""

    at: datetime  # its begin
    label: str  # "" for most
    sums: Sums


class Source(msgspec.Struct, frozen=True):
    """A source and how it is: `well`, `silent`, `never` or `stuck`; `since` what is wrong."""

    name: str
    state: str
    progress: Progress | None
    since: datetime | None


class Deadline(msgspec.Struct, frozen=True):
    """Sends that are lost for ever within `less_than` (None: later than all others)."""

    less_than: timedelta | None
    counts: dict[str, int]  # by account

    @property
    def total(self) -> int:
        return sum(self.counts.values())


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The page's content."""

    now: datetime
    period: Period
    account: str | None
    accounts: list[str]
    places: list[Place]
    sums: Sums
    by_account: list[tuple[str, Sums]]
    by_template: list[tuple[str, Sums]]
    errors: list[tuple[str, str, int]]  # class, code, how many; most first
    sources: list[Source]
    deadlines: list[Deadline]
    oldest_left: timedelta | None  # until the oldest gap is lost
    gaps_exact: bool
    quarantine: list[tuple[str, int]]
    differences: list[Audit]
    freshness: Freshness
    window: timedelta


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What of the configuration the page speaks of."""

    accounts: Sequence[str]
    waits: Mapping[str, int]  # the sources, and how long a poll of each may last, in seconds
    window: timedelta  # in which a provider can be asked


def overview(
    store: Readable, known: Known, now: datetime, period: Period, account: str | None
) -> Overview:
    """Read everything in one short transaction. Raises StoreUnavailable."""
    begins = _begins(period, now)
    until = begins[-1] + period.step
    with store.reading() as connection:

        def totals(*by: str, statuses: Sequence[str] = (), timed: bool = False) -> list[Total]:
            return rollups.totals(
                connection,
                begins[0],
                until,
                by=by,
                account=account,
                statuses=statuses,
                timed=timed,
            )

        by_hour, by_account = totals("hour", "status", timed=True), totals("account", "status")
        by_error = totals("err_class", "err_code", statuses=[Status.FAILED.value])
        by_template = totals("template_code", "status")
        told = glance.sources(connection, now - SILENT_AFTER)
        gaps = glance.gaps(connection, now, known.window)
        quarantine = glance.quarantine(connection)
        differences = audits.differing(connection, china_day(now))
        freshness = rollup_blocks.freshness(connection)
    places = _places(period, begins, by_hour)
    deadlines, oldest_left = _deadlines(gaps, account, now, known.window)
    accounts = _grouped(by_account)
    return Overview(
        now=now,
        period=period,
        account=account,
        accounts=sorted({*known.accounts, *(name for name, _ in accounts)}),
        places=places,
        sums=_added(by_hour),
        by_account=accounts,
        by_template=_bounded(_grouped(by_template)),
        errors=_errors(by_error),
        sources=_sources(known.waits, told, now),
        deadlines=deadlines,
        oldest_left=oldest_left,
        gaps_exact=gaps.is_exact,
        quarantine=quarantine,
        differences=[one for one in differences if account in (None, one.account)],
        freshness=freshness,
        window=known.window,
    )


def _begins(period: Period, now: datetime) -> list[datetime]:
    """Return where the places begin, the last of them the one that `now` is in. Steps are counted
    from a midnight of China."""
    day = (now + OFFSET).replace(hour=0, minute=0, second=0, microsecond=0) - OFFSET
    last = day + (now - day) // period.step * period.step
    return [last - place * period.step for place in reversed(range(period.places))]


def _places(period: Period, begins: list[datetime], totals: list[Total]) -> list[Place]:
    sums = [Sums() for _ in begins]
    for total in totals:
        hour, status = total.key
        sums[(hour - begins[0]) // period.step].add(status, total)
    return [Place(at, _label(period, at), sums[place]) for place, at in enumerate(begins)]


def _label(period: Period, at: datetime) -> str:
    local = at + OFFSET
    steps = (local - datetime(1970, 1, 1, tzinfo=UTC)) // period.step
    return local.strftime(period.label) if steps % period.label_every == 0 else ""


def _added(totals: list[Total]) -> Sums:
    sums = Sums()
    for total in totals:
        sums.add(total.key[-1], total)
    return sums


def _grouped(totals: list[Total]) -> list[tuple[str, Sums]]:
    """Sum up by the first of two keys, the second being the status; the most first."""
    groups: dict[str, Sums] = {}
    for total in totals:
        groups.setdefault(total.key[0], Sums()).add(total.key[1], total)
    return sorted(groups.items(), key=lambda one: (one[0] == OTHER, -one[1].total, one[0]))


def _bounded(groups: list[tuple[str, Sums]]) -> list[tuple[str, Sums]]:
    if len(groups) <= _MOST_ROWS:
        return groups
    rest = Sums()
    for _, sums in groups[_MOST_ROWS - 1 :]:
        for name in Sums.__struct_fields__:
            setattr(rest, name, getattr(rest, name) + getattr(sums, name))
    return [*groups[: _MOST_ROWS - 1], (OTHER, rest)]


def _errors(totals: list[Total]) -> list[tuple[str, str, int]]:
    totals = sorted(totals, key=lambda one: (one.key[1] == OTHER, -one.count, one.key))
    rows = [(*one.key, one.count) for one in totals]
    if len(rows) <= _MOST_ROWS:
        return rows
    rest = sum(count for _, _, count in rows[_MOST_ROWS - 1 :])
    return [*rows[: _MOST_ROWS - 1], ("", OTHER, rest)]


def _sources(waits: Mapping[str, int], told: list[Progress], now: datetime) -> list[Source]:
    by_name = {one.source: one for one in told}
    found = []
    # What another process's configuration has is a source as well, as long as it lives.
    names = sorted({*waits, *(one.source for one in told if one.instances)})
    for name in names:
        progress = by_name.get(name)
        if progress is None:
            found.append(Source(name, "never", None, None))
        elif not progress.instances:
            found.append(Source(name, "silent", progress, progress.told_at))
        else:
            patience = STUCK_AFTER + timedelta(seconds=waits.get(name, 30))
            pulled_at = progress.last_pull_at
            stuck = pulled_at is not None and now - pulled_at > patience
            found.append(Source(name, "stuck" if stuck else "well", progress, pulled_at))
    return found


def _deadlines(
    gaps: Gaps, account: str | None, now: datetime, window: timedelta
) -> tuple[list[Deadline], timedelta | None]:
    found = [Deadline(one, {}) for one in (timedelta(0), *_DEADLINES, None)]
    oldest: timedelta | None = None
    for name, submitted_at, count in gaps.rows:
        if account not in (None, name):
            continue
        left = submitted_at + window - now
        oldest = left if oldest is None else min(oldest, left)
        counts = next(one.counts for one in found if one.less_than is None or left < one.less_than)
        counts[name] = counts.get(name, 0) + count
    return [one for one in found if one.counts], oldest
