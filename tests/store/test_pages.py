"""Pages over a table: every row once, in flat memory, beside those who write."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert

from receiptd.store import Store, pages
from receiptd.store.schema import receipts
from tests.store.store_samples import NOON, entries, receipt


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_WINDOW_IDS", 10)


def fill(store: Store, count: int) -> None:
    store.save(entries(*(receipt(f"{number:03}") for number in range(count))))


def read(store: Store, *wanted: Any, page_rows: int = 4) -> list[list[str]]:
    found = pages.pages(store.reading, receipts, [receipts.c.biz_id], *wanted, page_rows=page_rows)
    return [[row.biz_id for row in page.rows] for page in found]


def flat(found: list[list[str]]) -> list[str]:
    return [one for page in found for one in page]


def test_every_row_comes_once_in_the_order_of_ids(store: Store) -> None:
    fill(store, 25)

    found = read(store)

    assert flat(found) == [f"{number:03}" for number in range(25)]
    assert max(map(len, found)) == 4


def test_an_empty_table_has_no_pages(store: Store) -> None:
    assert read(store) == []


def test_only_wanted_rows_come_however_rare(store: Store) -> None:
    fill(store, 45)

    assert flat(read(store, receipts.c.biz_id.in_(["003", "044"]))) == ["003", "044"]


def test_holes_between_ids_are_no_trouble(store: Store) -> None:
    fill(store, 45)
    with store.writing() as connection:
        connection.execute(delete(receipts).where(receipts.c.biz_id.between("005", "039")))

    assert flat(read(store)) == [f"{number:03}" for number in [*range(5), *range(40, 45)]]


def test_rows_that_come_and_go_meanwhile_cost_no_other_row(store: Store) -> None:
    fill(store, 20)
    found = pages.pages(store.reading, receipts, [receipts.c.biz_id], page_rows=4)
    seen = [row.biz_id for row in next(found).rows]

    with store.writing() as connection:
        connection.execute(delete(receipts).where(receipts.c.biz_id.in_(["001", "019"])))
    store.save(entries(*(receipt(f"{number:03}") for number in range(20, 90))))
    store.save(entries(receipt("010", reported_at=NOON + timedelta(days=1))))
    seen += [row.biz_id for page in found for row in page.rows]

    assert len(seen) == len(set(seen))
    assert set(seen) >= {f"{number:03}" for number in range(19)}


def test_it_ends_though_rows_keep_coming(store: Store) -> None:
    fill(store, 8)
    found = pages.pages(store.reading, receipts, [receipts.c.biz_id], page_rows=1)

    for number, _ in enumerate(found):
        assert number < 8
        store.save(entries(*(receipt(f"{number}-{extra}") for extra in range(3))))


def test_no_transaction_is_open_while_the_caller_has_a_page(store: Store) -> None:
    fill(store, 9)
    is_open = []

    @contextmanager
    def reading() -> Iterator[Connection]:
        is_open.append(True)
        with store.reading() as connection:
            yield connection
        is_open.pop()

    for _ in pages.pages(reading, receipts, [receipts.c.biz_id], page_rows=2):
        assert not is_open


def test_the_share_done_rises_to_one(store: Store) -> None:
    fill(store, 25)

    done = [page.done for page in pages.pages(store.reading, receipts, [], page_rows=4)]

    assert done == sorted(done)
    assert done[0] < 0.5
    assert done[-1] == 1.0


def test_ids_need_not_begin_at_one(store: Store) -> None:
    row = {
        "provider": "aliyun", "account": "main", "phone": "1", "status": "failed",
        "origin": "queue", "created_at": NOON, "updated_at": NOON,
    }  # fmt: skip
    with store.writing() as connection:
        for id_ in (2**40, 2**40 + 1):
            connection.execute(insert(receipts).values(id=id_, biz_id=str(id_), **row))

    assert read(store) == [[str(2**40), str(2**40 + 1)]]
