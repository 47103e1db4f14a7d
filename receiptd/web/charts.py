"""Charts as plain data: where each bar, line and label of an SVG stands. Pure; the templates draw.

Coordinates are the SVG's own; (0, 0) is the upper left corner.
"""

import math
from collections.abc import Callable, Sequence

import msgspec

WIDTH, HEIGHT = 480, 250
_RIGHT, _TOP, _BOTTOM = 22, 14, 28
_CHARACTER = 8.4  # the widest that a digit of a label is, on a narrow screen
_LEAST_LEFT = 44.0
_TICKS = 4  # lines of the grid, at most one more
_BAR_SHARE = 0.78  # of a place; the rest is the gap to the next bar


class Tick(msgspec.Struct, frozen=True):
    """A line of the grid, or a place below the axis, with its label."""

    at: float
    label: str


class Bar(msgspec.Struct, frozen=True):
    """One part of a stacked bar; `name` is its series."""

    name: str
    x: float
    y: float
    width: float
    height: float


class Line(msgspec.Struct, frozen=True):
    """A line with a gap wherever a value is missing; a value between two gaps is only a point."""

    name: str
    path: str
    points: list[tuple[float, float]]


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """What a template needs to draw one."""

    width: int = WIDTH
    height: int = HEIGHT
    left: float
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM
    y_ticks: list[Tick]
    x_ticks: list[Tick]
    bars: list[Bar] = []
    lines: list[Line] = []
    is_empty: bool = False


def stacked(
    labels: Sequence[str],
    series: Sequence[tuple[str, Sequence[int]]],
    *,
    written: Callable[[float], str],
) -> Chart:
    """Return bars of `series`, the first at the bottom, over `labels` ("" for a place without
    one). `written` writes a number beside the axis."""
    sums = [sum(values[place] for _, values in series) for place in range(len(labels))]
    top = max(sums, default=0)
    scale = _Scale(0, top, whole=True)
    y_ticks = scale.ticks(written)
    axis = _Axis(labels, y_ticks)
    width = axis.step * _BAR_SHARE
    bars = []
    for place in range(len(labels)):
        x = axis.middle(place) - width / 2
        below = 0
        for name, values in series:
            value = values[place]
            if value:
                y, base = scale.y(below + value), scale.y(below)
                # Thin but there: one failure among a million shall be seen.
                height = max(base - y, 1.0)
                bars.append(Bar(name, _round(x), _round(base - height), _round(width),
                                _round(height)))  # fmt: skip
            below += value
    return Chart(left=axis.left, y_ticks=y_ticks, x_ticks=axis.ticks(), bars=bars, is_empty=not top)


def lines(
    labels: Sequence[str],
    series: Sequence[tuple[str, Sequence[float | None]]],
    *,
    written: Callable[[float], str],
    low: float = 0.0,
    high: float | None = None,
) -> Chart:
    """Return lines of `series` from `low` to `high` (None: their own greatest value)."""
    known = [value for _, values in series for value in values if value is not None]
    scale = _Scale(low, max(known, default=0) if high is None else high)
    y_ticks = scale.ticks(written)
    axis = _Axis(labels, y_ticks)
    drawn = []
    for name, values in series:
        points = [
            None if value is None else (_round(axis.middle(place)), _round(scale.y(value)))
            for place, value in enumerate(values)
        ]
        drawn.append(Line(name, _path(points), [point for point in points if point]))
    return Chart(
        left=axis.left, y_ticks=y_ticks, x_ticks=axis.ticks(), lines=drawn, is_empty=not known
    )


class _Axis:
    """From places in time to those of the drawing, beside the labels of the scale."""

    def __init__(self, labels: Sequence[str], y_ticks: Sequence[Tick]) -> None:
        widest = max(len(tick.label) for tick in y_ticks)
        self.left = max(_LEAST_LEFT, _round(14 + widest * _CHARACTER))
        self.step = (WIDTH - self.left - _RIGHT) / max(1, len(labels))
        self._labels = labels

    def middle(self, place: int) -> float:
        return self.left + (place + 0.5) * self.step

    def ticks(self) -> list[Tick]:
        return [
            Tick(_round(self.middle(place)), label)
            for place, label in enumerate(self._labels)
            if label
        ]


class _Scale:
    """From values to heights, between round numbers."""

    def __init__(self, low: float, high: float, *, whole: bool = False) -> None:
        self.low = low
        self.step = nice((high - low) / _TICKS or 1.0)
        if whole:
            self.step = max(1.0, self.step)
        count = max(1, math.ceil(round((high - low) / self.step, 9)))
        self.high = low + count * self.step
        self._count = count

    def y(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        share = (inside - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _BOTTOM - _TOP)

    def ticks(self, written: Callable[[float], str]) -> list[Tick]:
        values = [self.low + place * self.step for place in range(self._count + 1)]
        return [Tick(_round(self.y(value)), written(value)) for value in values]


def nice(step: float) -> float:
    """Return the least of 1, 2, 2.5, 5 times a power of ten that is not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    for factor in (1.0, 2.0, 2.5, 5.0, 10.0):
        if factor * power >= step * (1 - 1e-9):
            return factor * power
    return 10.0 * power


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    parts, is_down = [], False
    for point in points:
        if point is not None:
            parts.append(f"{'L' if is_down else 'M'}{point[0]:g} {point[1]:g}")
        is_down = point is not None
    return " ".join(parts)


def _round(value: float) -> float:
    return round(value, 1)
