"""`python -m torture`: the whole of it, on two cores in less than 15 minutes.

The report goes to stdout and to `torture-report.md`. Exits with 1 if anything was lost, unexpected,
duplicated or acked early, or if the time was up before the kills were done.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.databases import databases, fresh_url
from torture.anomalies import CALLS, FAULTS, Anomaly, AnomalyResult, reason_to_skip, run_loop
from torture.evidence import Verdict
from torture.report import Outcome, markdown
from torture.sweep import KILLS, POINTS, Cell, CellResult, run_cell
from torture.traffic import PULLERS

LANES = 2
MINUTES = 14.0  # for what is begun; what runs then takes less than one more


def main(arguments: Sequence[str]) -> int:
    """Run, print the report and save it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help="in each of the 63 fields")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--report", type=Path, default=Path("torture-report.md"))
    options = parser.parse_args(arguments)
    began_at = time.time()
    skipped: list[str] = []
    kinds = [kind for kind in databases() if _is_there(kind, skipped)]
    cells = [
        Cell(point, kind, puller, options.kills)
        for kind in kinds
        for puller in PULLERS
        for point in POINTS
    ]
    loops = [Anomaly(call, fault) for call in CALLS for fault in FAULTS]
    if reason := reason_to_skip():
        skipped.append(f"the anomaly loop: {reason}")
        loops = []
    outcome, is_complete = _run(cells, loops, began_at, options.minutes * 60, skipped)
    report = markdown(outcome)
    options.report.write_text(report)
    print(report)
    return 0 if outcome.is_clean and is_complete else 1


def _run(
    cells: Sequence[Cell],
    loops: Sequence[Anomaly],
    began_at: float,
    seconds: float,
    skipped: list[str],
) -> tuple[Outcome, bool]:
    """Return what happened, and whether there was time for all kills."""
    until = began_at + seconds
    context = multiprocessing.get_context("spawn")
    # A process per lane, so that the brokers do not share one interpreter; a thread per lane here,
    # which makes the databases.
    with ProcessPoolExecutor(LANES, mp_context=context) as pool, ThreadPoolExecutor(LANES) as lanes:
        try:
            killing = [lanes.submit(_run_cell, pool, cell, until) for cell in cells]
            failing = [lanes.submit(_run_loop, pool, loop, until) for loop in loops]
            kills = _collected(killing)
            anomalies = [future.result() for future in failing]
        except BaseException:  # Ctrl-C: what runs ends by itself, and the rest is not begun
            lanes.shutdown(wait=False, cancel_futures=True)
            raise
    if len(kills) < len(cells):
        skipped.append(f"{len(cells) - len(kills)} fields of the kill sweep: the time was up")
    outcome = Outcome(kills, anomalies, skipped, time.time() - began_at)
    return outcome, len(kills) == len(cells)


def _run_cell(pool: ProcessPoolExecutor, cell: Cell, until: float) -> CellResult | None:
    if time.time() > until:
        return None
    with fresh_url(cell.database) as url:
        running = pool.submit(run_cell, cell, url)
        error = running.exception()
    # One of ours, or the database's; the other fields go on.
    result = CellResult(cell, Verdict(), 0, 0.0, [repr(error)]) if error else running.result()
    _tell(f"{cell.database}, {cell.puller}, {cell.point}: {result.killed} kills", result)
    return result


def _run_loop(pool: ProcessPoolExecutor, loop: Anomaly, until: float) -> AnomalyResult:
    running = pool.submit(run_loop, loop, until)
    error = running.exception()
    failed = AnomalyResult(loop, Verdict(), 0, 0, False, 0.0, [repr(error)])
    result = failed if error else running.result()
    _tell(f"{loop.fault} at the n-th {loop.call}: {result.runs} runs", result)
    return result


def _collected(futures: Sequence[Future[CellResult | None]]) -> list[CellResult]:
    return [result for future in futures if (result := future.result()) is not None]


def _tell(what: str, result: CellResult | AnomalyResult) -> None:
    is_well = result.verdict.is_clean and not result.complaints
    print(f"{what}, {'well' if is_well else 'WRONG'}", file=sys.stderr, flush=True)


def _is_there(kind: str, skipped: list[str]) -> bool:
    """Whether a kind of database can be had; the first time starts its server."""
    try:
        with fresh_url(kind):
            return True
    except pytest.skip.Exception as exc:
        skipped.append(f"{kind}: {exc.msg}")
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
