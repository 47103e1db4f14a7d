"""The rows behind one SMS, on every database."""

import itertools
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from receiptd.clock import ManualClock
from receiptd.model import Entry, Outcome, Reason, Status
from receiptd.store import Store, lookups
from receiptd.store.schema import receipts, uplinks
from tests.store.store_samples import NOON, entries, entry, open_new, query, receipt, uplink

PHONE = "+8613900000001"
OTHER = "+8613900000002"
ALL = (0, 1 << 40)


def save(store: Store, saved: Sequence[Entry]) -> None:
    """One transaction each, so that ids are in their order."""
    for one in saved:
        store.save([one])


def test_receipts_are_found_by_their_biz_id_the_newest_first(store: Store) -> None:
    phones = [f"+861390000000{n}" for n in range(3)]
    save(store, entries(*(receipt("1^0", phone=phone) for phone in phones), receipt("2^0")))

    with store.reading() as connection:
        found, total = lookups.receipts_of(connection, "1^0", None, 2)

    assert [one.phone for one in found] == [phones[2], phones[1]]
    assert total == 3


def test_a_receipt_is_read_with_all_that_its_row_says(store: Store) -> None:
    save(store, entries(receipt("1^0", out_id="o")))

    with store.reading() as connection:
        [found], total = lookups.receipts_of(connection, "1^0", "main", 5)

    assert (found.status, found.out_id, found.sent_at, total) == (Status.DELIVERED, "o", NOON, 1)
    assert found.conflict is False


def test_receipts_of_another_account_are_not_found(store: Store) -> None:
    save(store, entries(receipt("1^0")))

    with store.reading() as connection:
        assert lookups.receipts_of(connection, "1^0", "other", 5) == ([], 0)
        assert lookups.ids_of(connection, "phone", [PHONE], "other", ALL) == []


def test_ids_are_found_by_phone_and_out_id_within_their_range(store: Store) -> None:
    save(store, entries(*(receipt(f"{n}^0", out_id=f"o{n}") for n in range(4))))
    save(store, entries(receipt("9^0", phone=OTHER, out_id="o1")))

    with store.reading() as connection:
        span = lookups.bounds(connection, receipts)
        assert span is not None
        ids = lookups.ids_of(connection, "phone", [PHONE, "13900000001"], None, span)
        of_out_id = lookups.ids_of(connection, "out_id", ["o1"], None, span)
        upper = lookups.ids_of(connection, "phone", [PHONE], None, (ids[1], span[1]))
        rows = lookups.receipts_by_id(connection, ids[:2])

    assert len(ids) == 4
    assert ids == sorted(ids, reverse=True)
    assert len(of_out_id) == 2
    assert upper == ids[:2]
    assert [row.biz_id for row in rows] == ["3^0", "2^0"]


def test_keys_are_compared_byte_for_byte(store: Store) -> None:
    save(store, entries(receipt("1^0", out_id="Order")))

    with store.reading() as connection:
        assert lookups.ids_of(connection, "out_id", ["order"], None, ALL) == []
        assert lookups.ids_of(connection, "out_id", ["Order "], None, ALL) == []


def test_an_empty_table_has_no_bounds(store: Store) -> None:
    with store.reading() as connection:
        assert lookups.bounds(connection, receipts) is None
        assert lookups.journal_since(connection, NOON) is None
        assert lookups.bounds(connection, uplinks) is None


def test_the_journal_is_read_from_a_time_on(store: Store) -> None:
    times = [NOON + timedelta(minutes=minute) for minute in range(4)]
    save(store, [entry(receipt("1^0"), received_at=at) for at in times])

    with store.reading() as connection:
        span = lookups.journal_since(connection, times[2])
        assert span is not None
        found = lookups.journal_of(connection, ["1^0"], [PHONE], span, 10)

    assert [one.received_at for one in found] == times[2:]


def test_rows_that_were_committed_out_of_their_order_are_found(store: Store) -> None:
    # Two processes: the later record got the smaller id.
    times = [NOON + timedelta(seconds=second) for second in (0, 2, 1)]
    save(store, [entry(receipt("1^0"), received_at=at) for at in times])

    with store.reading() as connection:
        span = lookups.journal_since(connection, times[2])
        assert span is not None
        found = lookups.journal_of(connection, ["1^0"], [PHONE], span, 10)

    assert {one.received_at for one in found} >= {times[1], times[2]}


def test_the_journal_of_several_sms_is_read_at_once(store: Store) -> None:
    save(
        store,
        entries(receipt("1^0"), receipt("2^0"), receipt("2^0", phone=OTHER), receipt("3^0")),
    )

    with store.reading() as connection:
        found = lookups.journal_of(connection, ["1^0", "2^0"], [PHONE], ALL, 10)
        first = lookups.journal_of(connection, ["1^0", "2^0"], [PHONE], ALL, 1)

    assert [one.biz_id for one in found] == ["1^0", "2^0"]
    assert len(first) == 1


@pytest.mark.parametrize("text", ["1^0", "100%", "a_b", "签名", "back\\slash"])
def test_the_quarantine_is_sought_for_a_text_as_it_stands(store: Store, text: str) -> None:
    bodies = [f'{{"x":"{text}"}}', '{"x":"1000"}', '{"x":"axb 2^0"}']
    save(
        store,
        [
            entry(None, body=body.encode(), reason=Reason.MISSING_FIELD, received_at=NOON)
            for body in bodies
        ],
    )

    with store.reading() as connection:
        [found] = lookups.quarantined_with(connection, text, 10)

    assert found.body == bodies[0]
    assert found.outcome is Outcome.QUARANTINED


def test_what_is_stored_is_no_quarantine(store: Store) -> None:
    save(store, entries(receipt("1^0")))

    with store.reading() as connection:
        assert lookups.quarantined_with(connection, "1^0", 10) == []


def test_replies_are_found_by_sequence_id_and_by_phone(store: Store) -> None:
    save(store, entries(uplink("7", content="TD"), uplink("8", phone=OTHER), uplink("9")))

    with store.reading() as connection:
        [named] = lookups.replies_with(connection, "7", 5)
        span = lookups.bounds(connection, uplinks)
        assert span is not None
        found = lookups.replies_from(connection, [PHONE], span, 5)
        newest = lookups.replies_from(connection, [PHONE], span, 1)

    assert (named.content, named.sent_at) == ("TD", NOON)
    assert [one.sequence_id for one in found] == ["9", "7"]
    assert newest == found[:1]


def test_an_index_of_the_operators_own_is_used(path: Path) -> None:
    # SQLite says beforehand what it would do; the others decide by statistics.
    store = open_new(path)
    for index, column in (("mine", "receipts (phone)"), ("mine_too", "journal (biz_id)")):
        query(path, f"CREATE INDEX {index} ON {column}")
    statements: list[str] = []
    with store.reading() as connection:
        event.listen(
            connection, "before_cursor_execute", lambda *given: statements.append(given[2])
        )
        lookups.ids_of(connection, "phone", [PHONE], None, ALL)
        lookups.journal_of(connection, ["1^0"], [PHONE], ALL, 10)
    store.close()

    for statement, index in zip(statements, ("mine", "mine_too"), strict=True):
        plan = query(path, "EXPLAIN QUERY PLAN " + statement.replace("?", "'1'"))
        assert f"INDEX {index} " in str(plan)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.booleans(), st.integers(1, 10**5))
def test_ranges_cover_each_id_once(first: int, size: int, newest_first: bool, step: int) -> None:
    span = (first, first + size)

    found = list(lookups.ranges(span, ManualClock(), newest_first=newest_first, step=step))

    in_order = found[::-1] if newest_first else found
    assert (in_order[0][0], in_order[-1][1]) == span
    assert all(left[1] + 1 == right[0] for left, right in itertools.pairwise(in_order))
    assert all(begin <= end for begin, end in found)


def test_ranges_grow_while_they_are_read_fast_and_shrink_while_slow() -> None:
    clock = ManualClock()
    sizes = []
    for begin, end in lookups.ranges((1, 10**7), clock, newest_first=False):
        sizes.append(end - begin + 1)
        if len(sizes) > 3:
            clock.advance(1.0)

    assert sizes[:4] == [20_000, 40_000, 80_000, 160_000]
    assert sizes[4:8] == [80_000, 40_000, 20_000, 20_000]
