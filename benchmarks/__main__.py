"""The whole benchmark, or the scenes that are named: docs/performance.md explains it.

python -m benchmarks [SCENE…] [--database KIND] [--quick]
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks import machine, places, rounds, table
from benchmarks.figures import Key, Results
from benchmarks.scenes import SCENES, Plan

RESULTS = Path("bench-results")
_QUICK = {"scale": 0.25, "grown_rows": 200_000, "grown_rounds": 3}

_console = Console(stderr=True, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str]) -> int:
    """Measure, print and write what was asked for; return 1 if a run failed or a promise is
    broken."""
    options = _options(arguments)
    results = Results(
        machine=machine.describe(), command=" ".join(("python -m benchmarks", *arguments))
    )
    plan = _plan(options, results)
    rounds_each = options.rounds or (1 if options.quick else 3)
    reason = machine.why_no_slow_sync()
    for name in options.scenes or SCENES:
        scene = SCENES[name]
        if name == "slow-disk" and reason:
            results.skipped.append(f"{name}: {reason}")
            continue
        if scene.is_long and options.quick and not options.scenes:
            results.skipped.append(f"{name}: it takes minutes, and this was a quick session")
            continue
        _console.rule(name)
        rounds.run(scene.jobs(plan), 1 if scene.is_long else rounds_each, results, _tell)
        _write(results)  # so that a session that is cut off was not for nothing
    print(table.markdown(results))
    _console.print(f"written to {RESULTS}/last.md and last.json")
    return int(any(results.failures()) or bool(table.broken(results)))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=", ".join(SCENES))
    parser.add_argument("--database", action="append", choices=places.KINDS, help="default: all")
    parser.add_argument("--rounds", type=int, help="of which the median is taken: 3, or 1 if quick")
    parser.add_argument("--quick", action="store_true", help="some minutes: only the order of it")
    parser.add_argument("--grown-rows", type=int, default=Plan.grown_rows)
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.scenes) - set(SCENES)):
        parser.error(f"unknown scene {', '.join(unknown)}; one of: {', '.join(SCENES)}")
    return options


def _plan(options: argparse.Namespace, results: Results) -> Plan:
    cores = machine.cores()
    results.machine["pinning"] = str(cores)
    databases = []
    for kind in options.database or places.KINDS:
        if reason := places.why_not(kind):
            results.skipped.append(reason)
        else:
            databases.append(kind)
            results.machine[kind] = places.version(kind)
    plan = Plan(cores=cores, databases=databases, grown_rows=options.grown_rows)
    return msgspec.structs.replace(plan, **_QUICK) if options.quick else plan


def _tell(key: Key, text: str) -> None:
    _console.print(f"{key}: {text}")


def _write(results: Results) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "last.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    (RESULTS / "last.md").write_text(table.markdown(results))


if __name__ == "__main__":
    # Ended from outside, it still stops what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    sys.exit(main(sys.argv[1:]))
