"""Retention: what goes, what stays, and how little it holds up."""

import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select, update

from receiptd.clock import ManualClock
from receiptd.errors import StoreUnavailable
from receiptd.model import Entry, Outcome
from receiptd.store import Store, open_store
from receiptd.store.leases import read_time
from receiptd.store.retention import Limits, Removed, Retention
from receiptd.store.schema import journal, progress, receipts
from receiptd.tally import Counts
from tests.databases import databases, fresh_url
from tests.store.store_samples import BODY, entry, receipt

DAY = timedelta(days=1)
ALL = Limits(journal=30 * DAY, receipts=30 * DAY)


class World:
    """A database whose clock a test turns, and everything in it that retention looks at."""

    def __init__(self, url: str) -> None:
        # A server's own time is what counts there, so the machine's agrees with it.
        with closing(open_store(url, ManualClock())) as store:
            store.upgrade()
            with store._talking(store._engines.reader) as connection:
                self.today: datetime = read_time(connection, ManualClock())
        self.clock = ManualClock(self.today)
        self.store: Store = open_store(url, self.clock)

    def read(self):
        return self.store._talking(self.store._engines.reader)

    def write(self):
        return self.store._talking(self.store._engines.writer)

    def journalled(self, days_ago: float, **fields: Any) -> Entry:
        return entry(receipt(), received_at=self.today - days_ago * DAY, **fields)

    def receipt(self, biz_id: str, created: float, updated: float, **fields: Any) -> None:
        """A receipt created and updated so many days ago."""
        row = {
            "provider": "aliyun",
            "account": "main",
            "biz_id": biz_id,
            "phone": "+8613900000001",
            "status": "delivered",
            "origin": "queue",
            "created_at": self.today - created * DAY,
            "updated_at": self.today - updated * DAY,
        }
        with self.write() as connection:
            connection.execute(insert(receipts).values(**(row | fields)))

    def progress(self, instance: str, source: str, days_ago: float) -> None:
        self.store.record_progress(instance, source, Counts())
        row = (progress.c.instance == instance) & (progress.c.source == source)
        with self.write() as connection:
            seen = {"updated_at": self.today - days_ago * DAY}
            connection.execute(update(progress).where(row).values(seen))

    def ages(self) -> list[float]:
        """The ages of the journal's rows in days, by id."""
        with self.read() as connection:
            times = connection.scalars(select(journal.c.received_at).order_by(journal.c.id)).all()
        return [round((self.today - time) / DAY) for time in times]

    def column(self, column: Any) -> list[Any]:
        with self.read() as connection:
            return list(connection.scalars(select(column).order_by(column)).all())

    def steps(self, limits: Limits = ALL, **options: Any) -> Iterator[Removed]:
        return Retention(
            read=self.read, write=self.write, clock=self.clock, limits=limits, **options
        ).steps()


@pytest.fixture(params=databases())
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with fresh_url(request.param, tmp_path) as url:
        world = World(url)
        yield world
        world.store.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[World]:
    world = World(f"sqlite:///{tmp_path}/receiptd.db")
    yield world
    world.store.close()


def total(steps: Iterator[Removed]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for step in steps:
        counts[step.table] += step.rows
    return counts


# --- the journal ---


def test_old_journal_rows_go_and_the_young_stay(world: World) -> None:
    world.store.save([world.journalled(days) for days in (40, 31, 29, 1)])

    assert total(world.store.prune(ALL)) == {"journal": 2}
    assert world.ages() == [29, 1]
    assert total(world.store.prune(ALL)) == {}


def test_without_a_limit_everything_stays(world: World) -> None:
    world.store.save([world.journalled(9000)])
    world.receipt("a", 9000, 9000)

    for forever in (None, timedelta(days=999_999)):
        assert total(world.store.prune(Limits(journal=forever, receipts=forever))) == {}


def test_an_empty_database_is_no_trouble(world: World) -> None:
    assert total(world.store.prune(ALL)) == {}
    assert world.store.undecided(ALL) == 0


def test_what_could_not_be_understood_stays_until_somebody_decides(world: World) -> None:
    world.store.save(
        [
            world.journalled(40, outcome=Outcome.QUARANTINED, reason="not_json"),
            world.journalled(40, outcome=Outcome.REPLAYED),
            world.journalled(40, outcome=Outcome.DROPPED, reason="not_json"),
            world.journalled(40),
            world.journalled(1, outcome=Outcome.QUARANTINED, reason="not_json"),
        ]
    )

    assert total(world.store.prune(ALL)) == {"journal": 3}
    assert world.column(journal.c.outcome) == ["quarantined", "quarantined"]
    assert world.store.undecided(ALL) == 1

    told = Limits(journal=30 * DAY, receipts=None, include_quarantined=True)
    assert total(world.store.prune(told)) == {"journal": 1}
    assert world.store.undecided(told) == 0
    assert world.ages() == [1]


def test_each_step_is_committed_and_no_larger_than_a_step(world: World) -> None:
    world.store.save([world.journalled(40) for _ in range(25)])

    left = []
    for step in world.steps(step_rows=10):
        left.append((step.rows, len(world.ages())))

    assert left == [(10, 15), (10, 5), (5, 0)]


def test_between_two_steps_anybody_may_write(world: World) -> None:
    world.store.save([world.journalled(40) for _ in range(25)])

    for step in world.steps(step_rows=10):
        assert step.rows
        world.store.save([world.journalled(0)])

    assert world.ages() == [0, 0, 0]


def test_live_traffic_beside_it_loses_nothing_and_fails_nobody(world: World) -> None:
    old = [receipt(f"{number:04}") for number in range(400)]
    for one in old:
        world.receipt(one.biz_id, 50, 40)
    world.store.save([world.journalled(40) for _ in range(400)])
    together = threading.Barrier(4)
    failed: list[Exception] = []

    def redeliver(number: int) -> None:
        together.wait()
        try:
            for begin in range(number * 100, number * 100 + 100, 20):
                again = [entry(one, received_at=world.today) for one in old[begin : begin + 20]]
                world.store.save(again)
        except Exception as exc:
            failed.append(exc)

    threads = [threading.Thread(target=redeliver, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    together.wait()
    total(world.steps(step_rows=25))
    for thread in threads:
        thread.join()

    assert failed == []
    # Deleted before or after, each of them came again: as a new row, or changed in time.
    again = set(world.column(receipts.c.biz_id))
    assert {one.biz_id for one in old[:300]} <= again
    assert not {one.biz_id for one in old[300:]} & again


def test_a_caller_that_stops_leaves_the_rest_for_another_run(world: World) -> None:
    world.store.save([world.journalled(40) for _ in range(25)])

    next(world.steps(step_rows=10))
    assert len(world.ages()) == 15

    assert total(world.steps(step_rows=10)) == {"journal": 15}


def test_ids_out_of_order_cost_no_young_row_and_spare_no_old_one(world: World) -> None:
    days = [40, 29, 41, 28, 35, 31, 33, 20, 30.5, 10]
    world.store.save([world.journalled(one) for one in days])

    total(world.steps(step_rows=3))

    assert [age for age in world.ages() if age > 30] == []
    assert len(world.ages()) == 4


def test_rows_of_a_clock_that_ran_ahead_stop_nothing(world: World) -> None:
    ahead = [world.journalled(-3650) for _ in range(30)]
    world.store.save([world.journalled(40), *ahead, world.journalled(40), world.journalled(1)])

    assert total(world.steps(step_rows=5)) == {"journal": 2}
    assert len(world.ages()) == 31


def test_kept_rows_are_passed_over_without_a_step_of_their_own(world: World) -> None:
    kept = [world.journalled(40, outcome=Outcome.QUARANTINED) for _ in range(50)]
    world.store.save([*kept, world.journalled(39), *kept, world.journalled(39)])

    assert [step.rows for step in world.steps(step_rows=10)] == [2]


def test_a_dry_run_tells_what_would_go_and_deletes_nothing(world: World) -> None:
    world.receipt("a", 50, 40)
    world.store.save([world.journalled(days) for days in (40, 39, 38, 1)])
    world.progress("a:1", "sms", 8)

    told = total(world.steps(dry_run=True, step_rows=2))

    assert told == {"journal": 3, "receipts": 1, "progress": 1}
    assert len(world.ages()) == 4
    assert total(world.steps()) == told


# --- receipts ---


def test_receipts_go_when_nothing_new_was_known_for_long_enough(world: World) -> None:
    world.receipt("old", 50, 40)
    world.receipt("revived", 50, 2)
    world.receipt("young", 2, 2)

    assert total(world.store.prune(ALL))["receipts"] == 1
    assert world.column(receipts.c.biz_id) == ["revived", "young"]


def test_a_receipt_that_reconciliation_still_asks_about_stays(world: World) -> None:
    world.receipt("open", 50, 50, status="awaited", next_query_at=world.today + DAY)
    world.receipt("lost", 50, 50, status="lost")

    assert total(world.store.prune(ALL))["receipts"] == 1
    assert "open" in world.column(receipts.c.biz_id)


@pytest.mark.parametrize("seed", range(8))
def test_the_last_old_receipt_is_found_whatever_the_gaps(local: World, seed: int) -> None:
    chance = random.Random(seed)
    ages = sorted((chance.uniform(0, 60) for _ in range(chance.randint(1, 40))), reverse=True)
    ids = sorted(chance.sample(range(1, 5000), len(ages)))
    for number, age in zip(ids, ages, strict=True):
        local.receipt(str(number), age, age, id=number)

    total(local.store.prune(ALL))

    old = {str(number) for number, age in zip(ids, ages, strict=True) if age > 30}
    assert not old & set(local.column(receipts.c.biz_id))
    assert len(local.column(receipts.c.biz_id)) == len(ages) - len(old)


# --- progress ---


def test_instances_silent_for_a_week_are_forgotten_whole(world: World) -> None:
    world.progress("dead:1", "sms", 8)
    world.progress("dead:1", "up", 9)
    world.progress("alive:1", "sms", 0)
    world.progress("alive:1", "up", 30)
    for number in range(250):
        world.progress(f"restarted:{number:03}", "sms", 10)

    assert total(world.store.prune(ALL)) == {"progress": 252}
    assert world.column(progress.c.instance) == ["alive:1", "alive:1"]


# --- how ---


def test_no_statement_reads_a_whole_table_or_sorts(local: World) -> None:
    local.receipt("old", 50, 40)
    local.store.save([local.journalled(days) for days in range(60, 0, -1)])
    plans: list[str] = []

    def explain(
        connection: Connection, cursor: sqlite3.Cursor, sql: str, parameters: Any, *rest: object
    ) -> None:
        if sql.startswith(("SELECT", "DELETE")) and "progress" not in sql:
            raw = connection.connection.dbapi_connection
            assert isinstance(raw, sqlite3.Connection)
            plan = raw.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
            plans.append(f"{sql}\n{[detail for *_, detail in plan]}")

    for engine in (local.store._engines.reader, local.store._engines.writer):
        event.listen(engine, "before_cursor_execute", explain)
    assert total(local.store.prune(ALL)) == {"journal": 30, "receipts": 1}

    assert len(plans) > 8
    for plan in plans:
        assert "SCAN journal" not in plan
        assert "SCAN receipts" not in plan
        assert "TEMP B-TREE" not in plan
        assert "received_at" not in plan or "ix_journal_received_at" in plan or "rowid" in plan


def test_under_a_lock_it_is_unavailable_soon_and_loses_nothing(local: World) -> None:
    local.store.save([local.journalled(40, body=BODY)])
    other = sqlite3.connect(local.store._url.database or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
        total(local.store.prune(ALL))
    other.close()

    assert total(local.store.prune(ALL)) == {"journal": 1}


def test_the_undecided_are_counted_from_the_index_of_the_rare(local: World) -> None:
    seen: list[str] = []
    event.listen(
        local.store._engines.reader,
        "before_cursor_execute",
        lambda connection, cursor, sql, *rest: seen.append(sql),
    )
    local.store.undecided(ALL)
    query = seen[-1]

    with local.read() as connection:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        plan = raw.execute(f"EXPLAIN QUERY PLAN {query}", ("quarantined", "2026")).fetchall()
    assert "ix_journal_outcome" in str(plan)
