"""Reconciliation's work list, on each database."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from receiptd.clock import ManualClock
from receiptd.model import Origin, Receipt, Status
from receiptd.store import Store, open_store, plan
from receiptd.store.merge import key
from receiptd.store.plan import Span, WhoseTurn
from receiptd.store.schema import receipts
from tests.databases import databases, fresh_url

SENT = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(params=databases())
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with fresh_url(request.param) as url:
        store = open_store(url, ManualClock(SENT))
        store.upgrade()
        yield store
        store.close()


def receipt(number: int, status: Status = Status.AWAITED, **values: object) -> Receipt:
    fields: dict[str, object] = {
        "provider": "aliyun",
        "account": "main",
        "biz_id": f"9000000000000{number:05d}^0",
        "phone": f"+86139000{number:05d}",
        "status": status,
        "origin": Origin.SEND if status is Status.AWAITED else Origin.QUEUE,
        "submitted_at": SENT + number * MINUTE if status is Status.AWAITED else None,
    }
    return Receipt(**(fields | values))  # type: ignore[arg-type]


def planned(store: Store) -> list[datetime | None]:
    with store.reading() as connection:
        query = select(receipts.c.next_query_at).order_by(receipts.c.biz_id)
        return list(connection.scalars(query))


def due(store: Store, now: datetime, *, sent_after: datetime = SENT - DAY) -> list[str]:
    turn = WhoseTurn(now=now, sent_after=sent_after, provider="aliyun", account="main")
    with store.reading() as connection:
        found = plan.due(connection, turn, 100)
        assert plan.is_due(connection, turn) is bool(found)
    return [one.biz_id[13:18] for one in found]


def test_a_send_is_planned_once_and_a_send_without_a_time_never(store: Store) -> None:
    sends = [receipt(1), receipt(2, submitted_at=None)]
    store.record_sends(sends, ask_after=15 * MINUTE)
    store.record_sends(sends, ask_after=99 * MINUTE)

    assert planned(store) == [SENT + 16 * MINUTE, None]


@pytest.mark.parametrize("end", [Status.DELIVERED, Status.FAILED, Status.UNKNOWN, Status.LOST])
def test_whatever_ends_a_send_ends_its_plan_in_either_order(store: Store, end: Status) -> None:
    store.record_sends([receipt(1)])
    store.record_sends([receipt(1, end)])
    store.record_sends([receipt(2, end)])
    store.record_sends([receipt(2)])

    assert planned(store) == [None, None]


def test_a_provider_that_waits_leaves_the_plan_alone(store: Store) -> None:
    store.record_sends([receipt(1)])
    before = planned(store)
    store.record_sends([receipt(1, Status.PENDING)])
    store.record_sends([receipt(1, Status.PENDING)])

    assert planned(store) == before != [None]


def test_what_is_due_comes_in_the_order_of_its_deadline(store: Store) -> None:
    store.record_sends([receipt(3), receipt(1), receipt(2)])
    with store.writing() as connection:
        plan.put_off(connection, [(key(receipt(1)), SENT)])
    store.record_sends([receipt(4, account="other"), receipt(5, provider="jushita")])

    assert due(store, SENT - MINUTE) == []
    assert due(store, SENT) == ["00001"]
    assert due(store, SENT + HOUR) == ["00001", "00002", "00003"]
    assert due(store, SENT + HOUR, sent_after=SENT + MINUTE) == ["00002", "00003"]


def test_many_are_put_off_at_once_each_to_its_time_but_not_what_has_ended(store: Store) -> None:
    store.record_sends([receipt(1), receipt(2), receipt(3), receipt(3, Status.DELIVERED)])

    with store.writing() as connection:
        later = [(key(receipt(number)), SENT + number * DAY) for number in (1, 2, 3)]
        plan.put_off(connection, later)
        plan.put_off(connection, [])

    assert planned(store) == [SENT + DAY, SENT + 2 * DAY, None]


def test_what_is_over_is_found_whoever_it_belongs_to(store: Store) -> None:
    store.record_sends([receipt(1), receipt(2, account="gone"), receipt(50)])
    with store.reading() as connection:
        over = plan.over(connection, SENT + 31 * DAY, SENT + 10 * MINUTE, 100)

    assert sorted(one.account for one in over) == ["gone", "main"]


def test_a_span_can_be_hastened_and_counted(store: Store) -> None:
    store.record_sends([receipt(number) for number in range(1, 6)])
    span = Span(since=SENT + 2 * MINUTE, until=SENT + 4 * MINUTE, account="main")
    with store.writing() as connection:
        assert plan.hasten(connection, span, SENT) == 2
        assert plan.hasten(connection, span, SENT) == 0
    with store.reading() as connection:
        everything = plan.backlog(connection, Span())
        now = plan.backlog(connection, Span(), SENT)
        first = plan.listed(connection, Span(), None, 2)

    assert (everything.rows, everything.oldest) == (5, SENT + MINUTE)
    assert (now.rows, now.oldest) == (2, SENT + 2 * MINUTE)
    assert [one.biz_id[13:18] for one in first] == ["00001", "00002"]


def test_an_unanswered_send_is_found_by_its_own_id_and_number(store: Store) -> None:
    unanswered = receipt(1, biz_id="unanswered:1", out_id="order-1")
    store.record_sends(
        [
            unanswered,
            receipt(1, out_id="order-1"),
            receipt(2, out_id="order-1"),
            receipt(1, biz_id="failed:1", out_id="order-1", status=Status.FAILED),
            receipt(1, biz_id="unanswered:2", out_id="order-2"),
        ]
    )
    with store.reading() as connection:
        asked = [
            one
            for one in plan.listed(connection, Span(), None, 100)
            if one.biz_id.startswith("unanswered:")
        ]
        found = plan.find_sent(connection, asked)

    assert found == {("unanswered:1", unanswered.phone, "aliyun", "main"): receipt(1).biz_id}
