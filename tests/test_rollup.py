"""The keeper of the roll-ups: when it counts what, when it leaves off; on a real SQLite file."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from receiptd.rollup import LEASE, LOOK_S, TERM_S, RollupKeeper, is_due
from receiptd.store import rollup_blocks, rollups
from receiptd.store.rollup_blocks import HOUR, NO_END, Block
from receiptd.store.schema import receipts
from tests.chore_rig import ChoreRig, SlowClock, opened, said

DAY = timedelta(days=1)


class Rig(ChoreRig):
    """One instance's keeper."""

    def __init__(self, path: Path, clock: SlowClock, name: str) -> None:
        super().__init__(path, clock)
        self.keeper = RollupKeeper(
            store=self.store,
            instance=name,
            store_gate=self.gate,
            pulse=self.pulse,
            stopping=self.stopping,
            clock=clock,
            step_rows=10,
        )
        self._made = 0

    def receipts(self, count: int, *, hours_ago: float = 0, status: str = "delivered") -> None:
        created_at = self.clock.now() - hours_ago * HOUR
        row = {
            "provider": "aliyun", "account": "main", "phone": "+8613900000001", "status": status,
            "origin": "queue", "created_at": created_at, "updated_at": created_at,
        }  # fmt: skip
        with self.store.writing() as connection:
            for _ in range(count):
                self._made += 1
                connection.execute(insert(receipts).values(biz_id=f"{self._made}^0", **row))

    def become(self, status: str, *, id: int) -> None:
        with self.store.writing() as connection:
            chosen = update(receipts).where(receipts.c.id == id)
            connection.execute(chosen.values(status=status))

    def counted(self, status: str = "delivered") -> int:
        now = self.clock.now()
        with self.store.reading() as connection:
            found = rollups.totals(connection, now - 99 * DAY, now + DAY, by=["status"])
        return sum(one.count for one in found if one.key == (status,))

    def share(self) -> float:
        with self.store.reading() as connection:
            return rollup_blocks.freshness(connection).share


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    with opened(Rig, tmp_path) as make:
        yield make


@pytest.fixture
def rig(rigs: Callable[..., Rig]) -> Rig:
    return rigs()


def test_new_receipts_are_counted_within_one_look(rig: Rig) -> None:
    rig.receipts(25)
    rig.keeper.run_once()
    assert rig.counted() == 25

    rig.receipts(5)
    rig.clock.advance(LOOK_S)
    rig.keeper.run_once()
    assert rig.counted() == 30


@pytest.mark.parametrize("hours", [(2, 1, 0), (50, 49, 48)])
def test_all_hours_that_are_due_are_counted_within_one_look(
    rig: Rig, hours: tuple[int, ...]
) -> None:
    for hours_ago in hours:
        rig.receipts(5, hours_ago=hours_ago, status="awaited")
    rig.keeper.run_once()
    for id in range(1, 16):
        rig.become("delivered", id=id)

    rig.clock.advance(24 * 3600)
    rig.keeper.run_once()

    assert (rig.counted("awaited"), rig.counted()) == (0, 15)


def test_nothing_to_count_is_no_error(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    rig.keeper.run_once()

    assert rig.share() == 1.0
    assert said(capfd) == []


def test_it_says_that_it_is_at_work_though_nothing_happens(rig: Rig) -> None:
    rig.receipts(1)
    for _ in range(200):
        rig.keeper.run_once()
        rig.clock.advance(LOOK_S)

    with rig.store.reading() as connection:
        as_of = rollup_blocks.freshness(connection).as_of
    assert as_of is not None
    assert rig.clock.now() - as_of <= timedelta(seconds=LOOK_S + 1)


BLOCK = Block(first_id=1, last_id=9, hour=SlowClock().now(), counted_at=SlowClock().now(), open=1)


@pytest.mark.parametrize(
    ("age", "open_every", "final_every"),
    [
        (HOUR, timedelta(0), timedelta(0)),
        (5 * HOUR, timedelta(minutes=10), HOUR),
        (2 * DAY, HOUR, DAY),
        (20 * DAY, 6 * HOUR, DAY),
    ],
)
def test_the_older_an_hour_the_rarer_it_is_counted(
    age: timedelta, open_every: timedelta, final_every: timedelta
) -> None:
    for open_, every in ((1, open_every), (0, final_every)):
        now = BLOCK.hour + age
        one = Block(first_id=1, last_id=9, hour=BLOCK.hour, open=open_, counted_at=now - every)
        assert is_due(one, now)
        assert not every or not is_due(one, now - timedelta(seconds=1))


def test_an_hour_that_no_provider_remembers_is_counted_no_more() -> None:
    assert not is_due(BLOCK, BLOCK.hour + 33 * DAY)
    assert is_due(Block(first_id=1, last_id=9, hour=BLOCK.hour), BLOCK.hour + 33 * DAY)


def test_the_hour_that_still_grows_is_looked_at_as_if_something_in_it_were_open() -> None:
    growing = Block(first_id=1, last_id=NO_END, hour=BLOCK.hour, counted_at=BLOCK.hour + 5 * HOUR)

    assert is_due(growing, BLOCK.hour + 5 * HOUR + timedelta(minutes=10))


def test_a_late_receipt_shows_after_the_pause_of_its_hours_age(rig: Rig) -> None:
    rig.receipts(3, hours_ago=5, status="awaited")
    rig.receipts(1)
    rig.keeper.run_once()
    rig.become("delivered", id=2)

    rig.clock.advance(500)
    rig.keeper.run_once()
    assert (rig.counted("awaited"), rig.counted()) == (3, 1)
    rig.clock.advance(100)
    rig.keeper.run_once()
    assert (rig.counted("awaited"), rig.counted()) == (2, 2)


def test_a_table_that_was_there_before_is_counted_newest_first(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    for hours_ago in range(300, 0, -1):
        rig.receipts(1, hours_ago=hours_ago)
    seen: list[float] = []
    rig.clock.meanwhile = lambda: seen.append(rig.share())

    rig.keeper.run_once()

    assert rig.counted() == 300
    assert seen == sorted(seen)
    assert seen[len(seen) // 2] == pytest.approx(0.5, abs=0.05)
    assert [line["event"] for line in said(capfd)] == ["rollups.filling", "rollups.filled"]


def test_while_it_counts_history_the_present_is_not_forgotten(rig: Rig) -> None:
    for hours_ago in range(500, 2, -1):
        rig.receipts(1, hours_ago=hours_ago)
    rig.receipts(1)
    ages: list[timedelta] = []

    def meanwhile() -> None:
        rig.clock.advance(1)
        with rig.store.reading() as connection:
            block, *_ = rollup_blocks.blocks(connection, rig.clock.now() - DAY)
        if block.counted_at is not None:
            ages.append(rig.clock.now() - block.counted_at)

    rig.clock.meanwhile = meanwhile
    rig.keeper.run_once()

    assert rig.counted() == 499
    assert max(ages) < timedelta(seconds=LOOK_S + 20)


def test_interrupted_it_goes_on_where_it_was(rigs: Callable[..., Rig]) -> None:
    one, other = rigs("one:1"), rigs("other:1")
    for hours_ago in range(50, 0, -1):
        one.receipts(1, hours_ago=hours_ago)
    one.clock.meanwhile = lambda: one.stopping.set() if one.share() > 0.5 else None
    one.keeper.run_once()
    one.clock.meanwhile = lambda: None
    done = one.share()
    assert 0.5 < done < 0.6

    one.clock.advance(TERM_S)
    seen: list[float] = []
    other.clock.meanwhile = lambda: seen.append(other.share())
    other.keeper.run_once()

    assert other.counted() == 50
    assert min(seen) >= done


def test_it_pauses_four_times_as_long_as_it_worked(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.receipts(25)
    step = rollups.Count.step

    def slow(count: rollups.Count, *arguments: Any, **named: Any) -> bool:
        rig.clock.advance(0.5)
        return step(count, *arguments, **named)

    monkeypatch.setattr(rollups.Count, "step", slow)
    rig.keeper.run_once()

    assert rig.clock.waits[:3] == [2.0, 2.0, 2.0]


def test_of_two_instances_one_counts(rigs: Callable[..., Rig]) -> None:
    one, other = rigs("one:1"), rigs("other:1")
    one.receipts(3)
    one.keeper.run_once()
    one.receipts(3)

    other.clock.advance(LOOK_S)
    other.keeper.run_once()
    assert other.counted() == 3

    other.clock.advance(TERM_S)
    other.keeper.run_once()
    assert other.counted() == 6


def test_without_the_lease_it_leaves_off(rigs: Callable[..., Rig]) -> None:
    one, other = rigs("one:1"), rigs("other:1")
    one.receipts(30)

    def hang() -> None:
        one.clock.meanwhile = lambda: None
        one.clock.advance(TERM_S + 1)
        assert other.store.leases("third:1").acquire(LEASE, TERM_S)

    one.clock.meanwhile = hang
    one.keeper.run_once()

    assert one.counted() == 0


def test_while_the_database_is_known_to_be_away_it_asks_nothing(rig: Rig) -> None:
    rig.receipts(3)
    with rig.gate.attempt(rig.stopping) as attempt:
        attempt.failed()
    rig.clock.meanwhile = rig.stopping.set

    rig.keeper.run_once()

    assert rig.counted() == 0


def test_an_outage_is_told_once_and_does_not_close_the_workers_gate(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    rig.receipts(3)
    with closing(sqlite3.connect(rig.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        rig.keeper.run_once()
        rig.keeper.run_once()
    assert [line["event"] for line in said(capfd)] == ["rollups.failed"]
    assert rig.gate.is_open

    rig.clock.advance(LOOK_S)
    rig.keeper.run_once()
    assert rig.counted() == 3


def test_the_thread_works_until_told_and_hands_the_lease_back(rig: Rig) -> None:
    rig.receipts(3)
    rig.clock.meanwhile = lambda: rig.stopping.set() if rig.counted() == 3 else None

    rig.keeper.run()

    assert not rig.pulse.is_late
    assert rig.store.leases("next:1").acquire(LEASE, TERM_S)


def test_a_bug_is_told_and_waited_out(
    rig: Rig, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **named: object) -> bool:
        raise ZeroDivisionError

    rig.receipts(1)
    monkeypatch.setattr(rollups.Count, "step", broken)
    rig.clock.meanwhile = lambda: rig.stopping.set() if len(rig.clock.waits) == 3 else None
    rig.keeper.run()

    assert rig.clock.waits == [LOOK_S] * 3
    assert [line["event"] for line in said(capfd)] == ["worker.failed"] * 2
