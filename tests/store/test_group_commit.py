"""One transaction for all who wait, and each gets its own answer."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from receiptd.clock import ManualClock
from receiptd.errors import StoreRejected, StoreUnavailable
from receiptd.model import Entry
from receiptd.store import SaveResult, Store
from receiptd.store.writer import GROUP_ENTRIES
from tests.store.store_samples import Database, entries, receipt, uplink


class Gate:
    """Holds the first transaction until so many batches wait behind it."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()
        self.commits: list[tuple[int, int]] = []

    def trace(self, point: str) -> None:
        if point == "in_transaction" and not self.opened.is_set():
            self.entered.set()
            assert self.opened.wait(30)

    def on_commit(self, seconds: float, batches: int, entries: int) -> None:
        self.commits.append((batches, entries))


class Rush:
    """A store whose first transaction is held while the others come."""

    def __init__(self, database: Database) -> None:
        self.gate = Gate()
        self.store = database.open(trace=self.gate.trace, on_commit=self.gate.on_commit)

    def run(self, batches: Sequence[Sequence[Entry]]) -> list["Future[SaveResult]"]:
        """Save the first batch alone, all others behind it at once."""
        with ThreadPoolExecutor(len(batches)) as pool:
            results = [pool.submit(self.store.save, batches[0])]
            assert self.gate.entered.wait(30)
            results += [pool.submit(self.store.save, batch) for batch in batches[1:]]
            while len(self.store._writer._waiting) < len(batches) - 1:
                os.sched_yield()
            self.gate.opened.set()
        self.store.close()
        return results


@pytest.fixture
def rush(database: Database) -> Rush:
    return Rush(database)


def test_all_who_wait_are_committed_in_one_transaction(rush: Rush, database: Database) -> None:
    batches = [entries(*(receipt(f"{n}-{i}") for i in range(16))) for n in range(16)]

    results = rush.run(batches)

    assert rush.gate.commits == [(1, 16), (15, 15 * 16)]
    assert [one.result() for one in results] == [SaveResult(changed=16, unchanged=0)] * 16
    assert database.count() == 256


def test_a_group_is_bounded_but_takes_at_least_one_batch(rush: Rush) -> None:
    large = entries(*(receipt(f"{i}") for i in range(GROUP_ENTRIES + 1)))
    small = entries(receipt("small"))

    rush.run([small, large, small])

    assert sorted(rush.gate.commits) == [(1, 1), (1, 1), (1, GROUP_ENTRIES + 1)]


def test_the_same_receipt_in_many_waiting_batches_is_one_row(
    rush: Rush, database: Database
) -> None:
    batches = [entries(receipt(err_code=str(n)), uplink()) for n in range(8)]

    results = [one.result() for one in rush.run(batches)]

    assert database.query("SELECT err_code FROM receipts") == [("7",)]
    assert database.count("uplinks") == 1
    # The first makes both rows, the seven behind it change one of them once.
    assert sum(one.changed for one in results) == 3
    assert sum(one.changed + one.unchanged for one in results) == 16


def test_one_bad_batch_among_many_costs_only_itself(rush: Rush, database: Database) -> None:
    database.refuse("bad", "refused +8613987654321")
    keys = ["first", *(f"good-{n}" for n in range(7)), "bad", *(f"fine-{n}" for n in range(7))]

    results = rush.run([entries(receipt(f"{key}-mate"), receipt(key)) for key in keys])

    refused = [key for key, one in zip(keys, results, strict=True) if one.exception()]
    assert refused == ["bad"]
    assert isinstance(results[8].exception(), StoreRejected)
    assert database.count() == 2 * 15
    assert database.count("journal") == 2 * 15


def test_poison_never_reaches_the_group(rush: Rush, database: Database) -> None:
    store = rush.store
    good = entries(receipt("good"))
    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(store.save, good)
        assert rush.gate.entered.wait(30)
        with pytest.raises(StoreRejected):
            store.save(entries(receipt(err_msg="\ud800")))
        rush.gate.opened.set()

        assert leading.result().changed == 1
    store.close()


def test_a_bug_in_one_transaction_reaches_every_waiting_worker_and_no_more(
    database: Database,
) -> None:
    calls: list[str] = []

    def trace(point: str) -> None:
        calls.append(point)
        if calls.count("in_transaction") == 1 and point == "before_commit":
            raise LookupError("a bug")

    store = database.open(trace=trace)

    with pytest.raises(LookupError):
        store.save(entries(receipt()))

    assert database.count() == 0
    assert store.save(entries(receipt())).changed == 1
    store.close()


def test_an_interrupted_leader_hands_on_the_lead(rush: Rush, database: Database) -> None:
    class Interrupt(BaseException):
        pass

    def interrupted(work: Callable[[], SaveResult]) -> SaveResult | None:
        try:
            return work()
        except Interrupt:
            return None

    store, gate = rush.store, rush.gate
    points: list[str] = []

    def trace(point: str) -> None:
        gate.trace(point)
        points.append(point)
        if points == ["in_transaction", "before_commit"]:
            raise Interrupt

    store._writer._trace = trace
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(interrupted, lambda: store.save(entries(receipt("first"))))
        assert gate.entered.wait(30)
        second = pool.submit(store.save, entries(receipt("second")))
        while not store._writer._waiting:
            os.sched_yield()
        gate.opened.set()

        assert first.result() is None
        assert second.result().changed == 1
    store.close()
    assert database.query("SELECT biz_id FROM receipts") == [("second",)]


def test_many_threads_store_everything_once(database: Database) -> None:
    commits: list[int] = []
    store = database.open(on_commit=lambda seconds, batches, entries: commits.append(batches))
    start = threading.Barrier(16)

    def work(thread: int) -> int:
        start.wait()
        saved = 0
        for turn in range(20):
            keys = (f"{turn}-{(thread + i) % 20}" for i in range(16))
            saved += store.save(entries(*map(receipt, keys))).changed
        return saved

    with ThreadPoolExecutor(16) as pool:
        changed = sum(pool.map(work, range(16)))
    store.close()

    assert sum(commits) == 16 * 20
    assert changed == database.count() == 20 * 20
    assert database.count("journal") == 16 * 16 * 20


def test_a_commit_tells_its_seconds_batches_and_entries(database: Database) -> None:
    clock = ManualClock()
    clock.advance(1000)
    seen: list[tuple[float, int, int]] = []

    def trace(point: str) -> None:
        if point == "before_commit":
            clock.advance(0.25)

    store = database.open(clock, trace=trace, on_commit=lambda *commit: seen.append(commit))
    store.save(entries(receipt("a"), receipt("b")))
    store.close()

    assert seen == [(0.25, 1, 2)]


def test_a_closed_store_is_unavailable(store: Store) -> None:
    store.close()

    with pytest.raises(StoreUnavailable, match="closed"):
        store.save(entries(receipt()))
