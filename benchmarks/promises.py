"""design.md section 12, row by row: what is promised, what is aimed at, what was measured. Pure."""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from benchmarks.figures import Key, Results
from benchmarks.places import MARIADB, POSTGRESQL, SQLITE
from benchmarks.scenes import DEMO1, NAIVE16, ONE, RECEIPTD, ROWS, TWO, WAITING, WORKING


class Verdict(StrEnum):
    """How a measured value stands to its promise."""

    AIM = "aim reached"
    KEPT = "kept"
    BROKEN = "BROKEN"
    UNKNOWN = "not measured"


class Promise(msgspec.Struct, frozen=True):
    """A row. Without a floor it is only told; `form` shows a value."""

    what: str
    measured: Callable[[Results], float | None]
    floor: float | None = None
    aim: float | None = None
    form: str = "{:,.2f}"
    higher_is_better: bool = True

    def verdict(self, results: Results) -> Verdict | None:
        """Return how this stands in `results`; None if nothing is promised."""
        if self.floor is None or self.aim is None:
            return None
        value = self.measured(results)
        if value is None:
            return Verdict.UNKNOWN
        sign = 1 if self.higher_is_better else -1
        if sign * value >= sign * self.aim:
            return Verdict.AIM
        return Verdict.KEPT if sign * value >= sign * self.floor else Verdict.BROKEN

    def show(self, value: float | None) -> str:
        """Return a value of this row as text, "" if there is none."""
        return "" if value is None else self.form.format(value)


def _median(
    scene: str, kind: str, figure: str, condition: str = ""
) -> Callable[[Results], float | None]:
    def measured(results: Results) -> float | None:
        found = results.spread(Key(scene, kind, condition, RECEIPTD), figure)
        return found.median if found else None

    return measured


def _ratio(
    scene: str, kind: str, upper: str, lower: str, figure: str = "per_s"
) -> Callable[[Results], float | None]:
    def measured(results: Results) -> float | None:
        return results.ratio(Key(scene, kind, "", upper), Key(scene, kind, "", lower), figure)

    return measured


def _growth(results: Results) -> float | None:
    """Return the worst ratio of all databases and batch sizes."""
    found = [
        results.spread(one.key, figure)
        for one in results.series
        for figure in one.figures
        if one.key.scene == "grown" and figure.startswith("ratio_")
    ]
    return max((one.median for one in found if one), default=None)


_TIMES, _SHARE, _MB, _S, _MS = "{:.1f}x", "{:.0%}", "{:.0f} MB", "{:.2f} s", "{:.1f} ms"

PROMISES = [
    *(
        Promise(
            f"end to end against demo1, {kind}",
            _ratio("saturation", kind, RECEIPTD, DEMO1),
            floor,
            aim,
            _TIMES,
        )
        for kind, floor, aim in ((SQLITE, 12, 25), (POSTGRESQL, 18, 50), (MARIADB, 13, 28))
    ),
    *(
        Promise(
            f"share of the same rows upserted from memory, {kind}",
            _ratio("saturation", kind, RECEIPTD, ROWS),
            floor,
            aim,
            _SHARE,
        )
        for kind, floor, aim in ((SQLITE, 0.2, 0.4), (POSTGRESQL, 0.25, 0.7))
    ),
    *(
        Promise(
            f"demo1's CPU per receipt against receiptd's, {kind}",
            _ratio("saturation", kind, DEMO1, RECEIPTD, "cpu_us"),
            floor,
            aim,
            _TIMES,
        )
        for kind, floor, aim in ((SQLITE, 9, 18), (POSTGRESQL, 12, 40))
    ),
    Promise(
        "receipts/s at 20 ms round trip, 64 threads, one process, sqlite",
        _median("round trip", SQLITE, "per_s", "20 ms"),
        12_000,
        20_000,
        "{:,.0f}/s",
    ),
    Promise(
        "with fdatasync slowed by 2 ms, against naive16, sqlite",
        _ratio("slow disk", SQLITE, RECEIPTD, NAIVE16),
        5,
        10,
        _TIMES,
    ),
    Promise(
        "time per receipt in a grown database against an empty one",
        _growth,
        1.25,
        1.1,
        "{:.2f}x",
        higher_is_better=False,
    ),
    Promise(
        "requests per receipt at 1,000/s, sqlite",
        _median("rate", SQLITE, "requests", "1000/s"),
        0.5,
        0.3,
        higher_is_better=False,
    ),
    Promise(
        "… with p99 enqueue to commit",
        _median("rate", SQLITE, "p99_ms", "1000/s"),
        25,
        25,
        _MS,
        higher_is_better=False,
    ),
    Promise(
        "p99 enqueue to commit at 50/s, no round trip, sqlite",
        _median("rate", SQLITE, "p99_ms", "50/s"),
        10,
        3,
        _MS,
        higher_is_better=False,
    ),
    *(
        Promise(
            f"RSS at full load, 4 threads, {kind}",
            _median("saturation", kind, "rss_mb"),
            floor,
            aim,
            _MB,
            higher_is_better=False,
        )
        for kind, floor, aim in ((SQLITE, 80, 60), (POSTGRESQL, 90, 70))
    ),
    Promise(
        "RSS slope over a million receipts with 1 % bad ones, sqlite, per hour",
        _median("soak", SQLITE, "rss_mb_per_hour"),
        1,
        0,
        "{:.1f} MB",
        higher_is_better=False,
    ),
    *(
        Promise(
            f"SIGTERM to exit, {condition}, sqlite",
            _median("stop", SQLITE, "seconds", condition),
            floor,
            aim,
            _S,
            higher_is_better=False,
        )
        for condition, floor, aim in ((WAITING, 1, 0.2), (WORKING, 5, 1))
    ),
    Promise(
        "two processes against one, postgresql",
        _ratio("processes", POSTGRESQL, TWO, ONE),
        1.2,
        1.8,
        "{:.2f}x",
    ),
    Promise(
        "CPU seconds of an idle hour (from a minute), sqlite",
        _median("idle", SQLITE, "cpu_s_per_hour"),
        form="{:.1f} s",
    ),
    *(
        Promise(f"start to first ack, {kind}", _median("start", kind, "seconds"), form=_S)
        for kind in (SQLITE, POSTGRESQL, MARIADB)
    ),
]
