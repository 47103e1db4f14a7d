"""The merge in SQL is the merge in Python, whatever the order, the repetitions and the batches."""

import sqlite3
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.model import Receipt
from receiptd.store import Store
from receiptd.store.merge import fold
from receiptd.store.rows import RECEIPTS, receipt_row
from receiptd.store.types import sqlite_time
from tests.store.receipt_strategies import FEW_KEYS, ONE_KEY, receipts
from tests.store.store_samples import entries, open_new

COLUMNS = RECEIPTS[:-2]  # without created_at and updated_at


class Bench:
    """One database for all examples, because a new file for each would take most of the time."""

    def __init__(self, store: Store, raw: sqlite3.Connection) -> None:
        self.store = store
        self._raw = raw

    def clear(self) -> None:
        with self._raw:
            self._raw.execute("DELETE FROM receipts")

    def rows(self) -> list[tuple[Any, ...]]:
        order = "biz_id, phone, provider, account"
        return self._raw.execute(
            f"SELECT {', '.join(COLUMNS)} FROM receipts ORDER BY {order}"
        ).fetchall()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "receiptd.db")
        store = open_new(path)
        raw = sqlite3.connect(path)
        yield Bench(store, raw)
        raw.close()
        store.close()


def expected(many: list[Receipt]) -> list[tuple[Any, ...]]:
    return [receipt_row(one, sqlite_time, "")[:-2] for one in fold(many)]


@given(
    many=st.lists(receipts(FEW_KEYS), max_size=12),
    cuts=st.lists(st.integers(0, 24), max_size=4),
    random=st.randoms(use_true_random=False),
)
def test_any_order_repetition_and_batching_gives_the_rows_of_the_pure_fold(
    bench: Bench, many: list[Receipt], cuts: list[int], random: Random
) -> None:
    bench.clear()
    delivered = [*many, *random.sample(many, len(many) // 2)]
    random.shuffle(delivered)
    edges = [0, *sorted(cuts), len(delivered)]

    for start, end in pairwise(edges):
        bench.store.save(entries(*delivered[start:end]))

    assert bench.rows() == expected(many)


@given(a=receipts(ONE_KEY), b=receipts(ONE_KEY))
def test_a_row_counts_as_changed_exactly_if_it_differs(
    bench: Bench, a: Receipt, b: Receipt
) -> None:
    bench.clear()
    bench.store.save(entries(a))
    before = bench.rows()

    changed = bench.store.save(entries(b)).changed

    assert (changed == 1) == (bench.rows() != before)
    assert bench.rows() == expected([a, b])


@given(many=st.lists(receipts(FEW_KEYS), min_size=1, max_size=6))
def test_what_was_saved_changes_nothing_when_saved_again(bench: Bench, many: list[Receipt]) -> None:
    bench.clear()
    bench.store.save(entries(*many))

    result = bench.store.save(entries(*many))

    assert (result.changed, result.unchanged) == (0, len(many))
