"""A question of several pages: each is stored as it comes, and none is asked for twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptd.sandbox import Fault, Scenario
from receiptd.sandbox.oddities import Oddities
from tests.reconcile.world import World, sqlite, world

PHONE = "13900000011"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(sqlite(tmp_path), Scenario()) as one:
        yield one


def unanswered_among(one: World, count: int, *, arrived: bool = True) -> None:
    """Send to one number, without an answer for the ledger; then `count` times more. If it has not
    `arrived`, the provider knows nothing of the first."""
    request = {"PhoneNumbers": PHONE, "SignName": "示例", "TemplateCode": "SMS_1", "OutId": "o-1"}
    one.ledger().record("SendSms", "main", request, {}, one.clock.now())
    if arrived:
        one.sandbox.send_sms([PHONE], out_id="o-1")
    for number in range(count):
        one.sandbox.send_sms([PHONE], out_id=f"other-{number}")
    one.advance(minutes=15)


def test_all_pages_are_asked_until_the_send_is_found(here: World) -> None:
    unanswered_among(here, 120)  # the newest come first, so ours is on the third page

    here.reconcile()

    assert here.statuses() == {PHONE: "delivered"}
    assert here.queries == 3


@pytest.mark.parametrize(("without_out_id", "reason"), [(0.0, "nothing_found"), (1.0, "undecided")])
def test_rows_that_may_be_of_another_send_are_told_apart_from_none(
    here: World, without_out_id: float, reason: str
) -> None:
    here.sandbox.scenario = Scenario(query=Oddities(without_out_id=without_out_id))
    unanswered_among(here, 60, arrived=False)

    here.reconcile()

    assert here.statuses() == {PHONE: "awaited"}
    assert {told for _, _, told, _ in here.journal()} == {reason}


def test_after_a_crash_between_pages_it_goes_on_where_it_was(here: World) -> None:
    unanswered_among(here, 120)
    reconciler = here.reconciler()
    here.sandbox.set_fault(Fault(kind="status", status=503, operation="query_details", skip=2))
    here.told.clear()
    reconciler._leases.acquire(reconciler.lease, 60)
    [due] = reconciler._due()
    assert not reconciler._asker.ask(due)  # two pages, then the process dies
    [(place, count)] = here.rows("query_place", "query_count")
    assert (str(place).rpartition("/")[2], count) == ("3", 0)
    here.sandbox.clear_faults()
    here.advance(seconds=60)
    asked_before = here.queries

    here.reconciler(instance="heir").run_once()

    assert here.statuses() == {PHONE: "delivered"}
    assert here.queries - asked_before == 1
    assert here.rows("query_place", "query_count") == [(None, 1)]
