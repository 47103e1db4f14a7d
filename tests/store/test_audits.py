"""Audits: which rows are of a China day, what is stored, and what is made due."""

import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert

from receiptd.store import Store, audits
from receiptd.store.audits import Audit, HeldCounts
from receiptd.store.schema import receipts
from tests.store.store_samples import Database

DAY = date(2026, 5, 6)
BEGIN = datetime(2026, 5, 5, 16, tzinfo=UTC)  # midnight in China
NOON = BEGIN + timedelta(hours=12)
NOW = BEGIN + timedelta(days=3)
LATER = NOW + timedelta(hours=5)
SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)

AUDIT = Audit(
    provider="aliyun",
    account="main",
    day=DAY,
    provider_total=10,
    provider_delivered=7,
    provider_failed=2,
    provider_pending=1,
    held_total=9,
    held_delivered=6,
    held_failed=2,
    held_pending=1,
    audited_at=NOW,
)


def add(store: Store, biz_id: str, **fields: Any) -> None:
    """A row, as it is or may become."""
    row: dict[str, Any] = {
        "provider": "aliyun",
        "account": "main",
        "biz_id": biz_id,
        "phone": "+8613900000001",
        "status": "delivered",
        "origin": "queue",
        "sent_at": NOON,
        "created_at": NOON,
        "updated_at": NOON,
    }
    with store.writing() as connection:
        connection.execute(insert(receipts).values(**(row | fields)))


def held(store: Store, day: date = DAY, **who: str) -> HeldCounts:
    return audits.held(store.reading, **({"provider": "aliyun", "account": "main"} | who), day=day)


def make_due(store: Store) -> int:
    with store.writing() as connection:
        return audits.make_due(connection, "aliyun", "main", DAY, NOW)


def due_times(database: Database) -> dict[str, datetime | None]:
    return {row["biz_id"]: row["next_query_at"] for row in database.rows()}


def test_nothing_is_held_of_an_empty_table(store: Store) -> None:
    assert held(store) == HeldCounts(0, 0, 0, 0)


def test_what_has_no_end_counts_as_pending(store: Store) -> None:
    for status in ("delivered", "failed", "unknown", "lost", "pending", "awaited"):
        add(store, f"{status}^0", status=status)
    add(store, "another^0")

    assert held(store) == HeldCounts(total=7, delivered=2, failed=1, pending=4)


def test_a_day_is_chinas_to_the_microsecond(store: Store) -> None:
    end = BEGIN + timedelta(days=1)
    for number, moment in enumerate((BEGIN - MICROSECOND, BEGIN, end - MICROSECOND, end)):
        add(store, f"{number}^0", sent_at=moment, created_at=moment)
        add(store, f"{number}^1", sent_at=None, submitted_at=moment, created_at=moment)

    assert held(store).total == 4
    for other in (DAY - timedelta(days=1), DAY + timedelta(days=1)):
        assert held(store, other).total == 2


def test_a_send_counts_on_the_day_on_which_the_provider_sent_it(store: Store) -> None:
    add(store, "1^0", submitted_at=BEGIN - SECOND, sent_at=BEGIN + SECOND)

    assert held(store).total == 1
    assert held(store, DAY - timedelta(days=1)).total == 0


def test_what_nobody_dates_is_on_no_day(store: Store) -> None:
    add(store, "1^0", sent_at=None, submitted_at=None)

    assert held(store).total == 0


def test_what_the_api_refused_was_never_counted_by_the_provider(store: Store) -> None:
    add(store, "failed:0123456789abcdef", status="failed", submitted_at=NOON)

    assert held(store).total == 0


def test_a_send_without_an_answer_counts_once_the_provider_knew_of_it(store: Store) -> None:
    for status in ("awaited", "lost", "pending", "unknown", "failed", "delivered"):
        add(store, f"unanswered:{status}", status=status, submitted_at=NOON)

    assert held(store) == HeldCounts(total=4, delivered=1, failed=1, pending=2)


def test_accounts_and_providers_are_counted_apart(store: Store) -> None:
    add(store, "1^0")
    add(store, "2^0", account="other")
    add(store, "3^0", account="other")
    add(store, "4^0", provider="jushita")

    assert held(store).total == 1
    assert held(store, account="other").total == 2
    assert held(store, provider="jushita").total == 1


def test_steps_are_added_up_past_gaps_and_rows_of_other_days(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "STEP_IDS", 3)
    for number in (1, 2, 3, 4, 5, 6, 7, 50, 51, 1000):
        add(store, f"{number}^0", id=number, created_at=BEGIN + number * SECOND)
    for number in (2000, 2001):
        next_day = NOON + timedelta(days=1)
        add(store, f"{number}^0", id=number, sent_at=next_day, created_at=next_day)

    assert held(store).total == 10


def test_rows_from_before_the_day_are_not_even_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = BEGIN - timedelta(days=3)
    for number in range(1, 9):
        add(store, f"{number}^0", id=number, sent_at=old, created_at=old)
    add(store, "9^0", id=9)
    # A row that could not be of the day but for its impossible time of creation: read, it counts.
    add(store, "8^1", id=10, created_at=NOON)
    monkeypatch.setattr(audits, "STEP_IDS", 1)
    reads = []

    def reading() -> Any:
        reads.append(1)
        return store.reading()

    assert audits.held(reading, "aliyun", "main", DAY).total == 2
    assert len(reads) == 1 + 2


def test_what_the_provider_held_back_over_night_is_found(store: Store) -> None:
    evening = BEGIN - timedelta(hours=3)
    add(store, "1^0", created_at=evening, submitted_at=evening, sent_at=NOON)

    assert held(store).total == 1


def test_a_late_import_is_of_the_day_on_which_it_was_sent(store: Store) -> None:
    add(store, "1^0", created_at=NOON + timedelta(days=20))

    assert held(store).total == 1


def test_an_audit_is_read_as_it_was_saved(store: Store) -> None:
    with store.writing() as connection:
        audits.save(connection, AUDIT)

    with store.reading() as connection:
        assert audits.latest(connection, DAY) == [AUDIT]
        assert audits.latest(connection, DAY + timedelta(days=1)) == []


def test_an_audit_replaces_the_one_before_it(store: Store) -> None:
    again = msgspec.structs.replace(AUDIT, held_total=10, audited_at=LATER)
    for one in (AUDIT, again, again):
        with store.writing() as connection:
            audits.save(connection, one)

    with store.reading() as connection:
        assert audits.latest(connection, DAY) == [again]


def test_the_latest_audits_come_first_and_each_account_has_its_own(store: Store) -> None:
    tomorrow = DAY + timedelta(days=1)
    for account, day in (("shop", DAY), ("main", DAY), ("main", tomorrow)):
        with store.writing() as connection:
            audits.save(connection, msgspec.structs.replace(AUDIT, account=account, day=day))

    with store.reading() as connection:
        found = [(one.day, one.account) for one in audits.latest(connection, DAY)]
    assert found == [(tomorrow, "main"), (DAY, "main"), (DAY, "shop")]


def test_two_processes_that_audit_at_once_leave_one_row(database: Database, store: Store) -> None:
    other = database.open(upgrade=False)
    both = threading.Barrier(2)
    raised: list[BaseException] = []

    def audit(one: Store, held_total: int) -> None:
        try:
            for number in range(20):
                day = DAY + timedelta(days=number)
                both.wait(10)
                with one.writing() as connection:
                    saved = msgspec.structs.replace(AUDIT, day=day, held_total=held_total)
                    audits.save(connection, saved)
        except BaseException as exc:
            raised.append(exc)
            both.abort()

    threads = [
        threading.Thread(target=audit, args=(one, total)) for one, total in ((store, 1), (other, 2))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    other.close()

    assert raised == []
    assert database.count("audits") == 20


@pytest.mark.parametrize(
    ("fields", "differs"),
    [
        ({}, True),
        ({"held_total": 10, "held_delivered": 7}, False),
        ({"held_total": 10, "held_delivered": 6, "held_pending": 2}, True),
        ({"held_total": 10, "held_delivered": 7, "held_failed": 1, "held_pending": 2}, True),
        # The provider's own counts do not add up: there is nothing of ours to mend.
        ({"held_total": 10, "held_delivered": 7, "provider_pending": 3}, False),
    ],
)
def test_an_audit_says_whether_the_sides_agree(fields: Any, differs: bool) -> None:
    assert msgspec.structs.replace(AUDIT, **fields).differs is differs


def test_the_counts_of_both_sides_have_the_same_names() -> None:
    assert AUDIT.theirs == {"total": 10, "delivered": 7, "failed": 2, "pending": 1}
    assert AUDIT.ours == {"total": 9, "delivered": 6, "failed": 2, "pending": 1}


def test_audits_of_the_last_week_that_differ_are_found_whatever_they_differ_in(
    store: Store,
) -> None:
    same = msgspec.structs.replace(AUDIT, held_total=10, held_delivered=7)
    of_days: list[dict[str, Any]] = [
        {},
        {"held_total": 9},
        {"held_delivered": 6},
        {"held_failed": 1},
        {"provider_pending": 3},
        {},
        {},
        {"held_total": 11},
        {"held_total": 9},
    ]
    with store.writing() as connection:
        for ago, fields in enumerate(of_days):
            day = DAY - timedelta(days=ago)
            audits.save(connection, msgspec.structs.replace(same, day=day, **fields))

    with store.reading() as connection:
        found = audits.differing(connection, DAY)

    assert [(DAY - one.day).days for one in found] == [1, 2, 3, 7]


def test_open_rows_of_the_day_that_are_planned_for_later_are_made_due(
    database: Database, store: Store
) -> None:
    planned = {"status": "awaited", "sent_at": None, "submitted_at": NOON, "next_query_at": LATER}
    early, tomorrow = NOW - SECOND, BEGIN + timedelta(days=1)
    add(store, "awaited", **planned)
    add(store, "pending", **(planned | {"status": "pending", "sent_at": NOON}))
    add(store, "due", **(planned | {"next_query_at": early}))
    add(store, "unplanned", **(planned | {"next_query_at": None}))
    add(store, "undated", **(planned | {"submitted_at": None, "sent_at": NOON}))
    add(store, "another day", **(planned | {"submitted_at": tomorrow}))
    add(store, "over midnight", **(planned | {"sent_at": tomorrow}))
    add(store, "another account", **(planned | {"account": "other"}))
    add(store, "another provider", **(planned | {"provider": "jushita"}))
    add(store, "delivered", **(planned | {"status": "delivered"}))
    add(store, "lost", **(planned | {"status": "lost"}))

    assert make_due(store) == 2

    times = due_times(database)
    assert [name for name, time in times.items() if time == NOW] == ["awaited", "pending"]
    assert times["due"] == early
    assert times["unplanned"] is None
    assert make_due(store) == 0


def test_many_rows_are_made_due_in_several_transactions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "STEP_ROWS", 3)
    for number in range(7):
        add(store, f"{number}^0", status="awaited", submitted_at=NOON, next_query_at=LATER)

    assert [make_due(store) for _ in range(4)] == [3, 3, 1, 0]
