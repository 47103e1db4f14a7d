"""The ledger: sends become rows, on every database, in whatever order they and their receipts
come."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from receiptd.clock import ManualClock
from receiptd.errors import ConfigError, StoreRejected, StoreUnavailable
from receiptd.ledger import Ledger, Recorded, Send, UnreadableSend, books_of
from receiptd.ledger_import import Importer, Line, moment
from receiptd.model import Origin, Receipt
from receiptd.pipeline import Pipeline
from receiptd.plugins import find_provider
from receiptd.providers.base import Context, Provider
from receiptd.store import SaveResult, Store, open_store
from receiptd.store.merge import Key
from tests.databases import ask, databases, fresh_url
from tests.fakes import envelope, sms_report
from tests.row_counts import by_outcome

AT = datetime(2026, 1, 1, tzinfo=UTC)
PHONE = "+8613900000001"
REQUEST = {
    "PhoneNumbers": "13900000001",
    "SignName": "云通信",
    "TemplateCode": "SMS_1",
    "OutId": "order-1",
}
ACCEPTED = {"Code": "OK", "Message": "OK", "RequestId": "R-000001", "BizId": "900000000000000001^0"}
REFUSED = {
    "Code": "isv.BUSINESS_LIMIT_CONTROL",
    "Message": "触发天级流控Permits:40",
    "RequestId": "R-000002",
}
COLUMNS = (
    "provider, account, biz_id, phone, out_id, status, err_code, err_class, sign_name, "
    "template_code, send_api, submitted_at, origin, next_query_at"
)
FIXTURES = Path(__file__).parent / "fixtures" / "sends"


def provider(name: str) -> Provider:
    found = find_provider(name, "accounts.x.provider", [])
    assert found is not None
    return found


def accounts() -> dict[str, Any]:
    return {
        "main": books_of(provider("aliyun"), "main"),
        "live": books_of(provider("polyv"), "live", "main"),
        "shop": books_of(provider("jushita"), "shop"),
    }


@pytest.fixture(params=databases())
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = open_store(url, ManualClock(AT))
    store.upgrade()
    yield store
    store.close()


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store, accounts(), ManualClock(AT))


def rows(url: str) -> list[dict[str, Any]]:
    names = [name.strip() for name in COLUMNS.split(",")]
    found = ask(url, f"SELECT {COLUMNS} FROM receipts ORDER BY biz_id, phone")
    return [dict(zip(names, row, strict=True)) for row in found]


def receive(store: Store, body: bytes) -> None:
    pipeline = Pipeline(
        context=Context("aliyun", "main", Origin.QUEUE),
        normalize=provider("aliyun").normalizers["SmsReport"],
        store=store,
        clock=ManualClock(AT),
    )
    pipeline.process([envelope(body)])


def test_a_send_is_an_awaited_row_and_no_journal_row(
    ledger: Ledger, store: Store, url: str
) -> None:
    recorded = ledger.record("SendSms", "main", REQUEST, ACCEPTED, AT)

    assert recorded == Recorded(rows=1, accepted=1, changed=1)
    [row] = rows(url)
    row.pop("submitted_at")
    assert row.pop("next_query_at") is not None  # it will be asked about
    assert row == {
        "provider": "aliyun",
        "account": "main",
        "biz_id": "900000000000000001^0",
        "phone": PHONE,
        "out_id": "order-1",
        "status": "awaited",
        "err_code": None,
        "err_class": None,
        "sign_name": "云通信",
        "template_code": "SMS_1",
        "send_api": "SendSms",
        "origin": "send",
    }
    assert by_outcome(store) == {}


def test_a_receipt_before_its_send_gives_the_same_row_as_after_it(
    ledger: Ledger, store: Store, url: str
) -> None:
    answer = ACCEPTED
    report = json.loads(sms_report(1, phone="13900000001"))
    body = json.dumps(report | {"biz_id": answer["BizId"]}).encode()

    receive(store, body)
    ledger.record("SendSms", "main", REQUEST, answer, AT)
    first = rows(url)
    ask(url, "DELETE FROM receipts")
    ledger.record("SendSms", "main", REQUEST, answer, AT)
    receive(store, body)

    [row] = rows(url)
    assert first == [row]
    assert (row["status"], row["origin"]) == ("delivered", "queue")
    assert (row["send_api"], row["template_code"]) == ("SendSms", "SMS_1")
    assert row["submitted_at"] is not None


def test_recording_twice_changes_nothing(ledger: Ledger, url: str) -> None:
    ledger.record("SendSms", "main", REQUEST, ACCEPTED, AT)
    before = rows(url)

    recorded = ledger.record("SendSms", "main", REQUEST, ACCEPTED, AT)

    assert recorded == Recorded(rows=1, accepted=1, changed=0)
    assert rows(url) == before


def test_a_refused_send_is_failed_with_its_code_and_class(ledger: Ledger, url: str) -> None:
    recorded = ledger.record("SendSms", "main", REQUEST, REFUSED, AT)

    assert recorded == Recorded(rows=1, refused=1, changed=1)
    [row] = rows(url)
    assert (row["status"], row["err_code"]) == ("failed", "isv.BUSINESS_LIMIT_CONTROL")
    assert (row["err_class"], row["biz_id"]) == ("limit", "failed:R-000002")


def test_a_polyv_send_stands_under_the_aliyun_account(ledger: Ledger, url: str) -> None:
    fixture = json.loads((FIXTURES / "polyv/polyv/documented_example.json").read_text())

    recorded = ledger.record("polyv", "live", fixture["request"], fixture["response"], AT)

    assert recorded == Recorded(rows=2, accepted=1, refused=1, changed=2)
    assert {(row["provider"], row["account"]) for row in rows(url)} == {("aliyun", "main")}


def test_the_answer_takes_the_place_of_no_answer(ledger: Ledger, url: str) -> None:
    recorded = ledger.record("SendSms", "main", REQUEST, {}, AT)
    assert recorded == Recorded(rows=1, unanswered=1, changed=1)
    [row] = rows(url)
    assert row["biz_id"].startswith("unanswered:")

    ledger.record("SendSms", "main", REQUEST, ACCEPTED, AT)

    [row] = rows(url)
    assert row["biz_id"] == ACCEPTED["BizId"]


def test_the_answer_to_another_call_of_the_same_request_leaves_it_open(
    ledger: Ledger, url: str
) -> None:
    ledger.record("SendSms", "main", REQUEST, {}, AT)

    ledger.record("SendSms", "main", REQUEST, ACCEPTED, AT + timedelta(seconds=1))

    assert len(rows(url)) == 2


def test_a_number_that_an_answer_passes_over_stays_open(ledger: Ledger, url: str) -> None:
    fixture = json.loads((FIXTURES / "polyv/polyv/a_number_is_passed_over.json").read_text())
    ledger.record("polyv", "live", fixture["request"], {}, AT)
    before = len(rows(url))

    recorded = ledger.record("polyv", "live", fixture["request"], fixture["response"], AT)

    assert recorded.unanswered > 0
    assert len(rows(url)) == before


def test_an_open_row_that_was_decided_is_not_deleted(ledger: Ledger, url: str) -> None:
    ledger.record("SendSms", "main", REQUEST, {}, AT)
    ask(url, "UPDATE receipts SET status = 'delivered'")

    ledger.record("SendSms", "main", REQUEST, ACCEPTED, AT)

    assert len(rows(url)) == 2


def test_a_thousand_numbers_are_one_transaction(ledger: Ledger, url: str) -> None:
    phones = ",".join(f"139{number:08d}" for number in range(1000))

    recorded = ledger.record("SendSms", "main", REQUEST | {"PhoneNumbers": phones}, ACCEPTED, AT)

    assert recorded == Recorded(rows=1000, accepted=1000, changed=1000)
    assert ask(url, "SELECT count(*) FROM receipts") == [(1000,)]


# --- without a database ---


class Busy:
    """A store whose first calls find the database locked."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.calls = 0

    def record_sends(
        self, sends: Sequence[Receipt], settled: Sequence[Key] = (), *, ask_after: timedelta
    ) -> SaveResult:
        self.calls += 1
        if self.calls <= self.times:
            raise StoreUnavailable("locked")
        return SaveResult(changed=len(sends), unchanged=0)


def test_a_busy_database_is_tried_again_after_growing_pauses() -> None:
    clock, busy = ManualClock(AT), Busy(3)

    recorded = Ledger(busy, accounts(), clock, attempts=4).record(
        "SendSms", "main", REQUEST, ACCEPTED, AT
    )

    assert recorded.changed == 1
    assert clock.monotonic() == pytest.approx(0.2 + 0.4 + 0.8)


def test_a_database_that_stays_busy_is_unavailable() -> None:
    busy = Busy(9)

    with pytest.raises(StoreUnavailable):
        Ledger(busy, accounts(), ManualClock(AT)).record("SendSms", "main", REQUEST, ACCEPTED, AT)

    assert busy.calls == 2


@pytest.fixture
def pure() -> Ledger:
    return Ledger(Busy(0), accounts(), ManualClock(AT))


def test_an_unknown_api_is_told_with_those_of_the_account(pure: Ledger) -> None:
    with pytest.raises(UnreadableSend, match=r"no such send API; .*SendBatchSms.*SendSms"):
        pure.record("SendSMS", "main", REQUEST, ACCEPTED, AT)


def test_an_unknown_account_is_told_with_those_there_are(pure: Ledger) -> None:
    with pytest.raises(ConfigError, match=r"accounts\.other: .*live, main, shop"):
        pure.record("SendSms", "other", REQUEST, ACCEPTED, AT)


def test_what_is_no_send_is_told_without_its_values(pure: Ledger) -> None:
    with pytest.raises(UnreadableSend) as caught:
        pure.record("SendSms", "main", {"SignName": "secret"}, ACCEPTED, AT)

    assert str(caught.value).startswith("PhoneNumbers is missing; ")
    assert "secret" not in str(caught.value)


def test_a_time_without_a_zone_is_a_bug_of_the_caller(pure: Ledger) -> None:
    with pytest.raises(ValueError, match="zone"):
        pure.record("SendSms", "main", REQUEST, ACCEPTED, AT.replace(tzinfo=None))


def test_jushita_sends_stand_under_their_own_account(pure: Ledger) -> None:
    fixture = json.loads((FIXTURES / "jushita/jushita/documented_example.json").read_text())

    send = pure.read("jushita", "shop", fixture["request"], fixture["response"], AT)

    assert {(one.provider, one.account) for one in send.receipts} == {("jushita", "shop")}


def test_saving_nothing_is_nothing(pure: Ledger) -> None:
    assert pure.save([Send([])]) == Recorded()


OWN = {"phone": "13900000001", "biz_id": "9^0", "out_id": "a", "send_api": "SendSms"}


def test_our_own_shape_is_an_accepted_send(pure: Ledger) -> None:
    [receipt] = pure.read_own("main", OWN, AT).receipts

    assert (receipt.biz_id, receipt.phone, receipt.out_id) == ("9^0", PHONE, "a")
    assert (receipt.send_api, receipt.submitted_at, receipt.status) == ("SendSms", AT, "awaited")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"phone": ""}, "phone is missing"),
        ({"phone": "1.39E+10"}, "phone is no number"),
        ({"biz_id": None}, "biz_id is missing"),
        ({"biz_id": "x" * 129}, "biz_id cannot be read"),
        ({"biz_id": "failed:R-000002"}, "receiptd's own"),
        ({"provider": "jushita"}, "another than the account's"),
        ({"out_id": "x" * 257}, "out_id cannot be read"),
    ],
)
def test_our_own_shape_is_refused_with_the_rule(
    pure: Ledger, change: dict[str, Any], rule: str
) -> None:
    with pytest.raises(UnreadableSend, match=rule):
        pure.read_own("main", OWN | change, AT)


# --- importing ---


class Picky:
    """A store that refuses what holds the number +8613900000002, and is away after some calls."""

    def __init__(self, calls: int = 100) -> None:
        self.calls = calls
        self.held: list[str] = []

    def record_sends(
        self, sends: Sequence[Receipt], settled: Sequence[Key] = (), *, ask_after: timedelta
    ) -> SaveResult:
        self.calls -= 1
        if self.calls < 0:
            raise StoreUnavailable("away")
        if any(one.phone.endswith("0002") for one in sends):
            raise StoreRejected("receipts.phone: refused")
        self.held += [one.phone for one in sends]
        return SaveResult(changed=len(sends), unchanged=0)


def importer(store: Picky, bad: list[int]) -> Importer:
    ledger = Ledger(store, accounts(), ManualClock(AT))
    return Importer(
        ledger, account="main", api="own", on_bad=lambda number, rule, cure: bad.append(number)
    )


def lines(count: int) -> Iterator[Line]:
    for number in range(1, count + 1):
        yield number, {"phone": f"1390000{number:04d}", "biz_id": f"{number}^0"}


def test_a_line_that_the_database_refuses_does_not_hold_back_the_others() -> None:
    store, bad = Picky(), list[int]()

    imported = importer(store, bad).run(lines(3))

    assert store.held == ["+8613900000001", "+8613900000003"]
    assert (bad, imported.bad, imported.recorded.rows) == ([2], 1, 2)


def test_an_importer_knows_what_is_stored_when_the_database_goes_away() -> None:
    one = importer(Picky(calls=2), [])

    with pytest.raises(StoreUnavailable):
        one.run(((number, line) for number, line in lines(2000) if number != 2))

    assert one.stored.rows == 1000


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-06T15:08:09+08:00",
        "2024-05-06T07:08:09Z",
        "2024-05-06 15:08:09",
        "20240506150809",
        "1714979289000",
    ],
)
def test_a_time_is_read_in_the_zone_that_it_has(text: str) -> None:
    assert moment(text) == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "noon", "2024-05-06T15:08:09", "1999-01-01T00:00:00Z"])
def test_what_is_no_time_or_has_no_zone_is_not_guessed(text: str) -> None:
    assert moment(text) is None
