"""Results as Markdown that reads well in a terminal, too. Pure."""

from collections.abc import Iterator, Sequence

from benchmarks.figures import Key, Results, Series
from benchmarks.promises import PROMISES, Verdict
from benchmarks.scenes import DEMO1, NAIVE16

_SPREAD_FORMS = {
    "per_s": ("receipts/s", "{:,.0f}"),
    "cpu_us": ("CPU µs", "{:,.1f}"),
    "rss_mb": ("RSS MB", "{:,.0f}"),
    "requests": ("requests", "{:,.2f}"),
    "broker_us": ("broker's CPU µs", "{:,.1f}"),
    "p50_ms": ("p50 ms", "{:,.1f}"),
    "p99_ms": ("p99 ms", "{:,.1f}"),
    "seconds": ("seconds", "{:,.2f}"),
}


def markdown(results: Results) -> str:
    """Return the whole report: the promises, each scene, and what is missing."""
    told = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    lines = [f"`{results.command}`", "", f"On: {told}.", "", *_promises(results)]
    for scene in dict.fromkeys(one.key.scene for one in results.series):
        lines += ["", f"### {scene}", ""]
        lines += _scene(results, [one for one in results.series if one.key.scene == scene])
    lines += _missing(results)
    return "\n".join(lines) + "\n"


def broken(results: Results) -> list[str]:
    """Return the promises that the measured values break."""
    return [one.what for one in PROMISES if one.verdict(results) is Verdict.BROKEN]


def _promises(results: Results) -> list[str]:
    rows = [
        (
            one.what,
            one.show(one.floor),
            one.show(one.aim),
            one.show(one.measured(results)),
            one.verdict(results) or "",
        )
        for one in PROMISES
    ]
    return _table(("design.md, section 12", "floor", "aim", "measured", ""), rows)


def _scene(results: Results, found: Sequence[Series]) -> list[str]:
    """Return a scene's table: medians with the lowest and highest, and ratios to the rivals."""
    found = sorted(found, key=lambda one: (one.key.database, one.key.condition, one.key.contender))
    figures = list(dict.fromkeys(figure for one in found for figure in one.figures))
    rivals = [name for name in (DEMO1, NAIVE16) if any(one.key.contender == name for one in found)]
    rivals = rivals if "per_s" in figures else []
    names = [_SPREAD_FORMS.get(figure, (figure, ""))[0] for figure in figures]
    heads = ("database", "", "", *(f"x {name}" for name in rivals), *names)
    rows = [
        (
            one.key.database,
            one.key.condition,
            one.key.contender,
            *(_against(results, one.key, rival) for rival in rivals),
            *(_spread(results, one.key, figure) for figure in figures),
        )
        for one in found
    ]
    return _table(heads, rows)


def _against(results: Results, key: Key, rival: str) -> str:
    other = Key(key.scene, key.database, key.condition, rival)
    ratio = results.ratio(key, other, "per_s")
    return "" if ratio is None else f"{ratio:.1f}"


def _spread(results: Results, key: Key, figure: str) -> str:
    found = results.spread(key, figure)
    if found is None:
        return ""
    form = _SPREAD_FORMS.get(figure, ("", "{:,.2f}"))[1]
    median, lowest, highest = map(form.format, (found.median, found.lowest, found.highest))
    return median if lowest == highest else f"{median} [{lowest}–{highest}]"


def _missing(results: Results) -> Iterator[str]:
    for reason in results.skipped:
        yield f"\nSkipped: {reason}."
    for key, reason in results.failures():
        yield f"\nFAILED: {key}: {reason}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return "| " + " | ".join(padded) + " |"

    return [line(heads), "|" + "|".join("-" * (width + 2) for width in widths) + "|"] + [
        line(row) for row in rows
    ]
