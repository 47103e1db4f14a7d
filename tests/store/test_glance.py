"""What the dashboard reads beside the roll-ups: the same on every database."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from receiptd.store import Store, glance, rollup_blocks, rollups
from receiptd.store.rollup_blocks import HOUR, NO_END, Block
from receiptd.store.schema import journal, progress, receipts
from receiptd.tally import Counts
from tests.store.store_samples import NOON

DAY = timedelta(days=1)
WINDOW = 30 * DAY


def told(store: Store, instance: str, source: str, *, ago: timedelta, **counts: Any) -> None:
    store.record_progress(instance, source, Counts(**counts))
    row = (progress.c.source == source) & (progress.c.instance == instance)
    with store.writing() as connection:
        connection.execute(update(progress).where(row).values(updated_at=NOON - ago))


def awaited(store: Store, count: int, **fields: Any) -> None:
    row = {
        "provider": "aliyun", "account": "main", "phone": "+8613900000001", "status": "awaited",
        "origin": "send", "submitted_at": NOON, "next_query_at": NOON, "created_at": NOON,
        "updated_at": NOON,
    } | fields  # fmt: skip
    with store.writing() as connection:
        rows = [row | {"biz_id": f"{fields}{number}^0"[-120:]} for number in range(count)]
        connection.execute(insert(receipts), rows)


def test_a_source_is_told_by_the_instances_that_live(store: Store) -> None:
    minute = timedelta(minutes=1)
    told(store, "host:1", "a", ago=5 * minute, pulled=100, last_pull_at=NOON - 5 * minute)
    told(store, "host:2", "a", ago=minute, pulled=7, changed=5, last_pull_at=NOON - minute)
    told(store, "host:3", "a", ago=0 * minute, pulled=3, changed=2, last_commit_at=NOON)
    told(store, "host:1", "b", ago=5 * minute, pulled=100)

    with store.reading() as connection:
        a, b = glance.sources(connection, NOON - 2 * minute)

    assert (a.source, a.instances, a.pulled, a.changed) == ("a", 2, 10, 7)
    assert (a.told_at, a.last_pull_at, a.last_commit_at) == (NOON, NOON - minute, NOON)
    assert (b.source, b.instances, b.pulled) == ("b", 0, 100)
    assert b.last_pull_at is None


def test_gaps_are_the_planned_sends_oldest_first(store: Store) -> None:
    awaited(store, 2, submitted_at=NOON - DAY)
    awaited(store, 1, submitted_at=NOON - 3 * DAY, account="shop")
    awaited(store, 1, next_query_at=None)

    with store.reading() as connection:
        gaps = glance.gaps(connection, NOON, WINDOW)

    assert gaps.is_exact
    assert gaps.rows == [
        ("shop", NOON - 3 * DAY, 1),
        ("main", NOON - DAY, 1),
        ("main", NOON - DAY, 1),
    ]


def test_too_many_gaps_are_told_by_their_hours(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "GAPS_EXACT", 3)
    awaited(store, 3, submitted_at=NOON - DAY)
    awaited(store, 1, submitted_at=NOON - 2 * DAY, account="shop")
    awaited(store, 5, status="delivered", next_query_at=None)
    block = Block(first_id=1, last_id=NO_END, hour=NOON)
    count = rollups.Count(block)
    with store.reading() as connection:
        count.step(connection)
    with store.writing() as connection:
        assert rollup_blocks.add(connection, None, block)
        assert rollups.replace(connection, count, NOON)

    with store.reading() as connection:
        gaps = glance.gaps(connection, NOON + HOUR, WINDOW)

    assert not gaps.is_exact
    assert gaps.rows == [("shop", NOON - 2 * DAY, 1), ("main", NOON - DAY, 3)]


def test_quarantine_is_what_waits_for_a_decision_by_reason(store: Store) -> None:
    row = {
        "source": "s", "envelope_id": "e", "part": 0, "body": "{}", "encoding": "text",
        "kind": "unreadable", "received_at": NOON,
    }  # fmt: skip
    waiting = ["bad_field: a", "not_json", "bad_field: b"]
    with store.writing() as connection:
        rows = [row | {"outcome": "quarantined", "reason": reason} for reason in waiting]
        rows += [row | {"outcome": outcome, "reason": "x"} for outcome in ("stored", "replayed")]
        connection.execute(insert(journal), rows)

    with store.reading() as connection:
        assert glance.quarantine(connection) == [("bad_field", 2), ("not_json", 1)]
