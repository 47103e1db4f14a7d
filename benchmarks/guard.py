"""Fails when receiptd has become slower: a few ratios against those of `ratios.toml`.

    python -m benchmarks.guard            fails below 80 % of a committed ratio
    python -m benchmarks.guard --write    measures and commits to what it finds

Both sides of a ratio are measured by turns in the same two minutes, so what the machine does falls
on both. What falls short is measured once more before it counts.
"""

import argparse
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from benchmarks import clients, machine, places, rounds
from benchmarks.drain import drain
from benchmarks.figures import Key, Results
from benchmarks.machine import Cores
from benchmarks.rounds import Job
from benchmarks.scenes import NAIVE16, RECEIPTD, THREADS

RATIOS = Path(__file__).with_name("ratios.toml")
KINDS = (places.SQLITE, places.POSTGRESQL)
TOLERATED = 0.8
_ROUNDS, _CAREFUL_ROUNDS = 3, 9  # to compare, and to commit to
# Over a second each: a backlog takes some turns to get going.
_RECEIPTS = {RECEIPTD: 30_000, NAIVE16: 6_000}
_SPEED, _CPU = "speed against naive16", "naive16's CPU against receiptd's"
_HEAD = """\
# What benchmarks/guard.py holds receiptd to. Written by `make guard ARGS=--write`, on a machine
# that did nothing else; more is better.
"""

# Ratios by database and name.
Ratios: TypeAlias = Mapping[str, Mapping[str, float]]


class Shortfall(msgspec.Struct, frozen=True):
    """A ratio that fell too far; `measured` is None if there was nothing to compare."""

    database: str
    name: str
    committed: float
    measured: float | None

    def __str__(self) -> str:
        if self.measured is None:
            found = "could not be measured"
        else:
            share = self.measured / self.committed
            found = f"is {self.measured:.2f}, {share:.0%} of the committed {self.committed:.2f}"
        return f"{self.database}: {self.name} {found}"


def shortfalls(committed: Ratios, measured: Ratios, databases: Sequence[str]) -> list[Shortfall]:
    """Return what is below 80 % of its committed ratio, of these databases."""
    found = []
    for database in databases:
        for name, promised in committed.get(database, {}).items():
            value = measured.get(database, {}).get(name)
            if value is None or value < promised * TOLERATED:
                found.append(Shortfall(database, name, promised, value))
    return found


def ratios(results: Results, databases: Sequence[str]) -> Ratios:
    """Return the ratios of what was measured."""
    found: dict[str, dict[str, float]] = {}
    for database in databases:
        ours, naive = (Key("guard", database, "", name) for name in (RECEIPTD, NAIVE16))
        speed = results.ratio(ours, naive, "per_s")
        cpu = results.ratio(naive, ours, "cpu_us")
        named = {_SPEED: speed, _CPU: cpu}
        found[database] = {name: value for name, value in named.items() if value is not None}
    return found


def toml(found: Ratios) -> str:
    """Return `ratios.toml`."""
    parts = [_HEAD]
    for database, named in found.items():
        lines = [f'"{name}" = {value:.2f}\n' for name, value in named.items()]
        parts.append(f"\n[{database}]\n" + "".join(lines))
    return "".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Return 1 if a ratio fell too far twice."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--write", action="store_true", help="commit to what is measured now")
    options = parser.parse_args(arguments)
    cores, results = machine.cores(), Results()
    databases = [kind for kind in KINDS if not _is_missing(kind)]
    if options.write:
        _measure(databases, _CAREFUL_ROUNDS, cores, results)
        RATIOS.write_text(toml(ratios(results, databases)))
        print(RATIOS.read_text())
        return int(any(results.failures()))
    committed = tomllib.loads(RATIOS.read_text())
    _measure(databases, _ROUNDS, cores, results)
    found = shortfalls(committed, ratios(results, databases), databases)
    if found:
        print("once more, because:", *found, sep="\n  ")
        # Into the same medians: a round that something else disturbed is outvoted. A failed one
        # is not: it has to pass by itself.
        again = list(dict.fromkeys(one.database for one in found))
        results.forget_failures()
        _measure(again, _ROUNDS, cores, results)
        found = shortfalls(committed, ratios(results, databases), databases)
    for database, named in ratios(results, databases).items():
        for name, value in named.items():
            print(f"{database}: {name}: {value:.2f}")
    if found:
        print("receiptd has become slower:", *found, sep="\n  ")
        print(f"  below {TOLERATED:.0%} fails; if it is meant to be so: make guard ARGS=--write")
    return int(bool(found))


def _is_missing(kind: str) -> bool:
    if reason := places.why_not(kind):
        print(f"not compared: {reason}")
    return bool(reason)


def _measure(databases: Sequence[str], count: int, cores: Cores, results: Results) -> None:
    contenders = {RECEIPTD: clients.receiptd(THREADS), NAIVE16: clients.rival(NAIVE16)}

    def job(kind: str, name: str) -> Job:
        def measure() -> dict[str, float]:
            drained = drain(contenders[name], kind, _RECEIPTS[name], cores)
            return {"per_s": drained.per_s, "cpu_us": drained.cpu_us}

        return Job(Key("guard", kind, "", name), measure)

    jobs = [job(kind, name) for kind in databases for name in contenders]
    rounds.run(jobs, count, results, lambda key, text: print(f"  {key}: {text}", flush=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
