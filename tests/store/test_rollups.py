"""Roll-ups: every receipt is counted once, by its own hour, whatever happens to its row."""

import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from receiptd.errors import StoreRejected
from receiptd.store import Store, rollup_blocks, rollups
from receiptd.store.rollup_blocks import HOUR, NO_END, Block, Freshness
from receiptd.store.rollups import KEPT, OTHER, Count
from receiptd.store.schema import receipts
from tests.store.store_samples import NOON

Made = Callable[..., None]
MS = timedelta(milliseconds=1)


@pytest.fixture
def made(store: Store) -> Made:
    """Write receipts, each a dict of what is different about it; ids rise from 1."""
    number = 0

    def make(*rows: dict[str, Any]) -> None:
        nonlocal number
        full = []
        for row in rows:
            number += 1
            full.append(
                {
                    "provider": "aliyun", "account": "main", "biz_id": f"{number}^0",
                    "phone": "+8613900000001", "status": "delivered", "origin": "queue",
                    "err_class": "ok", "err_code": "DELIVERED", "template_code": "SMS_1",
                    "send_api": "SendSms", "submitted_at": None, "sent_at": None,
                    "reported_at": None, "created_at": NOON, "updated_at": NOON, "id": number,
                }
                | row
            )  # fmt: skip
        with store.writing() as connection:
            connection.execute(insert(receipts), full)

    return make


def count_all(store: Store, now: datetime, *, rows: int = 3) -> None:
    """Do what the keeper does, without its pauses, and until nothing is left."""
    while True:
        with store.reading() as connection:
            above = rollup_blocks.block_above(connection, now)
        if above is None:
            break
        with store.writing() as connection:
            assert rollup_blocks.add(connection, *above)
    while True:
        with store.reading() as connection:
            below = rollup_blocks.block_below(connection)
        if below is None:
            break
        with store.writing() as connection:
            assert rollup_blocks.add(connection, None, below)
    for block in all_blocks(store):
        count_one(store, block, now, rows=rows)


def count_one(store: Store, block: Block, now: datetime, *, rows: int = 3) -> bool:
    count = Count(block)
    more = True
    while more:
        with store.reading() as connection:
            more = count.step(connection, rows)
    with store.writing() as connection:
        return rollups.replace(connection, count, now)


def all_blocks(store: Store) -> list[Block]:
    with store.reading() as connection:
        return rollup_blocks.blocks(connection, NOON - 1000 * timedelta(days=1))


def totals(store: Store, *by: str, account: str | None = None) -> dict[tuple[Any, ...], int]:
    since, until = NOON - 1000 * timedelta(days=1), NOON + timedelta(days=1000)
    with store.reading() as connection:
        found = rollups.totals(connection, since, until, by=by, account=account)
    return {total.key: total.count for total in found}


def fresh(store: Store) -> Freshness:
    with store.reading() as connection:
        return rollup_blocks.freshness(connection)


def test_receipts_are_counted_by_the_hour_of_their_sms(store: Store, made: Made) -> None:
    made(
        {"submitted_at": NOON - 50 * HOUR, "sent_at": NOON - HOUR},
        {"sent_at": NOON - 3 * HOUR + 59 * timedelta(minutes=1)},
        {"created_at": NOON + timedelta(minutes=30)},
    )

    count_all(store, NOON)

    hours = {NOON - 50 * HOUR: 1, NOON - 3 * HOUR: 1, NOON: 1}
    assert totals(store, "hour") == {(hour,): count for hour, count in hours.items()}


@pytest.mark.parametrize("sent_at", [NOON + HOUR, NOON - KEPT, datetime.max, datetime.min])
def test_a_time_that_cannot_be_does_not_make_an_hour(
    store: Store, made: Made, sent_at: datetime
) -> None:
    made({"sent_at": sent_at.replace(tzinfo=NOON.tzinfo), "reported_at": NOON})

    count_all(store, NOON)

    assert totals(store, "hour") == {(NOON,): 1}


def test_each_facet_counts_every_receipt_once(store: Store, made: Made) -> None:
    failed = {"status": "failed", "err_class": "absent", "err_code": "MK:0001"}
    made({}, {}, failed, {**failed, "template_code": None}, {"status": "awaited", "err_code": None})

    count_all(store, NOON)

    assert totals(store, "status") == {("delivered",): 2, ("failed",): 2, ("awaited",): 1}
    assert totals(store, "status", "err_class", "err_code") == {
        ("delivered", "ok", "DELIVERED"): 2,
        ("failed", "absent", "MK:0001"): 2,
        ("awaited", "ok", ""): 1,
    }
    assert totals(store, "template_code") == {("SMS_1",): 4, ("",): 1}
    assert totals(store) == {(): 5}


def test_an_account_is_told_from_the_others(store: Store, made: Made) -> None:
    made({}, {"account": "shop"}, {"account": "shop", "provider": "jushita"})

    count_all(store, NOON)

    assert totals(store, "provider", "account") == {
        ("aliyun", "main"): 1,
        ("aliyun", "shop"): 1,
        ("jushita", "shop"): 1,
    }
    assert totals(store, "status", account="shop") == {("delivered",): 2}


def test_facets_are_not_mixed(store: Store) -> None:
    with pytest.raises(LookupError, match="err_code, template_code"):
        totals(store, "err_code", "template_code")


def test_times_are_summed_where_both_ends_are_known_and_believable(
    store: Store, made: Made
) -> None:
    known = {"submitted_at": NOON, "reported_at": NOON + 1500 * MS, "updated_at": NOON + 2000 * MS}
    made(
        known,
        {**known, "submitted_at": None, "sent_at": NOON + 1000 * MS},
        {**known, "submitted_at": None},
        {**known, "reported_at": NOON - timedelta(days=90)},
        {**known, "reported_at": NOON + timedelta(days=90)},
        {**known, "status": "failed"},
    )

    count_all(store, NOON)

    with store.reading() as connection:
        (total,) = rollups.totals(connection, NOON, NOON + HOUR, by=())
    assert (total.count, total.timed, total.lagged) == (6, 2, 4)
    assert (total.delivery_ms, total.lag_ms) == (2000, 2000)


def test_a_range_of_hours_has_its_end_outside(store: Store, made: Made) -> None:
    made(*({"sent_at": NOON - hours * HOUR} for hours in range(5)))

    count_all(store, NOON)

    with store.reading() as connection:
        found = rollups.totals(connection, NOON - 2 * HOUR, NOON, by=["hour"])
    assert {total.key[0] for total in found} == {NOON - 2 * HOUR, NOON - HOUR}


def test_what_changed_is_counted_anew_and_not_twice(store: Store, made: Made) -> None:
    made({"status": "awaited"}, {"status": "awaited"}, {})
    count_all(store, NOON)
    with store.writing() as connection:
        connection.execute(update(receipts).where(receipts.c.id == 2).values(status="failed"))

    count_all(store, NOON)

    assert totals(store, "status") == {("awaited",): 1, ("failed",): 1, ("delivered",): 1}
    (block,) = all_blocks(store)
    assert (block.held, block.final, block.open) == (3, 2, 1)


def test_the_ids_are_parted_at_the_hours_of_creation(store: Store, made: Made) -> None:
    made(*({"created_at": NOON + place * HOUR / 3} for place in range(10)))

    count_all(store, NOON + 4 * HOUR)

    assert [(one.first_id, one.last_id, one.hour) for one in all_blocks(store)] == [
        (10, NO_END, NOON + 3 * HOUR),
        (7, 9, NOON + 2 * HOUR),
        (4, 6, NOON + HOUR),
        (1, 3, NOON),
    ]


def test_an_hour_is_not_ended_before_it_is_over(store: Store, made: Made) -> None:
    made({"created_at": NOON})
    count_all(store, NOON)
    made({"created_at": NOON + HOUR})

    count_all(store, NOON + HOUR - MS)
    assert len(all_blocks(store)) == 1
    count_all(store, NOON + HOUR)
    assert len(all_blocks(store)) == 2


def test_hours_without_receipts_have_no_block(store: Store, made: Made) -> None:
    made({"created_at": NOON})
    count_all(store, NOON)
    made({"created_at": NOON + 100 * HOUR})

    count_all(store, NOON + 200 * HOUR)

    assert [block.hour for block in all_blocks(store)] == [NOON + 100 * HOUR, NOON]


def test_whatever_the_order_of_times_each_id_is_in_one_block(store: Store, made: Made) -> None:
    """Several processes, clocks that are wrong, and rows that are gone."""
    draw = random.Random(8)
    now = NOON
    kept: Counter[str] = Counter()
    for _ in range(12):
        now += draw.random() * 2 * HOUR
        rows = [
            {"created_at": now + draw.choice([0, 0, 1, -1, -3]) * draw.random() * HOUR,
             "status": draw.choice(["delivered", "failed", "awaited"])}
            for _ in range(draw.randrange(8))
        ]  # fmt: skip
        if rows:
            made(*rows)
        if draw.random() < 0.3:
            with store.writing() as connection:
                some = (receipts.c.id % 7 == draw.randrange(7)) & (receipts.c.status == "awaited")
                connection.execute(delete(receipts).where(some))
        count_all(store, now - HOUR / 60)
    with store.reading() as connection:
        kept.update(connection.scalars(select(receipts.c.status)).all())

    assert totals(store, "status") == {(status,): count for status, count in kept.items()}
    ranges = sorted((block.first_id, block.last_id) for block in all_blocks(store))
    assert all(one[1] + 1 == other[0] for one, other in pairwise(ranges))
    assert ranges[-1][1] == NO_END


def test_two_who_cut_the_ids_at_once_do_not_overlap(store: Store, made: Made) -> None:
    made({}, {})
    first = Block(first_id=1, last_id=NO_END, hour=NOON)
    with store.writing() as connection:
        assert rollup_blocks.add(connection, None, first)

    with pytest.raises(StoreRejected), store.writing() as connection:
        rollup_blocks.add(connection, None, Block(first_id=2, last_id=NO_END, hour=NOON))

    ended = Block(first_id=1, last_id=1, hour=NOON)
    after = Block(first_id=2, last_id=NO_END, hour=NOON + HOUR)
    with store.writing() as connection:
        assert rollup_blocks.add(connection, ended, after)
    with store.writing() as connection:
        assert not rollup_blocks.add(connection, ended, Block(first_id=3, last_id=9, hour=NOON))


def test_two_who_count_the_same_block_leave_it_counted_once(store: Store, made: Made) -> None:
    made({}, {}, {})
    count_all(store, NOON)
    (block,) = all_blocks(store)

    assert count_one(store, block, NOON)
    assert count_one(store, block, NOON)

    assert totals(store) == {(): 3}


def test_the_retention_does_not_erase_history(store: Store, made: Made) -> None:
    made({}, {}, {"status": "failed"}, {"status": "awaited"})
    count_all(store, NOON)
    (block,) = all_blocks(store)
    with store.writing() as connection:
        connection.execute(delete(receipts).where(receipts.c.id == 1))

    assert not count_one(store, block, NOON + HOUR)

    assert totals(store, "status") == {("delivered",): 2, ("failed",): 1, ("awaited",): 1}
    assert all_blocks(store)[0].counted_at == NOON + HOUR


def test_a_send_that_was_settled_under_another_id_is_not_counted_on(
    store: Store, made: Made
) -> None:
    made({}, {"status": "awaited"})
    count_all(store, NOON)
    with store.writing() as connection:
        connection.execute(delete(receipts).where(receipts.c.status == "awaited"))

    count_all(store, NOON)

    assert totals(store, "status") == {("delivered",): 1}


def test_codes_and_templates_beyond_the_most_frequent_are_counted_together(
    store: Store, made: Made
) -> None:
    frequent = [{"err_code": f"C{one:03}", "template_code": f"T{one:03}"} for one in range(50)]
    rare = [{"err_code": f"Z{one:03}", "template_code": f"Z{one:03}"} for one in range(30)]
    made(*frequent, *frequent, *rare)

    count_all(store, NOON, rows=100)

    for name in ("err_code", "template_code"):
        counts = totals(store, name)
        assert len(counts) == 51
        assert counts[(OTHER,)] == 30
        assert sum(counts.values()) == 130


def test_an_import_of_months_stays_bounded(
    store: Store, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "_MOST_ROWS", 16)
    made(*({"sent_at": NOON - one % 5 * HOUR, "err_code": f"C{one}"} for one in range(60)))

    count_all(store, NOON, rows=100)

    # Five codes were one too many: none is told by its name, and all are counted.
    assert totals(store, "err_code") == {(OTHER,): 60}
    assert len(totals(store, "hour")) == 5


def test_ever_new_codes_do_not_fill_the_memory(
    store: Store, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "_MOST_KEYS", 20)
    made(*({"err_code": "often"} for _ in range(20)))
    made(*({"err_code": f"C{one}"} for one in range(80)))
    count = Count(Block(first_id=1, last_id=NO_END, hour=NOON))
    sizes = []
    with store.reading() as connection:
        while count.step(connection, 10):
            sizes.append(len(count._sums))

    assert max(sizes) <= 20
    told = {row["err_code"]: row["count"] for row in count.rows() if row["facet"] == "error"}
    assert told["often"] == 20
    assert sum(told.values()) == 100


def test_history_ends_after_400_days(store: Store, made: Made) -> None:
    made({"created_at": NOON}, {"created_at": NOON + HOUR})
    count_all(store, NOON + 2 * HOUR)

    with store.writing() as connection:
        assert rollups.prune(connection, NOON + KEPT) == 0
        assert rollups.prune(connection, NOON + KEPT + HOUR / 2) == 1
        assert rollups.prune(connection, NOON + KEPT + HOUR / 2) == 0

    assert totals(store, "hour") == {(NOON + HOUR,): 1}


def test_how_far_the_counting_has_come_is_known(store: Store, made: Made) -> None:
    assert fresh(store) == Freshness(None, 1.0)
    made(*({"created_at": NOON + place * HOUR} for place in range(4)))
    assert fresh(store) == Freshness(None, 0.0)

    with store.reading() as connection:
        above = rollup_blocks.block_above(connection, NOON)
    assert above is not None
    block = above[1]
    with store.writing() as connection:
        rollup_blocks.add(connection, None, block)
    count_one(store, block, NOON)
    with store.writing() as connection:
        rollup_blocks.looked(connection, NOON + HOUR)
    assert fresh(store) == Freshness(NOON + HOUR, 0.25)

    count_all(store, NOON)
    assert fresh(store) == Freshness(NOON + HOUR, 1.0)
