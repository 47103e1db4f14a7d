"""What the daemon holds, from /proc: memory, threads, descriptors; and what a row of such samples
says. The judgement is pure."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

# design.md section 12: over a million receipts with 1 % faults.
FLOOR_MB_H = 1.0
# CPython takes memory in arenas of 1 MiB, and what is one more at its worst moment is no leak. Over
# the two quarters between which it is looked for, a leak of 3 bytes a receipt is more.
NOISE_KIB = 1024
# Caches and pools fill with the first receipts, whatever the share that the warm-up is.
LEAST_RECEIPTS = 200_000
LEAST_SAMPLES = 40
# In less time, a megabyte an hour is less than a quarter of an arena.
LEAST_S = 900.0


class Sample(msgspec.Struct, frozen=True):
    """One look at the process."""

    at_s: float
    receipts: int  # done so far
    rss_kib: int
    anon_kib: int  # the part of it that is no file's
    threads: int
    descriptors: Mapping[str, int]  # by kind

    def __str__(self) -> str:
        return (
            f"{self.at_s:6.0f} s: {self.receipts:,} acked, {self.rss_kib / 1024:.1f} MB"
            f" ({self.anon_kib / 1024:.1f} anonymous), {self.threads} threads,"
            f" {dict(self.descriptors)}"
        )


class Judgement(StrEnum):
    """What a row of samples says of the memory."""

    UNJUDGED = "too short to judge"
    STEADY = "no leak"
    LEAK = "a leak"
    TOO_STEEP = "no leak, and yet more than promised"


class Memory(msgspec.Struct, frozen=True):
    """What became of the memory over the samples."""

    samples: int
    seconds: float
    receipts: int
    first_kib: int
    last_kib: int
    highest_kib: int
    slope_mb_h: float
    error_mb_h: float  # of the slope: one standard error
    bytes_per_receipt: float
    growth_kib: float  # from the second quarter's median to the last one's
    late_kib: float  # of it, from the third quarter's median to the last one's

    @property
    def judgement(self) -> Judgement:
        """What it says, the worst first."""
        if not self.is_judged:
            return Judgement.UNJUDGED
        if self.is_leak:
            return Judgement.LEAK
        return Judgement.TOO_STEEP if self.is_too_steep else Judgement.STEADY

    @property
    def is_judged(self) -> bool:
        """Whether the samples are enough to tell a leak from what fills once."""
        return self.samples >= LEAST_SAMPLES and self.receipts >= LEAST_RECEIPTS

    @property
    def is_leak(self) -> bool:
        """Whether it grows on: steeper than promised beyond the slope's own error, by more than
        noise, and in the end as before. What fills comes to rest."""
        is_more = self.growth_kib > NOISE_KIB and self.late_kib > NOISE_KIB / 2
        return self.is_judged and self._is_steep and is_more

    @property
    def is_too_steep(self) -> bool:
        """Whether it grows faster than promised, beyond the slope's own error, though it may come
        to rest."""
        return self.is_judged and self._is_steep and self.seconds >= LEAST_S

    @property
    def _is_steep(self) -> bool:
        return self.slope_mb_h - 2 * self.error_mb_h > FLOOR_MB_H


def memory(samples: Sequence[Sample]) -> Memory:
    """Return the trend of at least four samples after the warm-up."""
    sizes = [one.rss_kib for one in samples]
    per_s, error = slope([one.at_s for one in samples], sizes)
    per_receipt, _ = slope([one.receipts for one in samples], sizes)
    quarter = len(samples) // 4
    second, third, last = (
        statistics.median(sizes[len(sizes) - n * quarter :][:quarter]) for n in (3, 2, 1)
    )
    return Memory(
        samples=len(samples),
        seconds=samples[-1].at_s - samples[0].at_s,
        receipts=samples[-1].receipts - samples[0].receipts,
        first_kib=sizes[0],
        last_kib=sizes[-1],
        highest_kib=max(sizes),
        slope_mb_h=per_s * 3600 / 1024,
        error_mb_h=error * 3600 / 1024,
        bytes_per_receipt=per_receipt * 1024,
        growth_kib=last - second,
        late_kib=last - third,
    )


def slope(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Return the least-squares slope of `ys` over `xs`, and its standard error; zeros where all of
    `xs` are the same."""
    x_mean, y_mean = statistics.fmean(xs), statistics.fmean(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    if not spread or len(xs) < 3:
        return 0.0, 0.0
    found = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    rest = sum((y - y_mean - found * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    return found, (rest / (len(xs) - 2) / spread) ** 0.5


def leaks(before: Sample, after: Sample, pools: Mapping[str, int]) -> list[str]:
    """Return which counts of two quiet moments grew. What a pool may hold, by the kind of its
    descriptors, is no growth: it is opened when it is needed, and closed by faults."""
    pairs = {"threads": (before.threads, after.threads)} | {
        f"descriptors: {kind}": (before.descriptors.get(kind, 0), count)
        for kind, count in after.descriptors.items()
        if count > pools.get(kind, 0)
    }
    return [f"{name} {then} -> {now}" for name, (then, now) in pairs.items() if now > then]


def sample(pid: int, at_s: float, receipts: int, database: str | int, broker: int = 0) -> Sample:
    """Look at a process. `database` is the path of its file, or the port of its server; `broker`
    the port of the broker."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return Sample(
        at_s=at_s,
        receipts=receipts,
        rss_kib=int(fields["VmRSS"].split()[0]),
        anon_kib=int(fields["RssAnon"].split()[0]),
        threads=int(fields["Threads"]),
        descriptors=_descriptors(pid, database, broker),
    )


def _descriptors(pid: int, database: str | int, broker: int) -> Mapping[str, int]:
    to_database = _sockets_to(pid, database) if isinstance(database, int) else frozenset()
    to_broker = _sockets_to(pid, broker)
    counts: Counter[str] = Counter()
    for place in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(place.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
        if target in to_database or (isinstance(database, str) and target.startswith(database)):
            counts["database"] += 1
        elif target in to_broker:
            counts["broker"] += 1
        elif target.startswith("socket:"):
            counts["sockets"] += 1
        elif target.startswith("/"):
            counts["files"] += 1
        else:
            counts["others"] += 1
    return counts


def _sockets_to(pid: int, port: int) -> frozenset[str]:
    """Return the sockets that are connected to a port, as /proc/PID/fd names them."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    found = (line.split() for line in lines)
    return frozenset(
        f"socket:[{fields[9]}]" for fields in found if int(fields[2].rpartition(":")[2], 16) == port
    )
