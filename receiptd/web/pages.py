"""The dashboard as HTML: wording, numbers and templates, which are read once."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from receiptd.web import charts
from receiptd.web.overview import (
    GAP_ALARM,
    LATEST_DEADLINE,
    OTHER,
    PARTS,
    PERIODS,
    STALE_AFTER,
    Deadline,
    Overview,
    Source,
)
from receiptd.web.words import FACTS, Language, number, percent, seconds

REFRESH_S = 60
# What is found is at least this; a rate is drawn from a round number below the lowest.
_LOWEST_RATES = (0.99, 0.95, 0.9, 0.75, 0.5, 0.0)
_NOTHING = "–"
_FOLDER = Path(__file__).parent / "templates"


class View(msgspec.Struct, frozen=True, kw_only=True):
    """How somebody looks at the page: what stands in the query string."""

    language: Language
    kept: Mapping[str, str]  # the parameters that links carry on
    asked: str = ""  # what was typed into the search

    @property
    def refresh_s(self) -> int:
        """How often the page renews itself; 0 if it was told not to."""
        return 0 if self.kept.get("refresh") == "0" else REFRESH_S

    def link(self, **changes: str | None) -> str:
        """Return the query string with `changes`; None takes one out."""
        merged = {**self.kept, **({"q": self.asked} if self.asked else {}), **changes}
        known = {name: value for name, value in merged.items() if value}
        return f"?{urlencode(known)}" if known else "?"


def stylesheet() -> str:
    """Return the page's CSS."""
    return (_FOLDER / "dashboard.css").read_text(encoding="utf-8")


def icon() -> str:
    """Return the page's icon, an SVG."""
    return (_FOLDER / "dashboard.svg").read_text(encoding="utf-8")


def overview_page(view: View, seen: Overview, unready: str) -> str:
    """Return the overview. `unready` is what is wrong with the daemon that answers, or ""."""
    t, period = view.language, seen.period
    labels = [place.label for place in seen.places]
    sums = [place.sums for place in seen.places]
    rates = [one.rate for one in sums]
    low = _lowest([rate for rate in rates if rate is not None])
    volume = charts.stacked(
        labels, [(part, [getattr(one, part) for one in sums]) for part in PARTS], written=number
    )
    return _render(
        "overview.html",
        view,
        now=seen.now,
        seen=seen,
        alerts=_alerts(t, seen, unready),
        notes=_notes(t, seen),
        periods=list(PERIODS),
        parts=[(part, t(part)) for part in PARTS],
        step=t(f"step_{period.name}"),
        volume=volume,
        rates=charts.lines(labels, [("rate", rates)], written=percent, low=low, high=1.0),
        rate_low=percent(low),
        times=charts.lines(
            labels,
            [
                ("delivery", [one.delivery_s for one in sums]),
                ("lag", [one.lag_s for one in sums]),
            ],
            written=seconds,
        ),
        other=OTHER,
        # The rest is no code, and would dwarf those that are.
        most_errors=max((count for _, code, count in seen.errors if code != OTHER), default=1),
        gap_accounts=sorted({name for one in seen.deadlines for name in one.counts}),
        refresh_s=view.refresh_s,
    )


def search_page(
    view: View, now: datetime, found: Mapping[str, Any] | None, refused: str, *, trusted: bool
) -> str:
    """Return what is known of `view.asked`: `found` as explain.shown has it, or why not."""
    return _render("search.html", view, now=now, found=found, refused=refused, trusted=trusted)


def problem_page(view: View, now: datetime, title: str, text: str, detail: str = "") -> str:
    """Return an error as a page; it tries again by itself where the overview would renew itself."""
    told = {"title": title, "text": text, "detail": detail}
    return _render("problem.html", view, now=now, refresh_s=view.refresh_s, **told)


def _alerts(t: Language, seen: Overview, unready: str) -> list[str]:
    found = [t("alert_here", reason=unready)] if unready else []
    found += [_source_alert(t, one, seen.now) for one in seen.sources if one.state != "well"]
    fresh = seen.freshness
    if fresh.as_of is None:
        # An empty table has nothing to count.
        found += [] if fresh.share == 1.0 else [t("alert_counts_none")]
    elif seen.now - fresh.as_of > STALE_AFTER:
        found.append(t("alert_counts_old", span=t.span(seen.now - fresh.as_of)))
    soon = [
        one for one in seen.deadlines if one.less_than is not None and one.less_than <= GAP_ALARM
    ]
    if count := sum(one.total for one in soon):
        found.append(t("alert_gap", count=number(count), span=t.span(GAP_ALARM)))
    if count := sum(count for _, count in seen.quarantine):
        found.append(t("alert_quarantine", count=number(count)))
    if seen.differences:
        found.append(t("alert_audits", count=number(len(seen.differences))))
    return found


def _source_alert(t: Language, source: Source, now: datetime) -> str:
    span = "" if source.since is None else t.span(now - source.since)
    return t(f"alert_source_{source.state}", name=source.name, span=span)


def _notes(t: Language, seen: Overview) -> list[str]:
    fresh = seen.freshness
    if fresh.as_of is None or fresh.share >= 1.0:
        return []
    return [t("note_filling", share=percent(fresh.share))]


def _lowest(rates: Sequence[float]) -> float:
    lowest = min(rates, default=0.0)
    return next(one for one in _LOWEST_RATES if one <= lowest)


def _render(template: str, view: View, **values: Any) -> str:
    common = {"link": view.link, "kept": view.kept, "asked": view.asked, "refresh_s": 0}
    return _environment().get_template(template).render(t=view.language, **{**common, **values})


def _percent(share: float | None) -> str:
    return _NOTHING if share is None else percent(share)


def _seconds(value: float | None) -> str:
    return _NOTHING if value is None else f"{seconds(value)} s"


@pass_context
def _ago(context: Context, at: datetime | None) -> str:
    t: Language = context["t"]
    return t("never") if at is None else t("ago", span=t.span(context["now"] - at))


@pass_context
def _named(context: Context, name: str) -> str:
    t: Language = context["t"]
    return t("other") if name == OTHER else name or t("none_told")


@pass_context
def _deadline(context: Context, one: Deadline) -> str:
    t: Language = context["t"]
    if one.less_than is None:
        return t("more_than", span=t.span(LATEST_DEADLINE))
    return t("less_than", span=t.span(one.less_than)) if one.less_than else t("over")


@pass_context
def _moment(context: Context, at: str | None) -> str:
    t: Language = context["t"]
    return _NOTHING if at is None else t.time(_time(at), seconds=True)


@pass_context
def _is_future(context: Context, event: Mapping[str, Any]) -> bool:
    now: datetime = context["now"]
    return event["at"] is not None and _time(event["at"]) > now


@pass_context
def _told(context: Context, event: Mapping[str, Any]) -> str:
    """Return an event's sentence; in Chinese its facts, because explain speaks English."""
    t: Language = context["t"]
    if t.code == "en":
        text: str = event["text"]
        return text
    facts = []
    for name, value in event.items():
        if name in ("at", "what", "text") or value in (None, ""):
            continue
        shown = f"{value:.1f}" if isinstance(value, float) else str(value)
        facts.append(f"{FACTS.get(name, name)}: {t.fact(name, shown)}")
    return "；".join(facts)


_FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": number,
    "percent": _percent,
    "seconds": _seconds,
    "ago": _ago,
    "named": _named,
    "deadline": _deadline,
    "moment": _moment,
    "is_future": _is_future,
    "told": _told,
}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(_FILTERS)
    return environment
