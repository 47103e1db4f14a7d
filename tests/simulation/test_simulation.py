"""receiptd against a simulated provider, in steps that Hypothesis chooses.

    RECEIPTD_SIMULATION=500 pytest tests/simulation      500 examples of 50 steps, 50 on the servers
    RECEIPTD_SIMULATION_SEED=$RANDOM pytest tests/simulation                      other steps

Without a seed the steps are the same each time.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from receiptd import log
from receiptd.clock import ManualClock
from receiptd.store import open_store
from tests.databases import SQLITE, databases, fresh_url
from tests.simulation.machine import Machine
from tests.simulation.planted import (
    AckBeforeCommit,
    BatchLostAfterAnOutage,
    LastWriteWins,
    LostTooEarly,
    RowLostInABatch,
)
from tests.simulation.process import Build
from tests.simulation.witness import Witness

# A step of a server takes five times as long as one of SQLite.
_SERVERS_SHARE = 10
_IN_THE_SUITE = 100  # 20 s on SQLite
_EXAMPLES = int(os.environ.get("RECEIPTD_SIMULATION") or _IN_THE_SUITE)
_SEED = os.environ.get("RECEIPTD_SIMULATION_SEED")
# Each planted bug is found in some ten examples; the margin is for other versions of Hypothesis.
_ENOUGH_FOR_A_BUG = 200
_STEPS = 50
# A failure takes minutes to be made small.
_TIMEOUT_S = 900 + 2 * _EXAMPLES


@contextmanager
def simulated(kind: str, build: Build) -> Iterator[Callable[[], Machine]]:
    """Yield what makes a machine for each example, all on one database."""
    log.configure("json", "error")  # an example is a thousand lines
    with (
        tempfile.TemporaryDirectory(dir=_memory()) as folder,
        fresh_url(kind, Path(folder)) as url,
    ):
        store = open_store(url, ManualClock())
        store.upgrade()
        store.close()
        witness = Witness(url)
        try:
            yield lambda: Machine(url, build, witness)
        finally:
            witness.close()


def _memory() -> Path | None:
    """Return where an SQLite file costs least: what is simulated is a crash and no power cut, so
    that no disk need be waited for."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


def run(machines: Callable[[], Machine], examples: int, *phases: Phase) -> None:
    """Try so many examples. Raises what the first bad one raised, made small if `phases` say so."""
    steps = settings(
        max_examples=examples,
        stateful_step_count=_STEPS,
        deadline=None,
        database=None,
        derandomize=True,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    if _SEED:
        machines = seed(int(_SEED))(machines)
    run_state_machine_as_test(machines, settings=steps)  # type: ignore[arg-type] # any factory


@pytest.mark.timeout(_TIMEOUT_S)
@pytest.mark.parametrize("kind", databases())
def test_whatever_happens_in_whatever_order_every_send_ends_as_it_did(kind: str) -> None:
    examples = _EXAMPLES if kind == SQLITE else max(1, _EXAMPLES // _SERVERS_SHARE)
    with simulated(kind, Build()) as machines:
        run(machines, examples, Phase.generate, Phase.shrink)


@pytest.mark.parametrize(
    ("build", "seen"),
    [
        (AckBeforeCommit, "acked before it was committed"),
        (BatchLostAfterAnOutage, "acked before it was committed"),
        (RowLostInABatch, "not what was said"),
        (LastWriteWins, "not what was said"),
        (LostTooEarly, "lost too early"),
    ],
)
def test_a_planted_bug_is_found(build: type[Build], seen: str) -> None:
    with simulated(SQLITE, build()) as machines, pytest.raises(AssertionError, match=seen):
        run(machines, _ENOUGH_FOR_A_BUG, Phase.generate)
