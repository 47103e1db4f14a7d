"""Leases: one holder at a time, on each database by that database's clock."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, update

from receiptd.clock import ManualClock
from receiptd.errors import StoreUnavailable
from receiptd.store import Store, open_store
from receiptd.store.leases import Leases, read_time
from receiptd.store.schema import leases
from tests.databases import databases, fresh_url

NAME = "housekeeping"
TERM_S = 240.0


class World:
    """A database, and instances on machines whose clocks agree."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = ManualClock()
        self.stores: list[Store] = []
        self.open().upgrade()

    def open(self) -> Store:
        self.stores.append(open_store(self.url, self.clock))
        return self.stores[-1]

    def instance(self, name: str) -> Leases:
        return self.open().leases(name)

    def pass_time(self, seconds: float) -> None:
        """Let time pass; a server's clock is not ours to turn, so its leases age instead."""
        self.clock.advance(seconds)
        if self.stores[0].is_local:
            return
        with self.stores[0]._talking(self.stores[0]._engines.writer) as connection:
            for name, until in connection.execute(select(leases.c.name, leases.c.until)).all():
                aged = {"until": until - timedelta(seconds=seconds)}
                connection.execute(update(leases).where(leases.c.name == name).values(aged))

    def holder(self) -> str:
        with self.stores[0]._talking(self.stores[0]._engines.reader) as connection:
            holder: str = connection.execute(select(leases.c.holder)).scalar_one()
            return holder

    def close(self) -> None:
        for store in self.stores:
            store.close()


@pytest.fixture(params=databases())
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with fresh_url(request.param, tmp_path) as url:
        world = World(url)
        yield world
        world.close()


def test_the_first_to_come_holds_the_lease_and_the_second_does_not(world: World) -> None:
    one, other = world.instance("one:1"), world.instance("other:1")

    assert one.acquire(NAME, TERM_S)
    assert not other.acquire(NAME, TERM_S)

    assert one.holds(NAME)
    assert not other.holds(NAME)
    assert world.holder() == one.holder


def test_leases_of_different_names_do_not_meet(world: World) -> None:
    one, other = world.instance("one:1"), world.instance("other:1")

    assert one.acquire("housekeeping", TERM_S)
    assert other.acquire("Housekeeping", TERM_S)


def test_of_many_that_begin_at_once_exactly_one_gets_the_lease(world: World) -> None:
    instances = [world.instance(f"host:{number}") for number in range(6)]
    together = threading.Barrier(len(instances))
    got: list[bool] = []

    def begin(instance: Leases) -> None:
        together.wait()
        got.append(instance.acquire(NAME, TERM_S))

    threads = [threading.Thread(target=begin, args=[one]) for one in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(got) == [False] * 5 + [True]
    assert sum(one.holds(NAME) for one in instances) == 1


def test_a_lease_that_ran_out_is_taken_over_and_its_holder_cannot_renew_it(world: World) -> None:
    one, other = world.instance("one:1"), world.instance("other:1")
    one.acquire(NAME, TERM_S)

    world.pass_time(TERM_S - 10)
    assert not other.acquire(NAME, TERM_S)
    world.pass_time(20)
    assert other.acquire(NAME, TERM_S)

    assert not one.renew(NAME, TERM_S)
    assert not one.acquire(NAME, TERM_S)
    assert world.holder() == other.holder


def test_a_holder_stops_before_anybody_else_can_begin(world: World) -> None:
    one, other = world.instance("one:1"), world.instance("other:1")
    one.acquire(NAME, TERM_S)

    world.pass_time(TERM_S * 0.89)
    assert one.holds(NAME)
    world.pass_time(TERM_S * 0.02)

    assert not one.holds(NAME)
    assert not other.acquire(NAME, TERM_S)


def test_a_renewed_lease_lasts_a_term_from_then(world: World) -> None:
    one, other = world.instance("one:1"), world.instance("other:1")
    one.acquire(NAME, TERM_S)

    world.pass_time(TERM_S / 2)
    assert one.renew(NAME, TERM_S)
    world.pass_time(TERM_S * 0.8)

    assert one.holds(NAME)
    assert not other.acquire(NAME, TERM_S)


def test_acquiring_again_renews(world: World) -> None:
    one = world.instance("one:1")
    one.acquire(NAME, TERM_S)

    world.pass_time(TERM_S * 0.8)
    assert one.acquire(NAME, TERM_S)
    world.pass_time(TERM_S * 0.8)

    assert one.holds(NAME)


def test_renewing_what_was_never_held_gives_nothing(world: World) -> None:
    one = world.instance("one:1")

    assert not one.renew(NAME, TERM_S)
    assert not one.holds(NAME)


def test_a_released_lease_is_free_at_once(world: World) -> None:
    one, other = world.instance("one:1"), world.instance("other:1")
    one.acquire(NAME, TERM_S)

    one.release(NAME)

    assert not one.holds(NAME)
    assert other.acquire(NAME, TERM_S)


def test_releasing_what_another_holds_changes_nothing(world: World) -> None:
    one, other, third = (world.instance(name) for name in ("one:1", "other:1", "third:1"))
    one.acquire(NAME, TERM_S)
    world.pass_time(TERM_S + 1)
    other.acquire(NAME, TERM_S)

    one.release(NAME)

    assert not third.acquire(NAME, TERM_S)


def test_a_restart_under_the_same_name_is_another_holder(world: World) -> None:
    # In a container every start is process 1 of the same host.
    assert world.instance("host:1").acquire(NAME, TERM_S)
    assert not world.instance("host:1").acquire(NAME, TERM_S)


def test_a_name_too_long_for_the_column_is_cut(world: World) -> None:
    one = world.instance("h" * 300)

    assert one.acquire(NAME, TERM_S)
    assert world.holder() == one.holder


def test_a_database_that_is_away_leaves_the_holder_what_it_has(world: World) -> None:
    store = world.open()
    one = store.leases("one:1")
    one.acquire(NAME, TERM_S)
    store.close()

    with pytest.raises(StoreUnavailable):
        one.renew(NAME, TERM_S)

    assert one.holds(NAME)
    world.pass_time(TERM_S)
    assert not one.holds(NAME)


def test_a_holder_killed_with_9_is_replaced_within_its_term(world: World) -> None:
    child = f"""
import os, signal
from receiptd.clock import ManualClock
from receiptd.store import open_store

assert open_store({world.url!r}, ManualClock()).leases("child:1").acquire({NAME!r}, {TERM_S})
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", child], capture_output=True, check=False)
    heir = world.instance("heir:1")

    assert died.returncode == -9, died.stderr
    assert not heir.acquire(NAME, TERM_S)
    world.pass_time(TERM_S)
    assert heir.acquire(NAME, TERM_S)


def test_an_sqlite_file_goes_by_the_machines_clock(tmp_path: Path) -> None:
    clock = ManualClock()
    engine = create_engine(f"sqlite:///{tmp_path}/a.db")

    with engine.connect() as connection:
        assert read_time(connection, clock) == clock.now()
    engine.dispose()
