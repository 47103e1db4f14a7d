"""The anomaly loop, after SQLite's own: let the first call fail, then the second, then the third,
until a run makes fewer calls than that and ends clean.

strace(1) injects the fault into the daemon's system calls; it counts them in each thread apart.
"""

import re
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from receiptd.clock import SystemClock
from receiptd.store import open_store
from torture.broker import BrokerTraffic
from torture.evidence import Verdict, Witness, judge
from torture.lives import Life, Lives

CALLS = ("fdatasync", "pwrite64", "sendto")
SIGKILL = "SIGKILL"
# What is injected, as strace writes it.
FAULTS = {SIGKILL: "signal=SIGKILL", "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}

_RECEIPTS = 24  # two batches
_AFTERWARDS = 4  # so that the daemon that follows has something to do in any case
# An outage of the source or the database is waited out for a second, then for two.
_DONE_WITHIN_S = 20.0


class Anomaly(msgspec.Struct, frozen=True):
    """One loop: a fault at the n-th call."""

    call: str
    fault: str
    most: int = 1_000_000  # runs


class AnomalyResult(msgspec.Struct, frozen=True):
    """What one loop showed, summed over its runs."""

    anomaly: Anomaly
    verdict: Verdict
    runs: int  # with a fault
    died: int  # runs that ended the process
    is_complete: bool  # a run ended clean; False: the time was up
    drained_s: float  # the longest time from a restart until nothing was left
    complaints: list[str]


class _Run(msgspec.Struct, frozen=True):
    verdict: Verdict
    faults: int
    died: bool
    drained_s: float
    complaints: list[str]


def reason_to_skip() -> str | None:
    """Return why the loop cannot run here, None if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    with tempfile.TemporaryDirectory() as folder:
        sleeper = Lives(Path(folder), "").begin(is_traced=True)
        try:
            with _traced(sleeper, "fdatasync", "error=EIO:when=1", Path(folder) / "trace"):
                return None
        except _NotAllowed as exc:
            return f"ptrace is not allowed here ({exc})"
        finally:
            sleeper.kill()
            sleeper.wait(_DONE_WITHIN_S)


def run_loop(anomaly: Anomaly, until: float) -> AnomalyResult:
    """Run with the fault at the first, second, third … call; stop after a clean run, or when
    `time.time()` is past `until`."""
    total = Verdict()
    runs = died = 0
    longest_s = 0.0
    complaints: list[str] = []
    is_complete = False
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "empty.db"
        store = open_store(f"sqlite:///{template}", SystemClock())
        store.upgrade()
        store.close()
        while runs < anomaly.most and time.time() < until and not complaints:
            place = Path(folder) / str(runs)
            place.mkdir()
            one = _run(place, template, anomaly, runs + 1)
            total += one.verdict
            longest_s = max(longest_s, one.drained_s)
            complaints += [f"call {runs + 1}: {text}" for text in one.complaints]
            if not one.faults:
                is_complete = True
                break
            runs += 1
            died += one.died
    return AnomalyResult(anomaly, total, runs, died, is_complete, round(longest_s, 1), complaints)


def _run(folder: Path, template: Path, anomaly: Anomaly, nth: int) -> _Run:
    """One database, one broker, one fault; then a daemon without any, and the comparison."""
    file = folder / "receipts.db"
    shutil.copy(template, file)
    url = f"sqlite:///{file}"
    witness = Witness(url)
    traffic = BrokerTraffic(witness.see)
    trace = folder / "trace"
    try:
        lives = Lives(folder, traffic.config(url, threads=1))
        code = _strike(lives, traffic, anomaly, nth, trace)
        drained_s, complaints = _recover(lives, traffic)
        if code not in (0, -9):
            complaints.append(f"exit {code} with the fault")
        if complaints:
            complaints.append(lives.log.read_text()[-2000:])
    finally:
        traffic.close()
        witness.close()
    if (answer := _integrity(file)) != "ok":
        complaints.append(f"integrity_check: {answer}")
    # A commit whose error came after it was written is there, and is tried again all the same.
    verdict = judge(url, traffic.truth(), len(witness.early), retried=True)
    died = code != 0
    # Of the kill there is no line: strace had no time to write it.
    faults = int(died) if anomaly.fault == SIGKILL else trace.read_text().count("(INJECTED)")
    return _Run(verdict, faults, died, drained_s, complaints)


def _strike(
    lives: Lives, traffic: BrokerTraffic, anomaly: Anomaly, nth: int, trace: Path
) -> int | None:
    """Let a daemon meet the fault, stop it once all is done, and return its exit code."""
    traffic.send(_RECEIPTS)
    life = lives.begin(is_traced=True)
    with _traced(life, anomaly.call, f"{FAULTS[anomaly.fault]}:when={nth}", trace):
        _await(lambda: traffic.is_drained() or life.code is not None)
        return life.stop()


def _recover(lives: Lives, traffic: BrokerTraffic) -> tuple[float, list[str]]:
    """Let a daemon without any fault do the rest; return the seconds it took, and what went
    wrong."""
    complaints = []
    traffic.send(_AFTERWARDS)
    began_at = time.monotonic()
    life = lives.begin()
    if not _await(traffic.is_drained):
        complaints.append("not drained after the restart")
    seconds = time.monotonic() - began_at
    if (code := life.stop()) != 0:
        complaints.append(f"exit {code} after the restart")
    return seconds, complaints


class _NotAllowed(Exception):
    """strace could not attach."""


@contextmanager
def _traced(life: Life, call: str, injection: str, trace: Path) -> Iterator[None]:
    """Let the calls of a life fail as `injection` says, within the block; `trace` gets the calls.

    Raises _NotAllowed.
    """
    errors = trace.with_suffix(".errors")
    attach = ["-p", str(life.pid), "-o", str(trace)]
    with errors.open("wb") as stderr:
        tracer = subprocess.Popen(
            ["strace", "-f", *attach, "-e", f"trace={call}", "-e", f"inject={call}:{injection}"],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        _await(lambda: b"attached" in errors.read_bytes() or tracer.poll() is not None)
        if tracer.poll() is not None and b"attached" not in errors.read_bytes():
            raise _NotAllowed(_first_line(errors.read_text()))
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def _first_line(text: str) -> str:
    return re.sub(r"\s+", " ", text.strip().partition("\n")[0])


def _integrity(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def _await(condition: Callable[[], bool]) -> bool:
    """Wait for a condition, but not for ever; return whether it holds."""
    until = time.monotonic() + _DONE_WITHIN_S
    pause = threading.Event()
    while not condition():
        if time.monotonic() > until:
            return False
        pause.wait(0.01)
    return True
