"""Pages of receipts and replies, and the figures of the metrics, on each database."""

from datetime import UTC, datetime, timedelta

import pytest

from receiptd.clock import ManualClock
from receiptd.model import Origin, Receipt, Status
from receiptd.store import Store, listing, open_store
from receiptd.store.gauges import gauges
from receiptd.store.listing import RECEIPTS, Wanted

START = datetime(2026, 5, 6, tzinfo=UTC)


def receipt(number: int, **fields: object) -> Receipt:
    values: dict[str, object] = {
        "provider": "aliyun",
        "account": "main",
        "biz_id": f"9000{number:06d}^0",
        "phone": f"+86139{number:08d}",
        "status": Status.AWAITED,
        "origin": Origin.SEND,
        "out_id": f"order-{number}",
        "submitted_at": START,
    }
    return Receipt(**{**values, **fields})  # type: ignore[arg-type]  # a table of fields


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def filled(database, clock):
    """A hundred receipts, one a minute."""
    store = open_store(database.url, clock)
    store.upgrade()
    for number in range(100):
        store.record_sends([receipt(number)])
        clock.advance(60)
    yield store
    store.close()


def turn(store: Store, wanted: Wanted, limit: int = 7) -> list[str]:
    """Turn all pages; return the biz_ids."""
    seen: list[str] = []
    with store.reading() as connection:
        bottom = listing.bottom(connection, RECEIPTS, wanted.since)
        before = listing.top(connection, RECEIPTS, wanted.until)
        while before is not None:
            found = listing.window(connection, RECEIPTS, wanted, before, bottom, limit)
            seen += [row["biz_id"] for row in found.rows]
            before = found.before
    return seen


def numbers(*span: int) -> list[str]:
    return [receipt(number).biz_id for number in range(*span)]


def test_all_rows_come_once_newest_first(filled):
    assert turn(filled, Wanted(values={})) == numbers(99, -1, -1)


def test_small_windows_find_the_same(filled, monkeypatch):
    monkeypatch.setattr(listing, "WINDOW_IDS", 5)
    with filled.writing() as connection:
        connection.execute(RECEIPTS.delete().where(RECEIPTS.c.id.between(20, 60)))

    assert len(turn(filled, Wanted(values={"account": "main"}))) == 59


def test_a_span_of_time_holds_its_beginning_and_not_its_end(filled):
    since, until = START + timedelta(minutes=10), START + timedelta(minutes=20)

    assert turn(filled, Wanted(values={}, since=since, until=until)) == numbers(19, 9, -1)
    assert turn(filled, Wanted(values={}, until=START)) == []
    assert turn(filled, Wanted(values={}, since=until + timedelta(days=1))) == []


def test_times_narrow_the_search_to_a_few_ids(filled, monkeypatch):
    monkeypatch.setattr(listing, "_DISORDER", 1)
    since, until = START + timedelta(minutes=50), START + timedelta(minutes=60)
    with filled.reading() as connection:
        bottom = listing.bottom(connection, RECEIPTS, since)
        top = listing.top(connection, RECEIPTS, until)

    assert top is not None
    assert 10 <= top - bottom <= 13
    assert len(turn(filled, Wanted(values={}, since=since, until=until))) == 10


def test_the_numbers_of_one_send_come_in_pages(filled):
    same = {"biz_id": "9000000001^0"}
    filled.record_sends([receipt(1, phone=f"+86138{n:08d}") for n in range(9)])
    with filled.reading() as connection:
        first = listing.receipts_of(connection, Wanted(values=same), None, 6)
        second = listing.receipts_of(connection, Wanted(values=same), first.before, 6)
        phone = {**same, "phone": "+8613900000001"}
        one = listing.receipts_of(connection, Wanted(values=phone), None, 6)

    assert [len(page.rows) for page in (first, second, one)] == [6, 4, 1]
    assert second.before is None
    assert len({row["phone"] for page in (first, second) for row in page.rows}) == 10


def test_an_empty_table_has_no_pages(database, clock):
    store = open_store(database.url, clock)
    store.upgrade()
    try:
        assert turn(store, Wanted(values={})) == []
        with store.reading() as connection:
            assert gauges(connection, clock.now()).open == {}
    finally:
        store.close()


def test_the_figures_count_what_is_open_and_due(filled, clock):
    filled.record_sends(
        [
            receipt(200, account="shop", submitted_at=clock.now()),
            receipt(201, account="shop", status=Status.FAILED),
        ]
    )
    with filled.reading() as connection:
        found = gauges(connection, clock.now())

    assert (found.open["main"].rows, found.open["main"].overdue) == (100, 100)
    assert found.open["main"].oldest == START
    assert (found.open["shop"].rows, found.open["shop"].overdue) == (1, 0)
    assert (found.quarantined, found.notify_pending) == ({}, {})
