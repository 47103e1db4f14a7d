"""The merge in SQL is the merge in Python, whatever the order, the repetitions and the batches."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from receiptd.clock import ManualClock
from receiptd.model import Origin, Receipt, Status
from receiptd.store import Store, open_store
from receiptd.store.merge import fold
from receiptd.store.rows import RECEIPTS, receipt_row
from receiptd.store.schema import receipts as table
from tests.databases import MARIADB, POSTGRESQL, SQLITE, databases, fresh_url
from tests.store.receipt_strategies import FEW_KEYS, ONE_KEY, receipts
from tests.store.store_samples import NOON, entries, receipt

COLUMNS = RECEIPTS[:-2]  # without created_at and updated_at
LATER = NOON + timedelta(hours=1)


EXAMPLES = {SQLITE: 100, POSTGRESQL: 100, MARIADB: 100}


class Bench:
    """One database for all examples, because a new one for each would take most of the time."""

    def __init__(self, kind: str, store: Store) -> None:
        self.kind = kind
        self.store = store

    def clear(self) -> None:
        with self.store._engines.writer.begin() as connection:
            connection.execute(delete(table))

    def rows(self) -> list[tuple[Any, ...]]:
        order = "biz_id", "phone", "provider", "account"
        query = select(*(table.c[name] for name in COLUMNS)).order_by(*(table.c[k] for k in order))
        with self.store._engines.reader.begin() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def hold(self, *strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], None]:
        """Run a property on examples of `strategies`, now."""

        def run(prove: Callable[..., None]) -> None:
            few = settings(max_examples=EXAMPLES[self.kind], deadline=None)
            few(given(*strategies)(prove))()

        return run


@pytest.fixture(params=databases(), scope="module")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with fresh_url(request.param) as url:
        store = open_store(url, ManualClock())
        store.upgrade()
        yield Bench(request.param, store)
        store.close()


def expected(many: list[Receipt]) -> list[tuple[Any, ...]]:
    return [receipt_row(one, lambda time: time, "")[:-2] for one in fold(many)]


def test_any_order_repetition_and_batching_gives_the_rows_of_the_pure_fold(bench: Bench) -> None:
    @bench.hold(
        st.lists(receipts(FEW_KEYS), max_size=12),
        st.lists(st.integers(0, 24), max_size=4),
        st.randoms(use_true_random=False),
    )
    def prove(many: list[Receipt], cuts: list[int], random: Random) -> None:
        bench.clear()
        delivered = [*many, *random.sample(many, len(many) // 2)]
        random.shuffle(delivered)
        edges = [0, *sorted(cuts), len(delivered)]

        for start, end in pairwise(edges):
            bench.store.save(entries(*delivered[start:end]))

        assert bench.rows() == expected(many)


def test_a_row_counts_as_changed_exactly_if_it_differs(bench: Bench) -> None:
    @bench.hold(receipts(ONE_KEY), receipts(ONE_KEY))
    def prove(a: Receipt, b: Receipt) -> None:
        bench.clear()
        bench.store.save(entries(a))
        before = bench.rows()

        changed = bench.store.save(entries(b)).changed

        assert (changed == 1) == (bench.rows() != before)
        assert bench.rows() == expected([a, b])


def test_of_many_rows_those_that_differ_are_counted(bench: Bench) -> None:
    @bench.hold(st.lists(receipts(FEW_KEYS), max_size=8), st.lists(receipts(FEW_KEYS), max_size=8))
    def prove(first: list[Receipt], then: list[Receipt]) -> None:
        bench.clear()
        bench.store.save(entries(*first))
        before = {row[2:4]: row for row in bench.rows()}

        changed = bench.store.save(entries(*then)).changed

        after = {row[2:4]: row for row in bench.rows()}
        assert changed == sum(before.get(key) != row for key, row in after.items())


def test_what_was_saved_changes_nothing_when_saved_again(bench: Bench) -> None:
    @bench.hold(st.lists(receipts(FEW_KEYS), min_size=1, max_size=6))
    def prove(many: list[Receipt]) -> None:
        bench.clear()
        bench.store.save(entries(*many))

        result = bench.store.save(entries(*many))

        assert (result.changed, result.unchanged) == (0, len(many))


OLD_AND_NEW = [
    # (rank, time, delivered, text, origin): what decides, and what must then not decide any more.
    ({"status": Status.DELIVERED}, {"status": Status.FAILED, "reported_at": LATER}),
    ({"status": Status.FAILED}, {"status": Status.DELIVERED, "reported_at": LATER}),
    ({"status": Status.FAILED}, {"status": Status.DELIVERED}),
    ({"status": Status.PENDING, "reported_at": LATER}, {"status": Status.DELIVERED}),
    ({"origin": Origin.PUSH}, {"origin": Origin.QUEUE, "err_code": "E"}),
    ({"origin": Origin.PUSH}, {"origin": Origin.SEND}),
]


@pytest.mark.parametrize(("old", "new"), OLD_AND_NEW)
def test_the_verdict_is_taken_as_a_whole_whatever_decides_it(
    bench: Bench, old: dict[str, Any], new: dict[str, Any]
) -> None:
    # MySQL assigns column by column, and sees what it has assigned.
    bench.clear()
    texts = {"err_code": "A", "err_msg": "a", "err_class": None}
    before, after = receipt(**(texts | old)), receipt(**({"err_code": "B", "err_msg": "b"} | new))

    for one in (before, after, before):
        bench.store.save(entries(one))

    assert bench.rows() == expected([before, after])
