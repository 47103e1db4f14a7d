"""Rounds: every job once in each, in another order each time, so that a drift of the machine falls
on all alike."""

import random
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.figures import Key, Results
from benchmarks.fleet import Failed

_SEED = 20_260_506  # the same order in every session


class Job(msgspec.Struct, frozen=True):
    """One thing to measure: returns its figures, or raises Failed."""

    key: Key
    measure: Callable[[], dict[str, float]]


def run(
    jobs: Sequence[Job], rounds: int, results: Results, told: Callable[[Key, str], None]
) -> None:
    """Run all jobs `rounds` times into `results`; tell what each gave."""
    order = random.Random(_SEED)
    for _ in range(rounds):
        for job in order.sample(jobs, len(jobs)):
            try:
                figures = job.measure()
            except (Failed, OSError) as exc:  # OSError: a process that died while it was looked at
                results.add_failure(job.key, str(exc))
                told(job.key, f"FAILED: {exc}")
                continue
            results.add(job.key, figures)
            told(job.key, "  ".join(f"{name} {value:,.4g}" for name, value in figures.items()))
