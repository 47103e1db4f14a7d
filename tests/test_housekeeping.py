"""Housekeeping: when it works, when it leaves off, and what it says; on a real SQLite file."""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from receiptd.errors import StoreUnavailable
from receiptd.housekeeping import (
    EVERY_S,
    LEASE,
    LOOK_S,
    TERM_S,
    Housekeeping,
    prune_now,
)
from receiptd.model import Entry, Envelope, Kind, Outcome
from receiptd.store.retention import Limits, Removed
from tests.chore_rig import ChoreRig, SlowClock, opened, said
from tests.row_counts import by_outcome

DAY = timedelta(days=1)
LIMITS = Limits(journal=30 * DAY, receipts=None)


class Rig(ChoreRig):
    """One instance's housekeeping."""

    def __init__(self, path: Path, clock: SlowClock, name: str) -> None:
        super().__init__(path, clock)
        self.housekeeping = Housekeeping(
            store=self.store,
            limits=LIMITS,
            instance=name,
            store_gate=self.gate,
            pulse=self.pulse,
            stopping=self.stopping,
            clock=clock,
        )

    def journal(self, count: int, *, days_ago: int = 40) -> None:
        received_at = self.clock.now() - days_ago * DAY
        envelope = Envelope(source="s", envelope_id="e", body=b"", handle="")
        row = Entry(
            envelope=envelope,
            part=0,
            body=b"{}",
            kind=Kind.UNREADABLE,
            outcome=Outcome.DROPPED,
            received_at=received_at,
        )
        self.store.save([row] * count)

    def left(self) -> int:
        return by_outcome(self.store).get("dropped", 0)


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    with opened(Rig, tmp_path) as make:
        yield make


@pytest.fixture
def rig(rigs: Callable[..., Rig]) -> Rig:
    return rigs()


def finished(journal: int, *, complete: bool = True, took_s: float = 0.1) -> dict[str, Any]:
    return {
        "level": "info",
        "event": "housekeeping.finished",
        "journal": journal,
        "receipts": 0,
        "progress": 0,
        "complete": complete,
        "took_s": took_s,
    }


def test_it_deletes_what_is_old_and_says_how_much(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    rig.journal(1500)
    rig.journal(10, days_ago=1)

    rig.housekeeping.run_once()

    assert rig.left() == 10
    assert said(capfd) == [finished(1500)]


def test_it_works_once_an_hour(rig: Rig) -> None:
    rig.housekeeping.run_once()
    rig.journal(5)

    for _ in range(int(EVERY_S // LOOK_S) - 1):
        rig.clock.advance(LOOK_S)
        rig.housekeeping.run_once()
    assert rig.left() == 5

    rig.clock.advance(LOOK_S)
    rig.housekeeping.run_once()
    assert rig.left() == 0


def test_of_two_instances_one_works(rigs: Callable[..., Rig]) -> None:
    one, other = rigs("one:1"), rigs("other:1")
    one.housekeeping.run_once()
    one.journal(5)

    for _ in range(20):
        one.clock.advance(LOOK_S)
        one.housekeeping.run_once()
        other.housekeeping.run_once()

    assert other.left() == 5


def test_another_instance_takes_over_when_the_first_died(rigs: Callable[..., Rig]) -> None:
    one, other = rigs("one:1"), rigs("other:1")
    one.housekeeping.run_once()
    one.journal(5)

    for _ in range(int(TERM_S // LOOK_S)):
        one.clock.advance(LOOK_S)
        other.housekeeping.run_once()

    assert other.left() == 0


def test_after_each_step_it_pauses_four_times_as_long_as_it_worked(rig: Rig) -> None:
    rig.journal(2500)
    steps = rig.store.prune

    def slow(limits: Limits, *, dry_run: bool = False) -> Iterator[Removed]:
        for step in steps(limits):
            rig.clock.advance(2.0 if step.rows == 1000 else 0.001)
            yield step

    rig.store.prune = slow  # type: ignore[method-assign]
    rig.housekeeping.run_once()

    assert rig.clock.waits == [8.0, 8.0, 0.05]


def test_told_to_stop_it_leaves_off_between_two_steps(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    rig.journal(2500)
    rig.clock.meanwhile = rig.stopping.set

    rig.housekeeping.run_once()

    assert rig.left() == 1500
    assert said(capfd) == [finished(1000, complete=False, took_s=0.0)]


def test_without_the_lease_it_leaves_off_and_the_heir_goes_on(rigs: Callable[..., Rig]) -> None:
    one, other = rigs("one:1"), rigs("other:1")
    one.journal(2500)

    def hang() -> None:
        one.clock.meanwhile = lambda: None
        one.clock.advance(TERM_S + 1)
        assert other.store.leases("third:1").acquire(LEASE, TERM_S)

    one.clock.meanwhile = hang
    one.housekeeping.run_once()
    assert one.left() == 1500

    one.clock.advance(TERM_S + 1)
    other.housekeeping.run_once()
    assert other.left() == 0


def test_a_long_run_keeps_its_lease(rigs: Callable[..., Rig]) -> None:
    one, other = rigs("one:1"), rigs("other:1")
    one.journal(3500)
    got: list[bool] = []

    def slowly() -> None:
        one.clock.advance(LOOK_S * 1.5)
        got.append(other.store.leases("other:1").acquire(LEASE, TERM_S))

    one.clock.meanwhile = slowly
    one.housekeeping.run_once()

    assert got == [False] * 4
    assert one.left() == 0


def test_while_the_database_is_known_to_be_away_it_asks_nothing(rig: Rig) -> None:
    rig.journal(5)
    with rig.gate.attempt(rig.stopping) as attempt:
        attempt.failed()
    rig.clock.meanwhile = rig.stopping.set

    rig.housekeeping.run_once()

    assert rig.left() == 5
    assert not rig.gate.is_open


def test_an_outage_is_told_once_and_does_not_close_the_workers_gate(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    rig.journal(5)
    other = sqlite3.connect(rig.path, isolation_level=None)
    for _ in range(2):
        other.execute("BEGIN IMMEDIATE")
        rig.housekeeping.run_once()
        rig.housekeeping.run_once()
        assert rig.gate.is_open
        assert [line["event"] for line in said(capfd)] == ["housekeeping.failed"]
        other.execute("ROLLBACK")
        rig.clock.advance(LOOK_S)
        rig.housekeeping.run_once()
        said(capfd)
    other.close()

    assert rig.left() == 0


def test_what_was_deleted_before_an_outage_is_told_after_it(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    rig.journal(1500)
    other = sqlite3.connect(rig.path, isolation_level=None)

    def lock() -> None:
        rig.clock.meanwhile = lambda: None
        other.execute("BEGIN IMMEDIATE")

    rig.clock.meanwhile = lock
    rig.housekeeping.run_once()
    other.close()
    rig.clock.advance(LOOK_S)
    rig.housekeeping.run_once()

    failed, line = said(capfd)
    assert failed["event"] == "housekeeping.failed"
    assert "SQLITE_BUSY" in failed["error"]
    assert line["journal"] == 1500


def test_the_thread_works_until_told_and_hands_the_lease_back(rig: Rig) -> None:
    rig.journal(5)

    def stop_when_clean() -> None:
        if not rig.left():
            rig.stopping.set()

    rig.clock.meanwhile = stop_when_clean
    rig.housekeeping.run()

    assert rig.left() == 0
    assert not rig.pulse.is_late
    assert rig.store.leases("next:1").acquire(LEASE, TERM_S)


def test_a_bug_is_told_and_waited_out(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(limits: Limits, *, dry_run: bool = False) -> Iterator[Removed]:
        raise ZeroDivisionError

    rig.store.prune = broken  # type: ignore[method-assign]
    rig.clock.meanwhile = lambda: rig.stopping.set() if len(rig.clock.waits) == 3 else None
    rig.housekeeping.run()

    assert rig.clock.waits == [LOOK_S] * 3
    assert [line["event"] for line in said(capfd)] == ["worker.failed"] * 2


def test_its_pulse_goes_on_while_it_waits_and_is_late_when_it_hangs(rig: Rig) -> None:
    rig.clock.meanwhile = rig.stopping.set
    assert not rig.pulse.is_late

    rig.housekeeping._rest(LOOK_S)
    rig.clock.advance(LOOK_S)
    assert not rig.pulse.is_late
    rig.clock.advance(LOOK_S + 1)
    assert rig.pulse.is_late


# --- by hand ---


def test_by_hand_it_needs_no_lease_and_pauses_as_long_as_it_works(rig: Rig) -> None:
    rig.store.leases("daemon:1").acquire(LEASE, TERM_S)
    rig.journal(1500)
    told: list[int] = []

    def tell(step: Removed) -> None:
        rig.clock.advance(3.0)
        told.append(step.rows)

    removed = prune_now(rig.store, LIMITS, clock=rig.clock, told=tell)

    assert removed == {"journal": 1500}
    assert told == [1000, 500]
    assert rig.clock.waits == [3.0, 3.0]


def test_by_hand_a_lock_is_tried_again(rig: Rig) -> None:
    rig.journal(1500)
    other = sqlite3.connect(rig.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    rig.clock.meanwhile = other.rollback

    assert prune_now(rig.store, LIMITS, clock=rig.clock, told=lambda step: None)["journal"] == 1500
    other.close()


def test_by_hand_five_locks_in_a_row_are_an_error(rig: Rig) -> None:
    rig.journal(5)
    other = sqlite3.connect(rig.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
        prune_now(rig.store, LIMITS, clock=rig.clock, told=lambda step: None)
    other.close()

    assert rig.clock.waits == [1.0] * 4


def test_a_dry_run_by_hand_counts_without_a_pause(rig: Rig) -> None:
    rig.journal(1500)

    told = prune_now(rig.store, LIMITS, clock=rig.clock, dry_run=True, told=lambda step: None)

    assert told == {"journal": 1500}
    assert rig.left() == 1500
    assert rig.clock.waits == []
