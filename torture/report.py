"""The report: what each fault did, in tables, and what none of this shows."""

import os
import platform
import sqlite3
from collections.abc import Callable, Iterable, Sequence

import msgspec

from torture.anomalies import AnomalyResult
from torture.evidence import Verdict
from torture.sweep import POINTS, CellResult

_HEAD = ("sent", "lost", "unexpected", "duplicated", "early acks", "recovered", "drained in")

_WORDS = """\
*sent*: SMS whose receipts were handed to the broker, or pushed. *lost*: no row, or one that says
something else than the receipt. *unexpected*: a row that nobody sent. *duplicated*: one SMS in two
rows, or a journal row that no delivery explains (in the anomaly loop only the former: a commit that
reported an error may have happened and is tried again). *early acks*: envelopes acked before
another connection saw them in the journal. *recovered*: SMS that were handed out again and still
have one right row. *drained in*: the longest time from the start after the last fault until nothing
was left; a broker hides what it handed out for 1 s here.
"""
_NOT_COVERED = """\
## What this does not cover

- **Kill sweep.** SIGKILL ends a process, not the machine: what was written stays in the page cache,
  so it proves the order of things, not that they are on the disk. The points are those of a batch's
  way; reconciliation, replay, the ledger and migrations have tests of their own. One daemon at a
  time, with two threads (several daemons: `tests/acceptance/test_several_processes.py`). Processes
  are forked from one that has imported everything, so a death while Python starts is not among
  them. *During ack* is a kill by the broker that has the request and has not answered; for a push,
  which waits for its answer all along, the moment before the answer is let go.
- **Anomaly loop.** SQLite and MNS only: of a server's disk, only the server knows. One fault per
  run; calls are counted in each thread apart. The call fails before it does anything: no torn
  write, no disk that forgets what it acknowledged, no page that is lost after a failed fdatasync.
  Reads, mmap (SQLite's index of the log), ftruncate, open and unlink never fail here.
- **Both.** The broker is the sandbox, not Aliyun. Reconciliation is off, because it would find what
  was lost. Nothing here measures speed.
"""


class Outcome(msgspec.Struct, frozen=True):
    """One whole run."""

    cells: Sequence[CellResult]
    anomalies: Sequence[AnomalyResult]
    skipped: Sequence[str]  # what did not run, with the reason
    took_s: float

    @property
    def is_clean(self) -> bool:
        """Whether all that ran was 0/0/0, without a complaint and without an early ack."""
        results: list[CellResult | AnomalyResult] = [*self.cells, *self.anomalies]
        return all(one.verdict.is_clean and not one.complaints for one in results)


def markdown(outcome: Outcome) -> str:
    """Return the report."""
    kills = sum(one.killed for one in outcome.cells)
    faults = sum(one.runs for one in outcome.anomalies)
    result = "Nothing" if outcome.is_clean else "SOMETHING"
    minutes, seconds = divmod(round(outcome.took_s), 60)
    parts = [
        "# Torture report\n",
        f"**{result} was lost, invented, doubled or acked early** in {kills:,} kills and {faults}"
        f" failed calls; {minutes} min {seconds} s on {os.cpu_count()} cores,"
        f" {platform.system()} {platform.release()}, Python {platform.python_version()},"
        f" SQLite {sqlite3.sqlite_version}.\n",
        _WORDS,
        f"## Kill sweep: {kills:,} kills\n",
        _table(("killed", "kills", *_HEAD), _by(outcome.cells, lambda one: one.cell.point, POINTS)),
        "",
        _table(
            ("database, source", "kills", *_HEAD),
            _by(outcome.cells, lambda one: f"{one.cell.database}, {one.cell.puller}"),
        ),
        "\n## Anomaly loop: the n-th call fails, n = 1, 2, … until a run ends clean\n",
        _table(
            ("call, fault", "runs with it", "that ended the process", *_HEAD),
            [_anomaly(one) for one in outcome.anomalies],
        ),
        "",
        *_complaints(outcome),
        _NOT_COVERED,
    ]
    return "\n".join(parts)


def _by(
    cells: Sequence[CellResult], key: Callable[[CellResult], str], order: Iterable[str] = ()
) -> list[list[object]]:
    """Return a line for each value of `key`, and one for all."""
    names = [*order] or list(dict.fromkeys(map(key, cells)))
    lines = [_line(name, [one for one in cells if key(one) == name]) for name in names]
    return [*lines, _line("all", cells)]


def _line(name: str, cells: Sequence[CellResult]) -> list[object]:
    total = sum((one.verdict for one in cells), Verdict())
    longest_s = max((one.drained_s for one in cells), default=0.0)
    return [name, sum(one.killed for one in cells), *_numbers(total, longest_s)]


def _anomaly(one: AnomalyResult) -> list[object]:
    runs = f"{one.runs}" if one.is_complete else f"{one.runs}, then the time was up"
    name = f"{one.anomaly.call}, {one.anomaly.fault}"
    return [name, runs, one.died, *_numbers(one.verdict, one.drained_s)]


def _numbers(verdict: Verdict, drained_s: float) -> list[object]:
    return [
        verdict.sent, verdict.lost, verdict.unexpected, verdict.duplicated, verdict.early,
        verdict.recovered, f"{drained_s:.1f} s",
    ]  # fmt: skip


def _table(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    texts = [[f"{one:,}" if isinstance(one, int) else str(one) for one in line] for line in lines]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(head), rule, *texts])


def _complaints(outcome: Outcome) -> list[str]:
    """Return what did not run and what went wrong, as sections."""
    parts = []
    if outcome.skipped:
        parts += ["## Not run\n", *(f"- {text}" for text in outcome.skipped), ""]
    results: list[CellResult | AnomalyResult] = [*outcome.cells, *outcome.anomalies]
    for one in results:
        name = one.cell if isinstance(one, CellResult) else one.anomaly
        if one.complaints or not one.verdict.is_clean:
            parts += [f"## Wrong: {name}\n", f"{one.verdict}\n", "```"]
            parts += [*one.complaints, "```", ""]
    return parts
