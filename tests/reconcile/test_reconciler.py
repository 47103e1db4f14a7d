"""What never came is asked for, by the plan; what nobody can know any more is said to be lost."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete
from structlog.testing import capture_logs

from receiptd.sandbox import Fault, Scenario
from receiptd.sandbox.oddities import Oddities
from receiptd.sandbox.scenario import Fate
from receiptd.store.plan import Due
from receiptd.store.schema import audits, receipts
from tests.databases import databases, fresh_url
from tests.reconcile.world import World, sqlite, world

LOST, SILENT, FINE = "13900000011", "13900000012", "13900000013"
FATES: dict[str, Fate] = {LOST: "lost", SILENT: "unanswered", FINE: "delivered"}


@pytest.fixture(params=databases())
def everywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    scenario = Scenario(phones=FATES, lost_failed=0.0)
    with fresh_url(request.param, tmp_path) as url, world(url, scenario) as one:
        yield one


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    scenario = Scenario(phones=FATES, lost_failed=0.0)
    with world(sqlite(tmp_path), scenario) as one:
        yield one


def use(one: World, **query: object) -> None:
    """Let the queries be odd."""
    one.sandbox.scenario = Scenario(
        phones=FATES, lost_failed=0.0, query=Oddities.model_validate(query)
    )


def test_a_life_of_thirty_days(everywhere: World) -> None:
    one = everywhere
    one.send([LOST, SILENT])

    one.advance(minutes=14)
    one.reconcile()
    assert (one.queries, one.statuses()) == (0, {LOST: "awaited", SILENT: "awaited"})

    one.advance(minutes=1)
    one.reconcile()
    assert one.statuses() == {LOST: "delivered", SILENT: "pending"}
    assert one.queries == 2

    one.advance(minutes=44)
    one.reconcile()
    assert one.queries == 2  # what has ended is not asked about, what waits not before its time
    for _ in range(30):
        one.advance(days=1)
        one.reconcile()
        one.declare_losses()

    assert one.statuses() == {LOST: "delivered", SILENT: "lost"}
    assert one.queries == 2 + 5  # 1h, 6h and 24h at once, then 72h, 7d, 14d, 28d
    assert one.lost == [("main", 1)]
    assert one.rows("next_query_at") == [(None,), (None,)]


def test_days_that_were_missed_cost_one_question(here: World) -> None:
    here.send([SILENT])

    here.advance(days=4)  # 15m, 1h, 6h, 24h and 72h have passed
    here.reconcile()

    assert here.queries == 1
    here.advance(days=2)
    here.reconcile()
    assert here.queries == 1
    here.advance(days=1)
    here.reconcile()
    assert here.queries == 2


def test_an_answer_goes_the_way_of_all_records(here: World) -> None:
    biz_id = here.send([LOST], out_id="order-1")

    here.advance(minutes=15)
    here.reconcile()

    [(source, kind, reason, body)] = here.journal()
    assert (source, kind, reason) == ("query:main", "receipt", None)
    assert json.loads(body)["SendStatus"] == 3
    [row] = here.rows("biz_id", "origin", "err_class", "query_count", "query_place", "out_id")
    assert row == (biz_id, "query", "ok", 1, None, "order-1")
    assert here.told == [("main", "answered")]


def test_what_is_found_nowhere_is_said_and_asked_again(here: World) -> None:
    here.record("900000000000000001^0", [LOST])

    here.advance(minutes=15)
    here.reconcile()

    assert here.statuses() == {LOST: "awaited"}
    assert [(source, reason) for source, _, reason, _ in here.journal()] == [
        ("query:main", "nothing_found")
    ]
    assert here.told == [("main", "nothing")]
    here.advance(hours=1)
    here.reconcile()
    assert here.queries == 2


def test_near_midnight_both_days_are_asked(here: World) -> None:
    seconds = here.clock.now().timestamp() + 8 * 3600
    here.advance(seconds=86400 - seconds % 86400 - 60)  # a minute before China's midnight
    here.record("900000000000000001^0", [SILENT])

    here.advance(minutes=15)
    here.reconcile()

    assert here.queries == 2
    assert len(here.journal()) == 1


def test_a_receipt_that_came_meanwhile_ends_the_questions(everywhere: World) -> None:
    one = everywhere
    one.send([LOST])
    one.advance(minutes=15)
    one.reconcile()
    one.advance(days=31)
    one.declare_losses()
    one.reconcile()

    assert one.statuses() == {LOST: "delivered"}
    assert (one.queries, one.lost) == (1, [])


def test_jushita_is_asked_over_top_and_matched_without_its_id(everywhere: World) -> None:
    one = everywhere
    one.send([LOST], out_id="order-1", account="shop")
    one.send([SILENT], out_id="order-2", account="shop")

    one.advance(minutes=15)
    one.reconcile("shop")

    assert one.statuses() == {LOST: "delivered", SILENT: "pending"}
    assert {source for source, _, _, _ in one.journal()} == {"query:shop"}


def test_a_send_without_an_answer_is_found_by_its_own_id(everywhere: World) -> None:
    one = everywhere
    at = one.clock.now()
    request = {"PhoneNumbers": LOST, "SignName": "示例", "TemplateCode": "SMS_1", "OutId": "o-1"}
    one.ledger().record("SendSms", "main", request, {}, at)
    one.sandbox.send_sms([LOST], out_id="o-1")  # it was sent all the same

    one.advance(minutes=15)
    one.reconcile()

    assert one.statuses() == {LOST: "delivered"}


def test_a_send_without_an_answer_is_bound_to_the_receipt_that_came(everywhere: World) -> None:
    one = everywhere
    at = one.clock.now()
    request = {"PhoneNumbers": FINE, "SignName": "示例", "TemplateCode": "SMS_1", "OutId": "o-1"}
    one.ledger().record("SendSms", "main", request, {}, at)
    one.advance(seconds=10)
    one.record("900000000000000009^0", [FINE], out_id="o-1")  # as a receipt would make it

    one.advance(minutes=15)
    one.reconcile()

    [row] = one.rows("biz_id", "submitted_at", "sign_name")
    assert row == ("900000000000000009^0", at, "示例")


def test_what_cannot_be_told_from_others_is_not_asked_and_is_lost_in_the_end(here: World) -> None:
    request = {"PhoneNumbers": LOST, "SignName": "示例", "TemplateCode": "SMS_1"}
    here.ledger().record("SendSms", "main", request, {}, here.clock.now())
    here.record("107888000000001", [SILENT], send_api="SendMessageToGlobe")

    for _ in range(31):
        here.advance(days=1)
        here.reconcile()
        here.declare_losses()

    assert here.queries == 0
    assert here.statuses() == {LOST: "lost", SILENT: "lost"}


def test_the_one_that_is_lost_first_is_asked_about_first(here: World) -> None:
    here.record("900000000000000002^0", [SILENT])
    here.advance(days=20)
    here.record("900000000000000001^0", [LOST])
    here.advance(days=1)

    here.reconcile()

    asked = [name for name, _, _, _ in here.journal()]
    assert len(asked) == 2
    with here.store.reading() as connection:
        from receiptd.store.schema import journal

        ids = [row.biz_id for row in connection.execute(journal.select().order_by(journal.c.id))]
    assert ids == ["900000000000000002^0", "900000000000000001^0"]


def test_throttling_is_waited_out_and_nothing_is_forgotten(here: World) -> None:
    use(here, calls_per_s=1)
    for number in range(30):
        here.send([f"139000010{number:02d}"])
    here.advance(minutes=15)

    here.reconciler(per_second=4).run_once()

    assert set(here.statuses().values()) == {"delivered"}
    words = [word for _, word in here.told]
    assert words.count("answered") == 30
    assert 0 < words.count("unavailable") <= 6  # it slows down instead of asking in vain


def test_an_outage_leaves_every_question_where_it_was(here: World) -> None:
    here.send([LOST])
    here.advance(minutes=15)
    here.sandbox.set_fault(Fault(kind="status", status=503, operation="query_details"))
    reconciler = here.reconciler()
    with capture_logs() as lines:
        reconciler.run_once()
        assert here.statuses() == {LOST: "awaited"}

        here.sandbox.clear_faults()
        here.advance(minutes=15)
        reconciler.run_once()

    assert here.statuses() == {LOST: "delivered"}
    failed, recovered = [line for line in lines if line["event"].startswith("query.")]
    assert (failed["event"], failed["account"], failed["http"]) == ("query.failed", "main", 503)
    assert (recovered["event"], recovered["attempts"]) == ("query.recovered", 3)
    assert here.rows("query_count") == [(1,)]


def test_a_refused_account_is_told_and_tried_again_later(here: World) -> None:
    here.accounts["main"] = here.accounts["main"].model_copy(update={"access_key_id": "unknownAK"})
    here.send([LOST])
    here.advance(minutes=15)

    here.reconcile()

    assert here.statuses() == {LOST: "awaited"}
    assert [word for _, word in here.told] == ["refused"] * 3 + ["put_off"]


def test_the_rate_is_kept(here: World) -> None:
    for number in range(20):
        here.send([f"139000001{number:02d}"])
    here.advance(minutes=15)
    began_at = here.clock.monotonic()

    here.reconciler(per_second=5).run_once()

    assert here.clock.monotonic() - began_at >= 19 / 5


def test_only_one_of_several_processes_asks(here: World) -> None:
    here.send([LOST])
    here.advance(minutes=15)
    other = here.store.leases("other")
    assert other.acquire("query:main", 15)

    here.reconcile()
    assert here.queries == 0

    here.advance(seconds=15)  # the other one died
    here.reconcile()
    assert here.queries == 1


def test_what_came_of_the_questions_is_logged(here: World) -> None:
    here.send([LOST, FINE])
    here.send([SILENT])
    here.advance(minutes=15)

    with capture_logs() as lines:
        here.reconcile()

    [told] = [line for line in lines if line["event"] == "reconcile.progress"]
    assert (told["account"], told["answered"], told["waiting"]) == ("main", 2, 1)


def test_when_all_is_asked_another_process_can_ask_at_once(here: World) -> None:
    here.send([LOST])
    here.advance(minutes=15)

    here.reconcile()

    assert here.store.leases("other").acquire("query:main", 15)


def test_a_bug_in_one_question_holds_back_no_other(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.send([LOST, FINE])
    here.advance(minutes=15)
    reconciler = here.reconciler()
    ask = reconciler._asker.ask

    def fails_for_one(due: Due) -> bool:
        if due.phone.endswith(LOST):
            raise ZeroDivisionError
        return ask(due)

    monkeypatch.setattr(reconciler._asker, "ask", fails_for_one)
    with capture_logs() as lines:
        reconciler.run_once()

    assert here.statuses() == {LOST: "awaited", FINE: "delivered"}
    assert {line["event"] for line in lines if "exc_info" in line} == {"worker.failed"}
    here.advance(minutes=1)
    asked_before = here.queries
    here.reconcile()  # it was put off, and does not spin
    assert here.queries == asked_before


def test_a_row_that_is_gone_meanwhile_is_not_made_again(here: World) -> None:
    here.send([LOST])
    here.advance(minutes=15)
    reconciler = here.reconciler()
    due = reconciler._due()
    with here.store.writing() as connection:
        connection.execute(delete(receipts))

    reconciler._leases.acquire(reconciler.lease, 15)
    reconciler._ask_all(due)

    assert (here.rows("id"), here.journal()) == ([], [])


def test_two_processes_say_once_that_a_send_is_lost(here: World) -> None:
    here.record("900000000000000001^0", [SILENT])
    here.advance(days=30)

    here.declare_losses()
    here.declare_losses()

    assert here.lost == [("main", 1)]
    assert [(source, reason) for source, _, reason, _ in here.journal()] == [
        ("reconcile", "window_closed")
    ]


def test_a_receipt_still_beats_a_loss(everywhere: World) -> None:
    one = everywhere
    biz_id = one.send([SILENT])
    one.advance(days=30)
    one.declare_losses()
    assert one.statuses() == {SILENT: "lost"}

    one.sandbox.send_sms([FINE])
    from receiptd.model import Origin, Receipt, Status

    one.store.record_sends(
        [
            Receipt(
                provider="aliyun",
                account="main",
                biz_id=biz_id,
                phone=f"+86{SILENT}",
                status=Status.DELIVERED,
                origin=Origin.QUEUE,
            )
        ]
    )

    assert one.statuses() == {SILENT: "delivered"}


def test_the_daemon_audits_the_days_that_are_over(here: World) -> None:
    here.sandbox.send_sms([FINE])  # nobody told the ledger, and its receipt was never pulled
    here.advance(days=1, hours=2)
    reconciler = here.reconciler()
    reconciler.run_once()
    assert here.sandbox.request_counts["query_statistics"] == 0  # the queues first
    here.advance(minutes=5)
    reconciler.run_once()
    here.advance(minutes=20)
    reconciler.run_once()

    with here.store.reading() as connection:
        found = connection.execute(audits.select()).mappings().all()
    assert sorted(row["provider_total"] - row["held_total"] for row in found) == [0, 0, 1]
    assert here.sandbox.request_counts["query_statistics"] == 6  # two calls a day, once
