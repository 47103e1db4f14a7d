"""The provider that docs/adding-a-provider.md shows, installed from that page: it sends, is asked
and is audited like those that ship with receiptd."""

import importlib
import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from receiptd import assembly
from receiptd.client import accounts
from receiptd.clock import ManualClock
from receiptd.config import AccountSettings, Settings
from receiptd.errors import InvalidEnvelope, SourceCancelled, SourceUnavailable
from receiptd.gate import Gate
from receiptd.ledger import Ledger
from receiptd.model import Origin, Status
from receiptd.providers.base import Asked, Context, QueryApi
from receiptd.pulse import Pulse
from receiptd.reconcile.audit import Auditor
from receiptd.reconcile.part import Part
from receiptd.reconcile.runner import Reconciler
from receiptd.reconcile.schedule import Schedule
from receiptd.store import Store
from tests.databases import ask
from tests.plugin_page import install
from tests.providers.loopback import Loopback, Peer
from tests.store.store_samples import Database

NOON = datetime(2026, 5, 6, 4, tzinfo=UTC)  # in China
DAY = date(2026, 5, 6)
PHONES = {"PhoneNumberSet": ["+8613900000011", "13900000012"], "SignName": "示例"}
CONTEXT = Context("tencent", "cloud", Origin.SEND)


def row(sid: str, mobile: str, status: str = "SUCCESS") -> dict[str, str]:
    return {
        "sid": sid,
        "mobile": mobile,
        "report_status": status,
        "errmsg": "DELIVRD",
        "user_receive_time": "2026-05-06 12:00:05",
    }


@pytest.fixture
def tencent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The page's package, installed."""
    install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("receiptd_tencent")
    del sys.modules["receiptd_tencent"]


class Api:
    """The query API of that provider, on loopback."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.counts: dict[str, Any] = {"sent": 2, "ok": 1, "fail": 0}
        self.status = 200
        self.asked: list[dict[str, Any]] = []
        self.server = Loopback(self._answer)

    def _answer(self, peer: Peer) -> None:
        while True:
            _, _, body = peer.request().partition(b"\r\n\r\n")
            asked = json.loads(body)
            self.asked.append(asked)
            answer = {"PullSmsSendStatusSet": self.rows} if "mobile" in asked else self.counts
            data = json.dumps(answer).encode()
            head = f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(data)}\r\n\r\n"
            peer.send(head.encode() + data)


@pytest.fixture
def api() -> Iterator[Api]:
    one = Api()
    with one.server:
        yield one


@pytest.fixture
def settings(tencent: ModuleType, api: Api) -> Settings:
    account = AccountSettings(provider="tencent", app_key="key", endpoints={"sms": api.server.url})
    return Settings(accounts={"cloud": account})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def query(settings: Settings, clock: ManualClock) -> Iterator[QueryApi]:
    [plan] = assembly.plan_queries(settings, clock)
    assert (plan.provider, plan.account) == ("tencent", "cloud")
    yield plan.api
    plan.api.close()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    store = Database("sqlite", f"sqlite:///{tmp_path}/receiptd.db").open(clock)
    yield store
    store.close()


@pytest.fixture
def ledger(settings: Settings, store: Store, clock: ManualClock) -> Ledger:
    return Ledger(store, accounts(settings), clock)


def asked(biz_id: str = "S1", phone: str = "+8613900000011") -> Asked:
    return Asked(biz_id=biz_id, phone=phone, submitted_at=NOON)


def test_its_configuration_is_checked_by_it(settings: Settings, clock: ManualClock) -> None:
    assert assembly.plan(settings, clock) == []
    assert assembly.remarks(settings) == []


def test_its_message_is_read_by_its_normalizer(tencent: ModuleType) -> None:
    receipt = tencent.PROVIDER.normalizers["SmsStatus"](row("S1", "13900000011"), CONTEXT)

    assert (receipt.biz_id, receipt.phone) == ("S1", "+8613900000011")
    assert (receipt.status, receipt.err_code) == (Status.DELIVERED, "DELIVRD")
    assert receipt.reported_at == NOON + timedelta(seconds=5)
    with pytest.raises(InvalidEnvelope):
        tencent.PROVIDER.normalizers["SmsStatus"]({}, CONTEXT)


@pytest.mark.parametrize(
    ("response", "booked"),
    [
        ({"SerialNo": "S1"}, ("awaited", "S1", None)),
        (
            {"Error": {"Code": "LimitExceeded.PhoneNumberDailyLimit"}, "RequestId": "R-0000001"},
            ("failed", "failed:R-0000001", "limit"),
        ),
    ],
)
def test_its_sends_are_booked(
    ledger: Ledger, tmp_path: Path, response: dict[str, object], booked: tuple[object, ...]
) -> None:
    for _ in range(2):
        ledger.record("tencent", "cloud", PHONES, response, NOON)

    columns = "status, biz_id, err_class, phone, send_api, provider"
    rows = ask(f"sqlite:///{tmp_path}/receiptd.db", f"SELECT {columns} FROM receipts")
    ends = [(f"+861390000001{last}", "tencent", "tencent") for last in (1, 2)]
    assert rows == [(*booked, *end) for end in ends]


def test_a_send_without_an_answer_is_settled_by_it(ledger: Ledger, tmp_path: Path) -> None:
    ledger.record("tencent", "cloud", PHONES, {}, NOON)
    ledger.record("tencent", "cloud", PHONES, {"SerialNo": "S1"}, NOON)

    ids = ask(f"sqlite:///{tmp_path}/receiptd.db", "SELECT DISTINCT biz_id FROM receipts")
    assert ids == [("S1",)]


def test_a_page_has_the_rows_of_the_send_that_was_asked_about(query: QueryApi, api: Api) -> None:
    api.rows = [row("S1", "13900000011"), row("S2", "13900000011"), "nonsense", {}]

    page = query.page(asked(), DAY, 1)

    [receipt] = page.receipts
    assert (receipt.biz_id, receipt.phone, receipt.account) == ("S1", "+8613900000011", "cloud")
    assert (receipt.origin, page.is_last, page.unreadable) == (Origin.QUERY, True, 2)
    assert json.loads(page.found[0].body) == api.rows[0]
    assert api.asked == [{"mobile": "+8613900000011", "day": "2026-05-06", "page": 1}]


def test_a_full_page_is_not_the_last(query: QueryApi, api: Api) -> None:
    api.rows = [row(f"X{number}", "13900000011") for number in range(50)]

    assert not query.page(asked(), DAY, 1).is_last


@pytest.mark.parametrize(("status", "rows"), [(503, []), (200, None), (200, "nonsense")])
def test_an_answer_that_makes_no_sense_is_no_empty_page(
    query: QueryApi, api: Api, status: int, rows: Any
) -> None:
    api.status, api.rows = status, rows
    api.counts = {"sent": "many"}

    with pytest.raises(SourceUnavailable):
        query.page(asked(), DAY, 1)
    with pytest.raises(SourceUnavailable):
        query.statistics(DAY)
    assert len(api.asked) == 2  # nothing was repeated


def test_who_is_cancelled_asks_nothing_more(query: QueryApi, api: Api) -> None:
    query.cancel()

    with pytest.raises(SourceCancelled):
        query.page(asked(), DAY, 1)
    assert api.asked == []


def test_what_never_came_is_asked_for_and_the_day_is_audited(
    query: QueryApi, api: Api, ledger: Ledger, store: Store, clock: ManualClock
) -> None:
    ledger.record("tencent", "cloud", PHONES, {"SerialNo": "S1"}, NOON)
    api.rows = [row("S1", "13900000011"), row("S1", "13900000012", "WAIT")]
    reconciler = Reconciler(
        Part(
            store=store,
            schedule=Schedule((timedelta(minutes=15),), timedelta(days=30)),
            per_second=20,
            instance="here",
            store_gate=Gate(clock),
            stopping=threading.Event(),
            clock=clock,
        ),
        provider="tencent",
        account="cloud",
        api=query,
        pulse=Pulse("query:cloud", clock),
    )
    auditor = Auditor(
        provider="tencent",
        account="cloud",
        api=query,
        store=store,
        throttle=lambda: True,
        clock=clock,
    )
    before = auditor.audit(DAY)

    clock.advance(900)
    reconciler.run_once()

    after = auditor.audit(DAY)
    assert before is not None
    assert after is not None
    assert (before.audit.held_delivered, before.audit.held_pending, before.made_due) == (0, 2, 2)
    assert (after.audit.held_delivered, after.audit.held_pending) == (1, 1)
    assert not after.audit.differs
