"""The provider's counts of a day against ours: what is compared, stored, made due, and when."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete

from receiptd.china import china_day
from receiptd.errors import SourceRefused, SourceUnavailable
from receiptd.model import Origin, Receipt, Status
from receiptd.phone import to_e164
from receiptd.providers.base import QueryApi
from receiptd.reconcile.audit import Auditor, audit_days
from receiptd.sandbox import Fault, Scenario
from receiptd.sandbox.oddities import Oddities
from receiptd.sandbox.scenario import Fate
from receiptd.store import audits
from receiptd.store.audits import Audit
from receiptd.store.schema import audits as table
from tests.databases import databases, fresh_url
from tests.reconcile.world import World, sqlite, world

LOST, SILENT, FINE, FAILED = "13900000011", "13900000012", "13900000013", "13900000014"
ABROAD = "85251234567"
FATES: dict[str, Fate] = {LOST: "lost", SILENT: "unanswered", FINE: "delivered", FAILED: "failed"}
DAY_S, CHINA_S = 86400, 8 * 3600
STATISTICS = "query_statistics"


class Scene:
    """A world shortly after noon in China, and the audits of it."""

    def __init__(self, one: World) -> None:
        self.world = one
        self.until(13)
        self.day = china_day(one.clock.now())
        self.stopping = threading.Event()
        self.throttled = 0
        self.lived, self.lives = 0, 10**6
        self.apis: list[QueryApi] = []
        self.auditor = self.new_auditor()

    def until(self, china_hour: int) -> None:
        """Go on to that hour in China, tomorrow's if it has been."""
        of_day = (self.world.clock.now().timestamp() + CHINA_S) % DAY_S
        self.world.clock.advance((china_hour * 3600 - of_day) % DAY_S)

    def new_auditor(self, account: str = "main", *, key: str = "testAK") -> Auditor:
        settings = self.world.accounts[account].model_copy(update={"access_key_id": key})
        api = self.world._provider(account).open_query(account, settings, self.world.clock)
        assert api is not None
        self.apis.append(api)
        return Auditor(
            provider=settings.provider,
            account=account,
            api=api,
            store=self.world.store,
            throttle=self.throttle,
            clock=self.world.clock,
            goes_on=self.goes_on,
        )

    def goes_on(self) -> bool:
        self.lived += 1
        return self.lived <= self.lives

    def close(self) -> None:
        for api in self.apis:
            api.close()

    def throttle(self) -> bool:
        self.throttled += 1
        return not self.stopping.is_set()

    def run(self) -> None:
        self.auditor.run_once(self.stopping)

    def stored(self) -> list[Audit]:
        """The audits there are, the earliest day first."""
        with self.world.store.reading() as connection:
            return audits.latest(connection, date(2000, 1, 1))[::-1]

    def audit(self, day: date | None = None) -> tuple[int, ...]:
        """Audit a day; return both totals, and how many rows were made due."""
        audited = self.auditor.audit(day or self.day)
        assert audited is not None
        return audited.audit.provider_total, audited.audit.held_total, audited.made_due

    def behave(self, **query: object) -> None:
        """Let the queries be odd in this way only."""
        self.world.sandbox.clear_faults()
        odd = Oddities.model_validate(query)
        self.world.sandbox.scenario = Scenario(phones=FATES, lost_failed=0.0, query=odd)

    @property
    def asked(self) -> int:
        """How many calls QuerySendStatistics has had."""
        return self.world.sandbox.request_counts[STATISTICS]


@pytest.fixture(params=databases())
def everywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    scenario = Scenario(phones=FATES, lost_failed=0.0)
    with (
        fresh_url(request.param, tmp_path) as url,
        world(url, scenario) as one,
        closing(Scene(one)) as scene,
    ):
        yield scene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scenario = Scenario(phones=FATES, lost_failed=0.0)
    with world(sqlite(tmp_path), scenario) as one, closing(Scene(one)) as scene:
        yield scene


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Any:
    """Returns the lines of the audit that were logged since it was last called."""

    def logged() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        return [line for line in lines if line["event"].startswith("audit.")]

    return logged


def test_a_day_that_is_equal_is_stored_and_nothing_is_made_due(everywhere: Scene) -> None:
    scene = everywhere
    scene.world.send([LOST, FAILED, SILENT])
    scene.world.advance(hours=1)
    scene.world.reconcile()
    before = scene.world.rows("next_query_at")

    scene.until(2)
    scene.run()

    audit = scene.stored()[-1]
    assert (audit.provider, audit.account, audit.day) == ("aliyun", "main", scene.day)
    assert audit.audited_at == scene.world.clock.now()
    theirs = (audit.provider_total, audit.provider_delivered, audit.provider_failed)
    assert (*theirs, audit.provider_pending) == (3, 1, 1, 1)
    ours = audit.held_total, audit.held_delivered, audit.held_failed, audit.held_pending
    assert ours == (3, 1, 1, 1)
    assert scene.world.rows("next_query_at") == before


def test_a_send_that_nobody_told_us_of_is_a_difference(scene: Scene, logged: Any) -> None:
    scene.world.send([LOST])
    scene.world.sandbox.send_sms([LOST])
    scene.world.advance(hours=1)
    scene.world.reconcile()
    scene.until(2)
    logged()

    scene.run()

    [line] = logged()
    wanted: dict[str, Any] = {"level": "warning", "event": "audit.differs", "account": "main"}
    wanted |= {"day": scene.day.isoformat(), "provider_total": 2, "held_total": 1}
    assert {name: line[name] for name in wanted} == wanted


def test_open_rows_of_a_day_that_differs_are_asked_about_at_once(
    everywhere: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = everywhere
    scene.behave(lag_s=8 * 3600)
    scene.world.send([LOST, SILENT])
    scene.world.advance(hours=7)  # 15m, 1h and 6h: the query does not know yet
    scene.world.reconcile()
    scene.until(2)
    scene.world.reconcile()  # nothing: the next question would be asked 24h after the send
    assert scene.world.statuses() == {LOST: "pending", SILENT: "pending"}

    monkeypatch.setattr(audits, "STEP_ROWS", 1)
    assert scene.audit() == (2, 2, 2)

    scene.world.reconcile()
    assert scene.world.statuses() == {LOST: "delivered", SILENT: "pending"}
    assert scene.audit() == (2, 2, 0)


def test_the_rows_of_other_days_are_left_to_their_plan(scene: Scene) -> None:
    scene.world.send([SILENT])
    scene.until(9)
    scene.world.sandbox.send_sms([FINE])
    scene.world.send([SILENT])

    assert scene.audit(scene.day + timedelta(days=1)) == (2, 1, 1)


def test_a_send_over_midnight_ends_on_the_providers_day(scene: Scene) -> None:
    scene.until(0)
    scene.world.clock.advance(DAY_S - 1)
    submitted_at = scene.world.clock.now()
    day = china_day(submitted_at)
    scene.world.clock.advance(2)
    biz_id = scene.world.sandbox.send_sms([LOST])
    sent = Receipt(
        provider="aliyun",
        account="main",
        biz_id=biz_id,
        phone=to_e164(LOST),
        status=Status.AWAITED,
        origin=Origin.SEND,
        submitted_at=submitted_at,
    )
    scene.world.store.record_sends([sent])

    assert scene.audit(day) == (0, 1, 1)
    assert scene.audit(day + timedelta(days=1)) == (1, 0, 0)

    scene.world.advance(minutes=1)
    scene.world.reconcile()
    assert scene.audit(day) == (0, 0, 0)
    assert scene.audit(day + timedelta(days=1)) == (1, 1, 0)


def test_sends_to_other_countries_are_counted_with_those_at_home(scene: Scene) -> None:
    scene.world.send([LOST, ABROAD])

    scene.until(2)

    assert scene.audit()[:2] == (2, 2)


def test_what_was_refused_or_never_arrived_is_no_difference(scene: Scene) -> None:
    ledger = scene.world.ledger()
    request = {"PhoneNumbers": FINE, "SignName": "示例", "TemplateCode": "SMS_1"}
    now = scene.world.clock.now()
    ledger.record("SendSms", "main", request, {"Code": "isv.AMOUNT_NOT_ENOUGH"}, now)
    ledger.record("SendSms", "main", request, {}, now)

    assert len(scene.world.rows("id")) == 2
    assert scene.audit() == (0, 0, 0)


def test_each_of_the_last_three_days_is_audited_once_in_twenty_hours(scene: Scene) -> None:
    scene.until(2)

    scene.run()
    assert [one.day for one in scene.stored()] == [
        scene.day - timedelta(days=ago) for ago in (2, 1, 0)
    ]
    assert scene.asked == 6  # mainland and abroad

    for _ in range(19):
        scene.world.advance(hours=1)
        scene.run()
        scene.new_auditor().run_once(scene.stopping)  # another process, or this one restarted
    assert scene.asked == 6

    scene.world.advance(hours=1)
    scene.run()
    assert scene.asked == 12


def test_a_day_is_audited_for_the_first_time_an_hour_after_its_end(scene: Scene) -> None:
    scene.until(0)
    scene.run()
    assert scene.day not in {one.day for one in scene.stored()}

    scene.until(1)
    scene.run()
    assert scene.stored()[-1].day == scene.day


def test_an_audit_by_hand_before_the_day_was_over_does_not_replace_the_daemons(
    scene: Scene,
) -> None:
    scene.until(23)
    scene.audit()

    scene.until(1)
    scene.run()

    assert scene.stored()[-1].audited_at == scene.world.clock.now()


def test_another_accounts_audit_is_not_this_ones(scene: Scene) -> None:
    scene.until(2)
    scene.run()
    with scene.world.store.writing() as connection:
        for one in scene.stored():
            audits.save(connection, msgspec.structs.replace(one, account="other"))
        connection.execute(delete(table).where(table.c.account == "main"))

    scene.new_auditor().run_once(scene.stopping)

    assert [one.account for one in scene.stored()].count("main") == 3


def test_between_two_looks_the_database_is_not_asked(scene: Scene) -> None:
    scene.until(2)
    scene.run()
    scene.world.store.close()

    scene.world.advance(seconds=5)
    scene.run()


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (datetime(2026, 5, 6, 16, 59, 59, tzinfo=UTC), date(2026, 5, 5)),
        (datetime(2026, 5, 6, 17, 0, tzinfo=UTC), date(2026, 5, 6)),
        (datetime(2026, 5, 7, 15, 59, tzinfo=UTC), date(2026, 5, 6)),
    ],
)
def test_the_days_are_those_that_ended_an_hour_ago_in_china(now: datetime, last: date) -> None:
    assert audit_days(now) == [last - timedelta(days=ago) for ago in (0, 1, 2)]


def test_throttling_stores_nothing_is_said_once_and_tried_again_ever_later(
    scene: Scene, logged: Any
) -> None:
    scene.until(2)
    scene.behave(calls_per_s=1)  # the second call of a day is one too many
    logged()

    tries = []
    for minute in range(60):
        before = scene.throttled
        scene.run()
        if scene.throttled > before:
            tries.append(minute)
        scene.world.advance(minutes=1)
    assert tries == [0, 1, 3, 7, 15, 31]
    assert scene.stored() == []
    [line] = logged()
    assert (line["event"], line["level"]) == ("audit.failed", "warning")
    assert line["code"] == "Throttling.User"

    scene.behave()
    scene.world.advance(hours=1)
    scene.run()
    assert len(scene.stored()) == 3

    scene.behave(calls_per_s=1)
    scene.world.advance(hours=21)
    scene.run()
    assert [line["event"] for line in logged()] == ["audit.failed"]  # a new outage


def test_a_day_whose_second_half_fails_is_not_stored_with_its_first(scene: Scene) -> None:
    scene.world.send([LOST, ABROAD])
    scene.behave(calls_per_s=1)

    with pytest.raises(SourceUnavailable):
        scene.audit()

    assert scene.stored() == []
    scene.world.advance(seconds=2)
    scene.behave()
    assert scene.audit()[:2] == (2, 2)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=503, operation="query_statistics"),
        Fault(kind="cut_xml", operation="query_statistics"),
        Fault(kind="reset", operation="query_statistics"),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_provider_that_is_away_is_no_difference(scene: Scene, logged: Any, fault: Fault) -> None:
    scene.world.send([LOST])
    scene.until(2)
    scene.world.sandbox.set_fault(fault)
    logged()

    scene.run()

    assert [line["event"] for line in logged()] == ["audit.failed"]
    assert scene.stored() == []


def test_refused_credentials_are_said_and_tried_again(scene: Scene, logged: Any) -> None:
    scene.auditor = scene.new_auditor(key="unknownAK")
    scene.until(2)
    logged()

    with pytest.raises(SourceRefused):
        scene.audit()
    scene.run()
    scene.run()

    assert [line["event"] for line in logged()] == ["audit.failed"]


def test_a_provider_without_counts_is_asked_once_and_nothing_is_stored(scene: Scene) -> None:
    scene.auditor = scene.new_auditor("shop")
    scene.until(2)

    for _ in range(3):
        scene.run()
        scene.world.advance(days=1)

    assert scene.throttled == 1
    assert scene.stored() == []


def test_every_question_waits_for_the_accounts_rate(scene: Scene) -> None:
    scene.until(2)

    scene.run()

    assert scene.throttled == 3


def test_who_is_told_to_stop_asks_nothing_more(scene: Scene, logged: Any) -> None:
    scene.until(2)
    scene.stopping.set()

    scene.run()
    assert scene.throttled == 0
    assert scene.auditor.audit(scene.day) is None

    assert (scene.asked, scene.stored(), logged()) == (0, [], [])


def test_a_call_that_is_cancelled_is_no_outage(scene: Scene, logged: Any) -> None:
    scene.until(2)
    scene.apis[-1].cancel()

    scene.run()

    assert (scene.stored(), logged()) == ([], [])


def test_a_long_count_shows_that_it_goes_on_and_ends_when_told_to(
    scene: Scene, logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "STEP_IDS", 1)
    scene.world.send([f"1390000{number:04}" for number in range(20)])
    scene.until(2)

    assert scene.audit()[:2] == (20, 20)
    assert scene.lived >= 20

    scene.lived, scene.lives = 0, 10
    logged()
    scene.run()

    assert scene.lived == 11
    assert logged() == []
    assert len(scene.stored()) == 1  # the one above


def test_somebody_who_waits_for_it_gets_more_than_one_try(scene: Scene) -> None:
    scene.world.sandbox.set_fault(
        Fault(kind="status", status=503, operation="query_statistics", times=3)
    )
    before = scene.world.clock.monotonic()

    audited = scene.auditor.audit_patiently(scene.day, scene.stopping)

    assert audited is not None
    assert not audited.audit.differs
    assert scene.world.clock.monotonic() - before == 1 + 2 + 4

    scene.world.sandbox.set_fault(Fault(kind="status", status=503, operation="query_statistics"))
    with pytest.raises(SourceUnavailable):
        scene.auditor.audit_patiently(scene.day, scene.stopping)
