"""What was measured: values by scene, database, condition and contender. Pure."""

import statistics
from collections.abc import Iterator, Sequence

import msgspec


class Key(msgspec.Struct, frozen=True):
    """What a figure is of. `condition` is what differs within a scene, "" if nothing does."""

    scene: str
    database: str
    condition: str
    contender: str

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.scene, self.database, self.condition, self.contender)))


class Series(msgspec.Struct):
    """One contender's values, one per round and figure."""

    key: Key
    figures: dict[str, list[float]] = msgspec.field(default_factory=dict)
    failures: list[str] = msgspec.field(default_factory=list)


class Spread(msgspec.Struct, frozen=True):
    """The median of some rounds, and how far they lie apart."""

    median: float
    lowest: float
    highest: float


class Results(msgspec.Struct):
    """All of a session, with what a reader must know to judge it."""

    machine: dict[str, str] = msgspec.field(default_factory=dict)
    command: str = ""
    series: list[Series] = msgspec.field(default_factory=list)
    skipped: list[str] = msgspec.field(default_factory=list)

    def add(self, key: Key, figures: dict[str, float]) -> None:
        """Note one round."""
        found = self._series(key)
        for name, value in figures.items():
            found.figures.setdefault(name, []).append(value)

    def add_failure(self, key: Key, reason: str) -> None:
        """Note a round that gave no figure."""
        self._series(key).failures.append(reason)

    def spread(self, key: Key, figure: str) -> Spread | None:
        """Return what was measured of `figure`; None if nothing was, or if a round failed: what
        does not always work has no speed."""
        for one in self.series:
            if one.key == key and not one.failures and one.figures.get(figure):
                return spread(one.figures[figure])
        return None

    def ratio(self, upper: Key, lower: Key, figure: str) -> float | None:
        """Return the ratio of two medians; None if one of them is missing or the lower is zero."""
        top, bottom = self.spread(upper, figure), self.spread(lower, figure)
        if top is None or bottom is None or not bottom.median:
            return None
        return top.median / bottom.median

    def failures(self) -> Iterator[tuple[Key, str]]:
        """Yield every round that gave no figure."""
        for one in self.series:
            for reason in one.failures:
                yield one.key, reason

    def forget_failures(self) -> None:
        """Let the other rounds speak."""
        for one in self.series:
            one.failures.clear()

    def _series(self, key: Key) -> Series:
        for one in self.series:
            if one.key == key:
                return one
        self.series.append(Series(key))
        return self.series[-1]


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of `values` do not exceed (nearest rank). At least one value;
    the highest where there are too few to tell."""
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)  # rounded up
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]
