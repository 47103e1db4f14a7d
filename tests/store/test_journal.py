"""The journal, read back and marked."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from receiptd.clock import ManualClock
from receiptd.errors import StoreRejected
from receiptd.model import Entry, Kind, Outcome, Receipt
from receiptd.store import Store, journal, known
from receiptd.store.journal import Replayed, Selection
from receiptd.store.merge import key
from tests.store.receipt_strategies import ONE_KEY, receipts
from tests.store.store_samples import (
    NOON,
    Database,
    entries,
    entry,
    notice,
    open_new,
    receipt,
    uplink,
    with_envelope,
)

ALL = Selection()


def quarantined(reason: str | None, **fields: Any) -> Entry:
    return entry(None, reason=reason, **fields)


def ids(store: Store, selection: Selection, after_id: int = -1, limit: int = 100) -> list[int]:
    with store.reading() as connection:
        return journal.quarantined_ids(connection, selection, after_id, limit)


def fill(store: Store) -> None:
    """Rows 1 to 6, of which 2, 4 and 6 are quarantined."""
    reasons = ["bad_field:err_code", "not_json", "bad_field"]
    for number, reason in enumerate(reasons):
        at = NOON + timedelta(minutes=number)
        store.save([entry(receipt(f"{number}^0"), received_at=at)])
        one = quarantined(reason, body=b"\xff\0%d" % number, received_at=at)
        store.save([with_envelope(one, source="other" if number == 1 else "sms_report")])


def test_the_quarantine_is_paged_by_id(store: Store) -> None:
    fill(store)

    assert ids(store, ALL) == [2, 4, 6]
    assert ids(store, ALL, limit=2) == [2, 4]
    assert ids(store, ALL, after_id=2) == [4, 6]


def test_the_quarantine_is_chosen_from(store: Store) -> None:
    fill(store)
    chosen: list[tuple[Selection, list[int]]] = [
        (Selection(reason="bad_field"), [2, 6]),
        (Selection(reason="bad_field:err_code"), [2]),
        (Selection(reason="bad"), []),
        (Selection(source="other"), [4]),
        (Selection(since=NOON + timedelta(minutes=1)), [4, 6]),
        (Selection(until=NOON + timedelta(minutes=1)), [2]),
    ]

    for selection, found in chosen:
        assert ids(store, selection) == found
        with store.reading() as connection:
            assert journal.count(connection, selection, quarantined=True, most=9) == len(found)


def test_a_count_ends_where_it_is_told(store: Store) -> None:
    fill(store)

    with store.reading() as connection:
        assert journal.count(connection, ALL, quarantined=True, most=2) == 2
        assert journal.count(connection, ALL, quarantined=False, most=100) == 6


def test_rows_come_back_as_they_were_received(store: Store) -> None:
    fill(store)

    with store.reading() as connection:
        first, second = journal.fetch(connection, [2, 1, 99])

    assert (first.id, first.outcome, first.kind, first.reason) == (1, "stored", "receipt", None)
    assert (second.id, second.body, second.reason) == (2, b"\xff\x000", "bad_field:err_code")
    assert (second.received_at, second.enqueued_at, second.pull_count) == (NOON, NOON, 1)


def test_a_time_is_read_in_order_and_each_row_once(store: Store) -> None:
    # Ids of several processes are out of order by a little, and times can be equal.
    minutes = [3, 1, 2, 1, 1, 4, 0]
    for minute in minutes:
        store.save([entry(receipt(), received_at=NOON + timedelta(minutes=minute))])
    selection = Selection(since=NOON + timedelta(minutes=1), until=NOON + timedelta(minutes=4))
    found: list[int] = []
    after = None

    while True:
        with store.reading() as connection:
            page = journal.received(connection, selection, 2, after)
        if not page:
            break
        found += [one.id for one in page]
        after = page[-1].received_at, page[-1].id

    assert found == [2, 4, 5, 3, 1]


def test_groups_are_of_a_reason_and_the_newest_comes_first(store: Store) -> None:
    fill(store)
    store.save([quarantined(None), quarantined("not_json")])

    with store.reading() as connection:
        groups = journal.groups(connection, ALL)
        newest = journal.newest_of(connection, ALL, "not_json", 1)
        nameless = journal.newest_of(connection, ALL, "", 9)

    assert [(one.reason, one.rows, one.newest_id) for one in groups] == [
        ("not_json", 2, 8),
        ("", 1, 7),
        ("bad_field", 1, 6),
        ("bad_field:err_code", 1, 2),
    ]
    assert [one.id for one in newest] == [8]
    assert [one.id for one in nameless] == [7]


def replayed(row_id: int, *understood: Entry, settles: bool = True) -> Replayed:
    return Replayed(row_id, understood, settles)


def test_a_replayed_row_is_marked_with_its_record(store: Store, database: Database) -> None:
    store.save([quarantined("bad_field:err_code")])
    before = database.row("journal")

    result = store.replay([replayed(1, *entries(receipt("7^0")))])

    assert (result.changed, result.unchanged) == (1, 0)
    assert database.row()["biz_id"] == "7^0"
    marks = {"outcome": "replayed", "kind": "receipt", "biz_id": "7^0", "phone": "+8613900000001"}
    assert database.row("journal") == before | marks  # the reason stays


def test_replies_and_notices_are_replayed_too(store: Store, database: Database) -> None:
    store.save([quarantined("not_json"), quarantined("not_json")])

    for _ in range(2):
        store.replay([replayed(1, *entries(uplink())), replayed(2, *entries(notice()))])

    assert (database.count("uplinks"), database.count("notices")) == (1, 1)
    kinds = [(one["kind"], one["phone"]) for one in database.rows("journal")]
    assert kinds == [(Kind.UPLINK, "+8613900000001"), (Kind.NOTICE, None)]


def test_what_does_not_settle_is_merged_and_not_marked(store: Store, database: Database) -> None:
    store.save([quarantined("not_json"), *entries(receipt("1^0"))])
    before = database.rows("journal")
    again = entries(receipt("1^0"))

    result = store.replay(
        [replayed(1, *entries(receipt("2^0")), settles=False), replayed(2, *again, settles=False)]
    )

    assert (result.changed, result.unchanged) == (1, 1)
    assert database.rows("journal") == before
    assert database.count() == 2


def test_what_was_dropped_meanwhile_is_left_alone(store: Store, database: Database) -> None:
    store.save([quarantined("not_json"), quarantined("not_json")])
    with store.writing() as connection:
        journal.mark_dropped(connection, [1], "me: a test")

    store.replay([replayed(number, *entries(receipt(f"{number}^0"))) for number in (1, 2)])

    assert [one["biz_id"] for one in database.rows()] == ["2^0"]
    assert [one["outcome"] for one in database.rows("journal")] == ["dropped", "replayed"]


def test_what_the_database_refuses_is_not_marked(store: Store, database: Database) -> None:
    store.save([quarantined("not_json"), quarantined("not_json")])
    database.refuse("2^0", "no")

    with pytest.raises(StoreRejected):
        store.replay([replayed(number, *entries(receipt(f"{number}^0"))) for number in (1, 2)])

    assert database.count() == 0
    assert [one["outcome"] for one in database.rows("journal")] == ["quarantined"] * 2


def test_a_dropped_row_keeps_both_reasons(store: Store, database: Database) -> None:
    store.save([quarantined("bad_field:err_code"), quarantined(None), *entries(receipt())])

    with store.writing() as connection:
        assert journal.mark_dropped(connection, [1, 2, 3, 99], "me: 测试" + "x" * 200) == 2
    with store.writing() as connection:
        assert journal.mark_dropped(connection, [1], "again") == 0

    first, second, third = database.rows("journal")
    assert len(first["reason"]) == 128
    assert journal.split_reason(first["reason"])[0] == "bad_field:err_code"
    assert journal.split_reason(first["reason"])[1].startswith("me: 测试x")
    assert journal.split_reason(second["reason"])[0] == ""
    assert [one["outcome"] for one in (first, second)] == [Outcome.DROPPED] * 2
    assert (third["outcome"], third["reason"]) == ("stored", None)


def test_many_rows_are_locked_in_chunks(store: Store) -> None:
    store.save([quarantined("not_json") for _ in range(1200)])

    with store.writing() as connection:
        assert len(journal.lock_quarantined(connection, range(2000))) == 1200


@pytest.mark.parametrize("reason", [None, "bad_field"])
def test_the_quarantine_is_found_by_its_index(path: Path, reason: str | None) -> None:
    # On SQLite: the planners of servers go by statistics, which a small table has none of.
    store = open_new(path)
    fill(store)
    statements: list[str] = []
    with store.reading() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.set_trace_callback(statements.append)
        journal.quarantined_ids(connection, Selection(reason=reason), -1, 20_000)
        journal.groups(connection, Selection(reason=reason))
        journal.count(connection, Selection(reason=reason), quarantined=True, most=9)
        journal.by_reason(connection)
        raw.set_trace_callback(None)
        plans = [raw.execute(f"EXPLAIN QUERY PLAN {one}").fetchall() for one in statements]
    store.close()

    assert len(plans) == 4
    for plan in plans:
        assert "INDEX ix_journal_outcome" in str(plan), plan


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(one=receipts(ONE_KEY))
def test_a_row_comes_back_as_the_record_it_was(database: Database, one: Receipt) -> None:
    store = database.open(ManualClock())
    database.query("DELETE FROM receipts")

    store.save(entries(one))

    with store.reading() as connection:
        assert known.receipts(connection, [key(one)]) == {key(one): one}
    store.close()


def test_only_rows_of_the_whole_key_are_known(store: Store) -> None:
    other = receipt(phone="+8613900000002")
    store.save(entries(receipt(), uplink(), notice()))

    with store.reading() as connection:
        assert set(known.receipts(connection, [key(receipt()), key(other)])) == {key(receipt())}
        mine, others = known.uplink_key(uplink()), known.uplink_key(uplink(account="x"))
        assert known.uplinks(connection, [mine, others]) == {mine}
        told, untold = known.notice_key(notice()), known.notice_key(notice(order_id="1"))
        assert known.notices(connection, [told, untold]) == {told}
