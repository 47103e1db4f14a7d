"""Sending: no call without a row, whatever becomes of the call, the database or the process."""

import io
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiptd import client, sending_csv
from receiptd.clock import ManualClock, SystemClock
from receiptd.config import Settings
from receiptd.errors import ConfigError, StoreUnavailable
from receiptd.ledger import Ledger
from receiptd.model import Origin, Receipt, Status
from receiptd.pipeline import Pipeline
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context, InvalidSend, SendApi, SendOrder
from receiptd.providers.orders import each
from receiptd.sandbox import Fault, Sandbox, Scenario
from receiptd.sandbox.configuration import config_toml
from receiptd.sending import (
    OUT_ID_PREFIX,
    Outcome,
    Sender,
    SendResult,
    follow,
    open_sender,
    usual_api,
)
from receiptd.store import Store, open_store
from receiptd.store.merge import key
from tests.canaries import CANARY_PHONE, CANARY_SECRET, assert_holds_no_canary
from tests.databases import ask, databases, fresh_url
from tests.fakes import envelope, sms_report

ACCOUNTS = {"SendSms": "main", "SendBatchSms": "main", "polyv": "live", "jushita": "shop"}
MOST = {"SendSms": 1000, "SendBatchSms": 100, "polyv": 200, "jushita": 200}
APIS = list(ACCOUNTS)
WITH_OUT_ID = [api for api in APIS if api != "polyv"]
AT = datetime(2026, 1, 1, tzinfo=UTC)
PHONE = "+8613900000001"
# Of the table that all send APIs share: which account a Polyv send is booked under, say.
BOOKED = {"SendSms": "main", "SendBatchSms": "main", "polyv": "main", "jushita": "shop"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(params=databases())
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/receiptd.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    yield from opened(url)


@pytest.fixture
def any_store(any_url: str) -> Iterator[Store]:
    yield from opened(any_url)


def opened(url: str) -> Iterator[Store]:
    store = open_store(url, SystemClock())
    store.upgrade()
    yield store
    store.close()


def settings_for(sandbox: Sandbox, **changes: Any) -> Settings:
    return Settings.model_validate(
        tomllib.loads(config_toml(sandbox.url, with_polyv=True, **changes))
    )


def ledger_for(settings: Settings, store: Store) -> Ledger:
    return Ledger(store, client.accounts(settings), SystemClock(), attempts=1)


@pytest.fixture
def sender(sandbox: Sandbox, store: Store) -> Iterator[Callable[..., Sender]]:
    """Opens senders, by the name of their API."""
    opened: list[Sender] = []

    def open_one(api: str, **changes: Any) -> Sender:
        settings = settings_for(sandbox, **changes)
        ledger = ledger_for(settings, store)
        opened.append(open_sender(settings, ACCOUNTS[api], ledger, SystemClock(), api))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def order(*phones: str, out_id: str = "", **changes: Any) -> SendOrder:
    fields: dict[str, Any] = {
        "phones": phones or (PHONE,),
        "params": [{"code": "1234"}],
        "sign_names": ["云通信"],
        "template_code": "SMS_1",
        "out_id": out_id,
    }
    return SendOrder(**fields | changes)


def rows(url: str, columns: str) -> list[tuple[Any, ...]]:
    return ask(url, f"SELECT {columns} FROM receipts ORDER BY phone, biz_id")


@pytest.mark.parametrize("api", APIS)
def test_an_accepted_send_awaits_its_receipt_under_the_providers_id(
    api: str, sandbox: Sandbox, sender: Callable[..., Sender], url: str
) -> None:
    result = sender(api).send(order(PHONE, "+8613900000002"))

    assert result.verdict.outcome is Outcome.ACCEPTED
    assert result.is_complete
    assert result.biz_ids == list(dict.fromkeys(one.biz_id for one in sandbox.sends))
    assert [one.out_id for one in sandbox.sends] == [result.out_id or ""] * 2
    assert rows(url, "biz_id, phone, account, status, send_api, out_id") == [
        (one.biz_id, one.phone, BOOKED[api], "awaited", api, result.out_id) for one in result.rows
    ]
    assert rows(url, "count(next_query_at)") == [(2,)]
    assert min(result.took.booked_s, result.took.called_s, result.took.completed_s) > 0


def test_a_send_is_booked_on_every_database(
    any_url: str, any_store: Store, sandbox: Sandbox
) -> None:
    settings = settings_for(sandbox)
    sender = open_sender(settings, "main", ledger_for(settings, any_store), SystemClock())
    sandbox.set_fault(Fault.build("drop", "send", times=1, when="after"))

    outcomes = [sender.send(order()).verdict.outcome for _ in range(2)]
    sender.close()

    assert outcomes == [Outcome.UNANSWERED, Outcome.ACCEPTED]
    assert rows(any_url, "phone, status") == [(PHONE, "awaited")] * 2


@pytest.mark.parametrize("api", APIS)
def test_the_row_is_there_before_the_call_arrives(
    api: str, sandbox: Sandbox, sender: Callable[..., Sender], url: str
) -> None:
    sandbox.set_fault(Fault.build("hang", "send"))
    results: list[SendResult] = []
    one = sender(api)
    thread = threading.Thread(target=lambda: results.append(one.send(order())))
    thread.start()
    assert sandbox.wait_until(lambda: bool(sandbox.requests))

    [(biz_id, status, out_id)] = rows(url, "biz_id, status, out_id")
    one.cancel()
    thread.join(10)

    assert (biz_id.partition(":")[0], status) == ("unanswered", "awaited")
    [result] = results
    assert result.verdict.outcome is Outcome.UNANSWERED
    assert (result.verdict.code, result.out_id) == ("cancelled", out_id)


@pytest.mark.parametrize("api", APIS)
def test_what_nobody_answered_is_awaited_under_the_out_id_that_was_sent(
    api: str, sandbox: Sandbox, sender: Callable[..., Sender], url: str
) -> None:
    sandbox.set_fault(Fault.build("drop", "send", when="after"))

    result = sender(api).send(order())

    assert result.verdict.outcome is Outcome.UNANSWERED
    assert (result.verdict.code, result.biz_ids) == ("broken", [])
    assert "may have been sent" in result.verdict.meaning
    [sent] = sandbox.sends  # it was
    assert sent.out_id == (result.out_id or "")
    [(biz_id, status, out_id)] = rows(url, "biz_id, status, out_id")
    assert (biz_id[:11], status, out_id or "") == ("unanswered:", "awaited", sent.out_id)


@pytest.mark.parametrize("api", APIS)
def test_a_refusal_fails_the_rows_and_is_told_with_its_meaning_and_cure(
    api: str, sandbox: Sandbox, sender: Callable[..., Sender], url: str
) -> None:
    sandbox.scenario = Scenario(send_refusals={"isv.BUSINESS_LIMIT_CONTROL": 1.0})
    code = "11" if api == "polyv" else "isv.BUSINESS_LIMIT_CONTROL"

    result = sender(api).send(order())

    assert result.verdict.outcome is Outcome.REFUSED
    assert result.verdict.code == code
    assert result.verdict.meaning
    assert result.verdict.cure
    assert not result.verdict.is_about_credentials
    [(biz_id, status, err_code)] = rows(url, "biz_id, status, err_code")
    assert (biz_id[:7], status, err_code) == ("failed:", "failed", code)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("wrong", ["id", "secret", "clock"])
def test_refused_credentials_are_told_from_other_refusals(
    api: str, wrong: str, sandbox: Sandbox, sender: Callable[..., Sender]
) -> None:
    names = {
        "id": ("access_key_id", "app_key", "polyv_app_id"),
        "secret": ("access_key_secret", "app_secret", "polyv_app_secret"),
    }
    sandbox.skew_s = 3600 if wrong == "clock" else 0

    verdict = (
        sender(api, **dict.fromkeys(names.get(wrong, ()), CANARY_SECRET)).send(order()).verdict
    )

    assert verdict.outcome is Outcome.REFUSED
    assert verdict.is_about_credentials
    assert_holds_no_canary(repr(verdict))


def test_some_numbers_can_be_refused_and_others_not(
    sandbox: Sandbox, sender: Callable[..., Sender], url: str
) -> None:
    sandbox.scenario = Scenario(polyv_per_number=1)
    one = sender("polyv")
    one.send(order(PHONE))

    result = one.send(order(PHONE, "+8613900000002"))

    assert (result.verdict.outcome, result.verdict.code) == (Outcome.REFUSED, "-1")
    assert [row.phone for row in result.of(Outcome.REFUSED)] == [PHONE]
    assert [row.phone for row in result.of(Outcome.ACCEPTED)] == ["+8613900000002"]
    assert rows(url, "status") == [("awaited",), ("failed",), ("awaited",)]


@pytest.mark.parametrize("api", APIS)
def test_over_a_limit_nothing_is_booked_and_nothing_is_sent(
    api: str, sandbox: Sandbox, sender: Callable[..., Sender], url: str
) -> None:
    phones = [f"+86139{number:08d}" for number in range(MOST[api] + 1)]
    wrong = [
        order(*phones),
        order("12345"),
        order(PHONE, "139 0000 0001"),
        order(params=[{"code": 1234}]),
        order(out_id="x" * 256),
    ]

    for one in wrong:
        with pytest.raises(InvalidSend):
            sender(api).send(one)

    assert not sandbox.requests
    assert rows(url, "id") == []


@pytest.mark.parametrize("api", APIS)
def test_an_unreached_service_leaves_nothing_to_wait_for(
    api: str, sandbox: Sandbox, sender: Callable[..., Sender], url: str
) -> None:
    one = sender(api)
    sandbox.stop()

    result = one.send(order())

    assert result.verdict.outcome is Outcome.NOT_SENT
    assert (result.verdict.code, result.rows) == ("unreachable", ())
    assert rows(url, "id") == []


def test_without_a_database_nothing_is_sent(
    sandbox: Sandbox, sender: Callable[..., Sender], store: Store
) -> None:
    one = sender("SendSms")
    store.close()

    with pytest.raises(StoreUnavailable):
        one.send(order())

    assert not sandbox.requests


class LosingTheDatabase:
    """A send API during whose call the database goes away."""

    def __init__(self, inner: SendApi, store: Store) -> None:
        self._inner = inner
        self._store = store

    def request(self, order: SendOrder) -> Mapping[str, object]:
        return self._inner.request(order)

    def send(self, request: Mapping[str, object]) -> Mapping[str, object]:
        self._store.close()
        return self._inner.send(request)

    def cancel(self) -> None:
        self._inner.cancel()

    def close(self) -> None:
        self._inner.close()


def test_a_database_lost_in_the_call_keeps_the_send_as_unanswered(
    sandbox: Sandbox, store: Store, url: str
) -> None:
    settings = settings_for(sandbox)
    inner = PROVIDER.open_send("SendSms", settings.accounts["main"], SystemClock())
    assert inner is not None
    sender = Sender(
        account="main",
        api="SendSms",
        client=LosingTheDatabase(inner, store),
        ledger=ledger_for(settings, store),
        clock=SystemClock(),
    )

    result = sender.send(order())
    sender.close()

    assert result.verdict.outcome is Outcome.ACCEPTED
    assert not result.is_complete
    assert result.biz_ids == [one.biz_id for one in sandbox.sends]
    [(biz_id, out_id)] = rows(url, "biz_id, out_id")
    assert (biz_id[:11], out_id) == ("unanswered:", result.out_id)


def test_an_answer_without_an_id_is_none(
    sandbox: Sandbox, sender: Callable[..., Sender], url: str
) -> None:
    body = '{"Code":"OK","RequestId":"R-000001"}'
    sandbox.set_fault(Fault.build("status", "send", status=200, body=body))

    verdict = sender("SendSms").send(order()).verdict

    assert (verdict.outcome, verdict.code) == (Outcome.UNANSWERED, "bad_answer")
    assert rows(url, "status") == [("awaited",)]


@pytest.mark.parametrize("api", WITH_OUT_ID)
def test_every_send_has_an_out_id_of_its_own(api: str, sender: Callable[..., Sender]) -> None:
    one = sender(api)
    found = [one.send(order()).out_id or "" for _ in range(2)]

    assert all(out_id.startswith(OUT_ID_PREFIX) for out_id in found)
    assert len(set(found)) == 2
    assert one.send(order(out_id="order-1")).out_id == "order-1"


def test_an_out_id_that_cannot_be_sent_is_not_left_out(sender: Callable[..., Sender]) -> None:
    assert sender("polyv").send(order()).out_id is None
    with pytest.raises(InvalidSend):
        sender("polyv").send(order(out_id="order-1"))


def test_the_usual_api_is_the_first_that_the_provider_names(sandbox: Sandbox, store: Store) -> None:
    settings = settings_for(sandbox)
    ledger = ledger_for(settings, store)

    found = []
    for account in ("main", "live", "shop"):
        sender = open_sender(settings, account, ledger, SystemClock())
        sender.close()
        found.append((sender.api, usual_api(ledger.books(account).provider)))

    assert found == [("SendSms",) * 2, ("polyv",) * 2, ("jushita",) * 2]


@pytest.mark.parametrize(
    ("account", "api", "changes"),
    [
        ("nobody", "", {}),
        ("main", "SendMessageToGlobe", {}),
        ("shop", "jushita", {"app_key": "", "app_secret": ""}),
        ("main", "SendSms", {"access_key_secret": ""}),
        ("live", "polyv", {"polyv_app_id": ""}),
    ],
)
def test_an_account_that_cannot_send_is_a_configuration_error(
    account: str, api: str, changes: dict[str, str], sandbox: Sandbox, store: Store
) -> None:
    settings = settings_for(sandbox, **changes)

    with pytest.raises(ConfigError, match="accounts"):
        open_sender(settings, account, ledger_for(settings, store), SystemClock(), api)


def test_a_result_shows_no_number_and_no_secret(
    sandbox: Sandbox, sender: Callable[..., Sender]
) -> None:
    phone = f"+86{CANARY_PHONE}"

    assert_holds_no_canary(repr(sender("SendSms").send(order(phone))))


class Eventful(ManualClock):
    """A clock in whose waits something happens."""

    def __init__(self, event: Callable[[], object]) -> None:
        super().__init__(AT)
        self._event = event
        self.waits = 0

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits += 1
        if self.waits == 2:
            self._event()
        return super().wait(event, seconds)


def booked(store: Store, number: int = 1) -> Receipt:
    """Book a send whose receipt `sms_report(number)` is."""
    receipt = Receipt(
        provider="aliyun",
        account="main",
        biz_id=f"90000000{number:010d}^0",
        phone=f"+86139{number:08d}",
        status=Status.AWAITED,
        origin=Origin.SEND,
        submitted_at=AT,
    )
    store.record_sends([receipt])
    return receipt


def receive(store: Store, *bodies: bytes) -> None:
    pipeline = Pipeline(
        context=Context(provider="aliyun", account="main", origin=Origin.QUEUE),
        normalize=PROVIDER.normalizers["SmsReport"],
        store=store,
        clock=ManualClock(AT),
    )
    pipeline.process([envelope(body, f"m{number}") for number, body in enumerate(bodies)])


@pytest.mark.parametrize(("success", "status"), [(True, "delivered"), (False, "failed")])
def test_a_row_is_followed_until_its_receipt_is_there(
    success: bool, status: str, any_store: Store
) -> None:
    row = booked(any_store)
    clock = Eventful(lambda: receive(any_store, sms_report(1, success=success)))

    found = follow(any_store, [row], clock, 60)

    assert (found[key(row)].status, found[key(row)].origin) == (status, "queue")
    assert found[key(row)].reported_at is not None
    assert clock.waits == 2


def test_following_ends_when_the_time_is_over(store: Store) -> None:
    rows = [booked(store, 1), booked(store, 2)]
    clock = Eventful(lambda: receive(store, sms_report(1)))

    found = follow(store, rows, clock, 60)

    assert [found[key(row)].status for row in rows] == ["delivered", "awaited"]
    assert clock.monotonic() == pytest.approx(60)


def test_many_rows_are_followed_at_once(any_store: Store) -> None:
    rows = [booked(any_store, 1), booked(any_store, 2)]
    many = [msgspec.structs.replace(rows[0], biz_id=f"{number}^0") for number in range(1200)]
    neighbour = msgspec.structs.replace(many[5], phone="+8613900000009")
    any_store.record_sends([*many, neighbour])

    found = follow(any_store, [*many, rows[1]], ManualClock(AT), 0)

    assert found.keys() == {key(row) for row in [*many, rows[1]]}


def test_following_survives_a_database_that_is_away(store: Store) -> None:
    row = booked(store)
    clock = Eventful(store.close)

    found = follow(store, [row], clock, 60)

    assert found[key(row)].status == "awaited"
    assert clock.monotonic() == pytest.approx(60)


def lines_of(text: str, **changes: Any) -> list[sending_csv.Line]:
    lines, bad = sending_csv.read(io.BytesIO(text.encode()), **{"params": {}, **changes})
    assert not bad
    return lines


def numbered(count: int, cells: Callable[[int], str] = lambda number: "") -> str:
    return "".join(f"139{number:08d}{cells(number)}\n" for number in range(count))


@pytest.mark.parametrize(
    ("api", "sizes"),
    [
        ("SendSms", [1000, 1000, 500]),
        ("SendBatchSms", [100] * 25),
        ("polyv", [200] * 12 + [100]),
        ("jushita", [200] * 12 + [100]),
    ],
)
def test_lines_go_into_as_few_calls_as_the_api_takes(
    api: str, sizes: list[int], sender: Callable[..., Sender]
) -> None:
    request = sender(api).request
    lines = lines_of("phone,code\n" + numbered(2500, lambda number: ",1234"), sign_name="云")

    found = list(sending_csv.calls(request, lines, "SMS_1"))

    assert [len(call.order.phones) for call in found] == sizes
    assert [line for call in found for line in call.lines] == lines


@pytest.mark.parametrize(
    ("api", "sizes"),
    [("SendSms", [1] * 6), ("SendBatchSms", [6]), ("polyv", [1] * 6), ("jushita", [3, 3])],
)
def test_lines_of_their_own_text_and_sign_share_a_call_where_the_api_can(
    api: str, sizes: list[int], sender: Callable[..., Sender]
) -> None:
    cells = numbered(6, lambda number: f",{number},签名{number // 3}")
    lines = lines_of(f"phone,code,sign_name\n{cells}")

    found = list(sending_csv.calls(sender(api).request, lines, "SMS_1"))

    assert [len(call.order.phones) for call in found] == sizes
    texts = [text for call in found for text in each(call.order.params, len(call.lines))]
    assert texts == [{"code": str(number)} for number in range(6)]


def test_a_call_has_one_out_id_and_no_number_twice(sender: Callable[..., Sender]) -> None:
    text = "phone,out_id\n13900000001,a\n13900000002,a\n13900000003,b\n13900000003,b\n"
    lines = lines_of(text, sign_name="云")

    found = list(sending_csv.calls(sender("SendSms").request, lines, "SMS_1"))

    assert [(len(call.order.phones), call.order.out_id) for call in found] == [
        (2, "a"),
        (1, "b"),
        (1, "b"),
    ]
