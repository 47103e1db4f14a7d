"""The kill sweep: SIGKILL at a named point, again and again, on receipts that keep flowing."""

import tempfile
import threading
import time
from pathlib import Path

import msgspec

from receiptd.clock import SystemClock
from receiptd.store import open_store
from torture.evidence import Verdict, Witness, judge
from torture.lives import Life, Lives
from torture.traffic import PUSH, Traffic, open_traffic

# The names that users read, and the points of worker.py and store/writer.py they stand for.
DURING_ACK = "during ack"
POINTS = {
    "before pull": "before_pull",
    "after pull": "after_pull",
    "in the transaction": "in_transaction",
    "before commit": "before_commit",
    "after commit": "after_commit",
    # On a broker none of ours: it kills, when it has the request and has not answered. A push has
    # been waiting for its answer all the while.
    DURING_ACK: "before_ack",
    "after ack": "after_ack",
}
KILLS = 25
# The first time a process comes there, or the third, or the fifth.
_NTHS = (1, 2, 3, 5)
_DIE_WITHIN_S = 20.0
_DRAIN_WITHIN_S = 30.0
_ENOUGH_COMPLAINTS = 2  # the cell has failed anyway


class Cell(msgspec.Struct, frozen=True):
    """One field of the table."""

    point: str
    database: str
    puller: str
    kills: int = KILLS


class CellResult(msgspec.Struct, frozen=True):
    """What 25 kills did."""

    cell: Cell
    verdict: Verdict
    killed: int
    drained_s: float  # from the start after the last kill until nothing was left
    complaints: list[str]  # what else should not have been, with the log's end


class Executioner:
    """Is told of each ack; notes it, and kills the daemon at the `nth` one if that is asked."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._lock = threading.Lock()
        self._life: Life | None = None
        self._left = 0

    def condemn(self, life: Life, nth: int) -> None:
        """Let `life` die during its `nth` ack."""
        with self._lock:
            self._life, self._left = life, nth

    def acked(self, envelope_id: str) -> None:
        """Note one ack."""
        self._witness.see(envelope_id)
        with self._lock:
            self._left -= 1
            if self._life is not None and self._left <= 0:
                self._life.kill()
                self._life = None


def run_cell(cell: Cell, url: str) -> CellResult:
    """Kill, start, kill; then drain and compare. `url` is a new database without a schema."""
    store = open_store(url, SystemClock())
    store.upgrade()
    store.close()
    witness = Witness(url)
    executioner = Executioner(witness)
    traffic = open_traffic(cell.puller, executioner.acked)
    with tempfile.TemporaryDirectory() as folder:
        lives = Lives(Path(folder), traffic.config(url))
        try:
            killed, complaints = _kill(cell, lives, traffic, executioner)
            drained_s = _drain(lives, traffic, complaints)
        finally:
            traffic.close()
            witness.close()
        if complaints:
            complaints.append(lives.log.read_text()[-2000:])
    verdict = judge(url, traffic.truth(), len(witness.early))
    return CellResult(cell, verdict, killed, round(drained_s, 1), complaints)


def _kill(
    cell: Cell, lives: Lives, traffic: Traffic, executioner: Executioner
) -> tuple[int, list[str]]:
    """Return how many lives were ended as they should, and what went wrong."""
    by_broker = cell.point == DURING_ACK and cell.puller != PUSH
    killed, complaints = 0, []
    traffic.flow()
    for number in range(cell.kills):
        nth = _NTHS[number % len(_NTHS)]
        if by_broker:
            life = lives.begin()
            executioner.condemn(life, nth)
        else:
            life = lives.begin(POINTS[cell.point], nth)
        code = life.wait(_DIE_WITHIN_S)
        if code == -9:
            killed += 1
        else:
            complaints.append(f"life {number}: exit {code} instead of the kill")
            life.kill()
            life.wait(_DIE_WITHIN_S)
            if len(complaints) == _ENOUGH_COMPLAINTS:
                break
    traffic.end_flow()
    return killed, complaints


def _drain(lives: Lives, traffic: Traffic, complaints: list[str]) -> float:
    """Return how many seconds a daemon that nobody kills needs to finish what was left."""
    began_at = time.monotonic()
    life = lives.begin()
    pause = threading.Event()
    while not traffic.is_drained() and time.monotonic() - began_at < _DRAIN_WITHIN_S:
        pause.wait(0.02)
    seconds = time.monotonic() - began_at
    if not traffic.is_drained():
        complaints.append(f"not drained within {_DRAIN_WITHIN_S:g} s")
    code = life.stop()
    if code != 0:
        complaints.append(f"exit {code} after SIGTERM")
    return seconds
