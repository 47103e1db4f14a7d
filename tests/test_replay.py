"""Replay of the journal: the same records end in the same rows, whatever comes between."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiptd.clock import ManualClock, SystemClock
from receiptd.config import Settings
from receiptd.errors import InvalidEnvelope, StoreUnavailable
from receiptd.model import Envelope, Origin, Reason
from receiptd.pipeline import Pipeline
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context
from receiptd.replay.batches import Batch, Refused, quarantined, received
from receiptd.replay.meaning import BadRequest, Meanings
from receiptd.replay.run import Replayer, Result
from receiptd.replay.savers import Change, CountingSaver, JournalSaver, Preview
from receiptd.store import Store, journal, open_store
from receiptd.store.journal import Selection
from tests.databases import SQLITE, ask, databases, fresh_url
from tests.fakes import sms_report

SETTINGS = Settings.model_validate(
    {
        "accounts": {"main": {"provider": "aliyun"}, "shop": {"provider": "jushita"}},
        "sources": {
            "sms_report": {"puller": "mns", "account": "main", "message_type": "SmsReport"},
            "sms_up": {"puller": "mns", "account": "main", "message_type": "SmsUp"},
        },
    }
)
NORMALIZE = PROVIDER.normalizers["SmsReport"]
EVER = Selection(since=datetime(2020, 1, 1, tzinfo=UTC))
UPLINK = (
    b'{"phone_number":"13900000001","send_time":"2026-05-06 15:08:09","content":"TD",'
    b'"sign_name":"x","dest_code":"1","sequence_id":568000001}'
)


class Crash(BaseException):
    """The process dies here."""


def refuse(data: Any, context: Context) -> Any:
    raise InvalidEnvelope(Reason.BAD_FIELD, "err_code")


def refuse_some(data: Any, context: Context) -> Any:
    return refuse(data, context) if int(data["biz_id"][:-2]) % 3 == 0 else NORMALIZE(data, context)


class Rig:
    """A database, and what comes into it live."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = ManualClock(datetime(2026, 5, 6, 8, tzinfo=UTC))
        self.store = open_store(url, self.clock)
        self.store.upgrade()
        self.refused: list[Refused] = []
        self._envelopes = 0

    def deliver(
        self,
        *bodies: bytes,
        normalize: Any = NORMALIZE,
        source: str = "sms_report",
        origin: Origin = Origin.QUEUE,
        **fields: Any,
    ) -> None:
        """Store bodies as a worker does, an envelope each."""
        self._envelopes += 1
        given = {"pull_count": 1} | fields
        batch = [
            Envelope(source=source, envelope_id=f"m{number}", body=body, handle="h", **given)
            for number, body in enumerate(bodies, self._envelopes * 1000)
        ]
        context = Context("aliyun", "main", origin)
        pipeline = Pipeline(
            context=context, normalize=normalize, store=self.store, clock=self.clock
        )
        pipeline.process(batch)

    def replay(
        self,
        selection: Selection | None = None,
        *,
        saver: CountingSaver | None = None,
        meanings: Meanings | None = None,
        rows: int = 300,
        after_id: int = -1,
        store: Store | None = None,
        on_batch: Any = lambda batch: None,
        **options: Any,
    ) -> Result:
        """Replay the quarantine, or what a selection says."""
        store = store or self.store
        meanings = meanings or Meanings(SETTINGS)
        replayer = Replayer(
            saver or JournalSaver(store),
            clock=self.clock,
            stopping=options.pop("stopping", threading.Event()),
            on_refused=self.refused.append,
            on_batch=on_batch,
            **options,
        )
        if selection is None:
            return replayer.run(quarantined(store, meanings, Selection(), after_id, rows))
        return replayer.run(received(store, meanings, selection, rows))

    def receipts(self) -> list[tuple[Any, ...]]:
        """The table without our own times and numbers."""
        return ask(
            self.url,
            "SELECT biz_id, phone, provider, account, status, err_code, err_msg, err_class, origin,"
            " out_id, segments, sign_name, template_code, send_api, submitted_at, sent_at,"
            " reported_at, conflict FROM receipts ORDER BY biz_id, phone",
        )

    def tables(self) -> list[list[tuple[Any, ...]]]:
        """Everything there is."""
        names = ("receipts", "journal", "uplinks", "notices")
        return [ask(self.url, f"SELECT * FROM {name} ORDER BY id") for name in names]

    def outcomes(self) -> list[str]:
        return [one[0] for one in ask(self.url, "SELECT outcome FROM journal ORDER BY id")]

    def close(self) -> None:
        self.store.close()


@pytest.fixture(params=databases())
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    with fresh_url(request.param, tmp_path) as url:
        rig = Rig(url)
        yield rig
        rig.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Rig]:
    """On SQLite, for what is no matter of the database."""
    rig = Rig(f"sqlite:///{tmp_path}/receiptd.db")
    yield rig
    rig.close()


def test_what_is_understood_now_leaves_the_quarantine(rig: Rig) -> None:
    rig.deliver(*map(sms_report, range(10)), normalize=refuse_some)
    assert rig.outcomes().count("quarantined") == 4

    result = rig.replay(rows=3)

    assert (result.records, result.changed, result.settled, result.refused) == (4, 4, 4, 0)
    assert result.is_complete
    assert sorted(set(rig.outcomes())) == ["replayed", "stored"]
    reasons = ask(rig.url, "SELECT reason, kind, biz_id FROM journal WHERE outcome = 'replayed'")
    assert reasons[0] == ("bad_field:err_code", "receipt", "900000000000000000^0")
    assert len(rig.receipts()) == len(rig.outcomes()) == 10


def test_a_replay_ends_in_the_rows_of_a_delivery(rig: Rig, tmp_path: Path) -> None:
    bodies = [*map(sms_report, range(6)), sms_report(2, success=False)]
    rig.deliver(*bodies, normalize=refuse)
    rig.replay()
    with fresh_url(SQLITE, tmp_path) as url:
        other = Rig(url)
        other.deliver(*bodies)
        expected = [one[:5] + one[8:9] for one in other.receipts()]
        other.close()

    assert [one[:5] + one[8:9] for one in rig.receipts()] == expected


def test_to_replay_twice_is_to_replay_once(rig: Rig) -> None:
    rig.deliver(*map(sms_report, range(6)), UPLINK, normalize=refuse_some)
    rig.deliver(UPLINK, source="sms_up", normalize=PROVIDER.normalizers["SmsUp"])
    rig.replay()
    before = rig.tables()
    rig.clock.advance(60)

    again, all_of_it = rig.replay(), rig.replay(EVER, rows=3)

    # The reply in the queue of receipts is one that a receipts' normalizer recognizes, too.
    assert (again.records, again.changed) == (0, 0)
    assert (all_of_it.records, all_of_it.changed, all_of_it.refused) == (8, 0, 0)
    assert rig.tables() == before


def test_rows_that_were_lost_come_back_from_the_journal(rig: Rig) -> None:
    rig.deliver(*map(sms_report, range(6)), normalize=refuse_some)
    rig.deliver(sms_report(1, success=False))
    rig.replay()
    before, journal_before = rig.receipts(), rig.tables()[1]
    ask(rig.url, "DELETE FROM receipts")

    result = rig.replay(EVER, rows=2)

    assert result.records == 7
    assert rig.receipts() == before
    assert rig.tables()[1] == journal_before


def test_a_time_and_a_source_are_chosen_from(file: Rig) -> None:
    for number in range(4):
        file.deliver(sms_report(number))
        file.clock.advance(60)
    start = datetime(2026, 5, 6, 8, tzinfo=UTC)
    ask(file.url, "DELETE FROM receipts")

    chosen = Selection(since=start.replace(minute=1), until=start.replace(minute=3))
    assert file.replay(chosen).records == 2
    assert file.replay(Selection(since=start, source="sms_up")).records == 0

    assert [one[0] for one in file.receipts()] == ["900000000000000001^0", "900000000000000002^0"]


# --- any order, any number of times (promise 2) ---

_BODIES = [
    sms_report(1),
    sms_report(1, success=False),
    sms_report(1).replace(b"15:08:14", b"15:08:15"),
    sms_report(1, success=False).replace(b"MK:0001", b"MK:0002"),
    sms_report(2),
]
_STEPS = st.lists(
    st.tuples(st.sampled_from(["deliver", "refuse"]), st.integers(0, len(_BODIES) - 1))
    | st.sampled_from([("replay", 0), ("all", 0)]),
    max_size=12,
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=_STEPS, order=st.permutations(range(len(_BODIES))))
def test_any_mixture_of_deliveries_and_replays_ends_in_the_same_rows(
    rig: Rig, steps: list[tuple[str, int]], order: list[int]
) -> None:
    def empty() -> None:
        ask(rig.url, "DELETE FROM receipts")
        ask(rig.url, "DELETE FROM journal")

    empty()
    rig.deliver(*_BODIES)
    expected = rig.receipts()
    empty()

    for step, number in steps:
        if step == "replay":
            rig.replay(rows=2)
        elif step == "all":
            rig.replay(EVER, rows=2)
        else:
            rig.deliver(_BODIES[number], normalize=refuse if step == "refuse" else NORMALIZE)
    # In the end each was there, in some order, some of them only through the quarantine.
    for number in order:
        rig.deliver(_BODIES[number], normalize=refuse if number % 2 else NORMALIZE)
    rig.replay()

    assert rig.receipts() == expected


@pytest.mark.parametrize(
    ("origin", "pull_count"), [(Origin.QUEUE, 3), (Origin.PUSH, None), (Origin.QUEUE, None)]
)
def test_a_source_that_is_gone_keeps_its_rows_as_they_are(
    file: Rig, origin: Origin, pull_count: int | None
) -> None:
    file.deliver(sms_report(1), source="gone", origin=origin, pull_count=pull_count)
    before = file.tables()
    file.clock.advance(60)

    skipped = file.replay(EVER)
    told = file.replay(EVER, meanings=Meanings(SETTINGS, "aliyun.SmsReport"))

    assert (skipped.records, skipped.unexplained) == (0, {"gone": 1})
    assert (told.records, told.changed, told.unexplained) == (1, 0, {})
    assert file.tables() == before


def test_the_origin_of_a_puller_is_its_own(file: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from receiptd.pullers.mns import KIND

    monkeypatch.setattr(type(KIND), "origin", Origin.PUSH, raising=False)
    file.deliver(sms_report(1), origin=Origin.PUSH)
    before = file.tables()

    assert file.replay(EVER).changed == 0

    assert file.tables() == before


# --- what is not replayed ---


def test_what_is_still_not_understood_stays_and_is_told(rig: Rig) -> None:
    rig.deliver(sms_report(1), b"{broken", b'{"biz_id": "13987654321"}', normalize=refuse)

    result = rig.replay()

    assert (result.records, result.settled, result.refused) == (1, 1, 2)
    assert result.reasons == {"not_json": 1, "missing_field": 1}
    assert [one.place for one in rig.refused] == ["journal row 2", "journal row 3"]
    assert rig.refused[0].rule == "not_json: the body is no JSON"
    assert rig.outcomes() == ["replayed", "quarantined", "quarantined"]


def test_a_bug_in_a_normalizer_is_told_and_holds_nothing_back(
    file: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(data: Any, context: Context) -> Any:
        return 1 / 0 if "000001^" in data["biz_id"] else NORMALIZE(data, context)

    file.deliver(*map(sms_report, range(3)), normalize=refuse)
    monkeypatch.setattr(
        type(PROVIDER), "normalizers", {"SmsReport": break_down, "SmsUp": break_down}
    )

    result = file.replay()

    assert (result.records, result.reasons) == (2, {Reason.UNEXPECTED_ERROR: 1})
    assert file.outcomes() == ["replayed", "quarantined", "replayed"]


def test_a_row_that_the_database_refuses_holds_nothing_back(rig: Rig) -> None:
    long = sms_report(7).replace(b"order-7", b"x" * 300)
    rig.deliver(*map(sms_report, range(3)), normalize=refuse)
    rig.deliver(long, normalize=refuse)
    refusal = "CREATE TRIGGER refuse BEFORE INSERT ON receipts"
    when = "new.biz_id = '900000000000000001^0'"
    if rig.url.startswith("sqlite"):
        ask(rig.url, f"{refusal} WHEN {when} BEGIN SELECT RAISE(ABORT, 'no'); END")
    elif rig.url.startswith("postgresql"):
        body = "RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$"
        ask(rig.url, f"CREATE FUNCTION refuse() {body}")
        ask(rig.url, f"{refusal} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuse()")
    else:
        signal = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'"
        ask(rig.url, f"{refusal} FOR EACH ROW IF {when} THEN {signal}; END IF")

    result = rig.replay()

    assert (result.records, result.settled) == (2, 2)
    assert sum(result.reasons.values()) == 2
    assert rig.outcomes() == ["replayed", "quarantined", "replayed", "quarantined"]


def test_own_questions_and_what_was_dropped_or_erased_are_passed_over(rig: Rig) -> None:
    rig.deliver(sms_report(1), source="query:main")
    rig.deliver(b"{}", source="reconcile", normalize=refuse)
    rig.deliver(sms_report(2), sms_report(3), normalize=refuse)
    with rig.store.writing() as connection:
        journal.mark_dropped(connection, [3], "me: a test")
    ask(rig.url, """UPDATE journal SET body = '{"erased":true}' WHERE id = 4""")
    before = rig.tables()

    every, quarantine = rig.replay(EVER), rig.replay()

    assert (every.records, every.passed_over, every.refused) == (0, 4, 0)
    assert (quarantine.records, quarantine.passed_over) == (0, 2)
    assert rig.tables() == before


def test_a_body_in_its_wrapping_is_understood(file: Rig) -> None:
    import base64

    lines = base64.encodebytes(sms_report(1))  # with newlines, which the puller refuses
    xml = b"<Message><MessageBody>%s</MessageBody></Message>" % base64.b64encode(sms_report(2))
    file.deliver(lines, xml, sms_report(3), flaw=Reason.NOT_BASE64)

    assert file.replay().settled == 3


def test_a_body_of_several_is_marked_when_all_are_understood(file: Rig) -> None:
    good, bad = sms_report(1), b'{"biz_id":"1"}'
    file.deliver(b"[%s,%s]" % (good, bad), flaw=Reason.DAMAGED)
    file.deliver(b"[%s,%s]" % (good, sms_report(2)), flaw=Reason.DAMAGED)

    result = file.replay()

    assert (result.records, result.settled, result.refused) == (3, 1, 1)
    assert file.outcomes() == ["quarantined", "replayed"]
    assert len(file.receipts()) == 2


# --- interrupted, and beside others ---


def test_it_goes_on_where_it_was_killed(rig: Rig) -> None:
    rig.deliver(*map(sms_report, range(20)), normalize=refuse)
    rig.deliver(*map(sms_report, range(20, 25)))

    def die(batch: Batch) -> None:
        if batch.position == ("--after-id", "10"):
            raise Crash

    with pytest.raises(Crash):
        rig.replay(rows=5, on_batch=die)
    assert rig.outcomes()[:20] == ["replayed"] * 10 + ["quarantined"] * 10
    result = rig.replay(rows=5)

    assert (result.records, result.settled) == (10, 10)
    assert len(rig.receipts()) == 25


def test_a_death_in_a_transaction_leaves_neither_the_record_nor_its_mark(rig: Rig) -> None:
    rig.deliver(*map(sms_report, range(6)), normalize=refuse)
    points: list[str] = []

    def die(point: str) -> None:
        points.append(point)
        if len(points) == 2:  # the marks are written, the records are not yet
            raise Crash

    store = open_store(rig.url, rig.clock, trace=die)
    with pytest.raises(Crash):
        rig.replay(rows=2, store=store)
    store.close()
    assert rig.outcomes().count("replayed") == len(rig.receipts()) == 2
    rig.replay()

    assert rig.outcomes() == ["replayed"] * 6
    assert len(rig.receipts()) == 6


def test_told_to_stop_it_says_where_to_go_on(rig: Rig) -> None:
    rig.deliver(*map(sms_report, range(9)))
    ask(rig.url, "DELETE FROM receipts")
    rig.deliver(*map(sms_report, range(9, 18)), normalize=refuse)
    stopping = threading.Event()

    stopped = rig.replay(rows=4, on_batch=lambda batch: stopping.set(), stopping=stopping)
    assert (stopped.is_complete, stopped.position) == (False, ("--after-id", "13"))
    rest = rig.replay(after_id=13)
    assert (rest.is_complete, rest.records) == (True, 5)

    stopped = rig.replay(EVER, rows=4, on_batch=lambda batch: stopping.set(), stopping=stopping)
    option, at = stopped.position
    assert (stopped.is_complete, option) == (False, "--since")
    rig.replay(Selection(since=datetime.fromisoformat(at)))
    assert len(rig.receipts()) == 18


def test_a_rate_is_kept(file: Rig) -> None:
    file.deliver(*map(sms_report, range(30)))
    began = file.clock.monotonic()

    file.replay(EVER, rows=5, rate=10.0)

    assert file.clock.monotonic() - began == pytest.approx(3.0)


def test_a_database_that_is_away_for_a_moment_is_tried_again(file: Rig) -> None:
    class Away(JournalSaver):
        left = 4

        def save(self, entries: Any) -> Any:
            if self.left:
                self.left -= 1
                raise StoreUnavailable("locked")
            return super().save(entries)

    file.deliver(sms_report(1), normalize=refuse)
    saver = Away(file.store)

    assert file.replay(saver=saver).settled == 1

    saver.left = 5
    file.deliver(sms_report(2), normalize=refuse)
    with pytest.raises(StoreUnavailable):
        file.replay(saver=saver)


def test_it_works_beside_a_daemon_that_writes(rig: Rig) -> None:
    rig.deliver(*map(sms_report, range(200)), normalize=refuse)
    live = Rig(rig.url)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for start in range(0, 320, 16):
                # Some are those that are replayed at the same time.
                live.deliver(*map(sms_report, range(start, start + 16)))
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    result = rig.replay(rows=20)
    thread.join()
    live.close()

    assert failed == []
    assert (result.settled, result.refused) == (200, 0)
    assert len(rig.receipts()) == 320


# --- seen first ---


def test_a_preview_tells_what_a_replay_does_and_changes_nothing(rig: Rig) -> None:
    rig.deliver(sms_report(1, success=False), sms_report(3), sms_report(4))
    rig.deliver(sms_report(1), sms_report(2), sms_report(2), b"{broken", normalize=refuse)
    later, contrary = sms_report(3).replace(b":14", b":20"), sms_report(4, success=False)
    rig.deliver(later, contrary, UPLINK, normalize=refuse)
    before = rig.tables()
    told: list[Change] = []

    preview = rig.replay(saver=Preview(rig.store, told.append))

    assert rig.tables() == before
    rig.refused.clear()
    result = rig.replay()
    assert (preview.changed, preview.settled) == (result.changed, result.settled) == (5, 6)
    assert (preview.records, preview.refused) == (result.records, result.refused) == (6, 1)
    changes = [(one.table, one.identity[-4:], one.old, one.new) for one in told]
    assert changes == [
        ("receipts", "01^0", "failed", "delivered"),
        ("receipts", "02^0", None, "delivered"),
        ("receipts", "03^0", "delivered", "delivered"),
        ("receipts", "04^0", "delivered", "delivered"),
        ("uplinks", "0001", None, "reply"),
    ]
    assert (told[2].columns, told[3].columns) == (("reported_at",), ("conflict",))


def test_a_preview_of_what_is_there_is_empty(rig: Rig) -> None:
    rig.deliver(*map(sms_report, range(5)), sms_report(2, success=False))
    told: list[Change] = []

    assert rig.replay(EVER, saver=Preview(rig.store, told.append)).records == 6

    assert told == []


# --- how things are read ---


@pytest.mark.parametrize(
    ("arguments", "option", "said"),
    [
        (("aliyum.SmsReport",), "--type", "installed: aliyun"),
        (("aliyun.Nothing",), "--type", "aliyun.SmsReport"),
        (("polyv.x",), "--type", "has no messages of its own"),
        (("jushita.sms", "main"), "--account", "one of shop"),
        ((None, "main"), "--account", "needs --type"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: tuple[str | None, ...], option: str, said: str
) -> None:
    with pytest.raises(BadRequest, match=said) as caught:
        Meanings(SETTINGS, *arguments)

    assert caught.value.option == option


def test_an_account_must_be_named_where_there_are_two() -> None:
    two = Settings.model_validate(
        {"accounts": {"b": {"provider": "aliyun"}, "a": {"provider": "aliyun"}}}
    )

    with pytest.raises(BadRequest, match="one of a, b"):
        Meanings(two, "aliyun.SmsReport")
    assert Meanings(two, "aliyun.SmsReport", "a").of_file(None).context.account == "a"


_PLUG_IN = """
from receiptd.errors import InvalidEnvelope
from receiptd.model import Receipt, Status
from receiptd.providers import aliyun

VERSION = 1


def read(data, context):
    code = data["err_code"]
    if code == "NEW_CODE" and VERSION == 1:
        raise InvalidEnvelope("bad_field", "err_code")
    return Receipt(
        provider=context.provider, account=context.account, origin=context.origin,
        biz_id=data["id"], phone=data["to"], status=Status.FAILED, err_code=code,
    )


class Provider(type(aliyun.PROVIDER)):
    name = "tencent"
    normalizers = {"report": read}
    default_message_type = "report"


PROVIDER = Provider()
"""


def test_a_fix_of_a_third_partys_normalizer_is_proven_by_a_replay(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "tencentdlr-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tencentdlr\nVersion: 1.0\n")
    points = "[receiptd.providers]\ntencent = tencentdlr:PROVIDER\n"
    (info / "entry_points.txt").write_text(points)
    (tmp_path / "tencentdlr.py").write_text(_PLUG_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    import tencentdlr  # type: ignore[import-not-found] # made three lines above

    monkeypatch.setattr(tencentdlr, "VERSION", 1)
    plug_in = Settings.model_validate(
        {
            "accounts": {"cloud": {"provider": "tencent"}},
            "sources": {"cloud": {"puller": "mns", "account": "cloud"}},
        }
    )
    meanings = Meanings(plug_in)
    body = b'{"id":"1","to":"+8613900000001","err_code":"NEW_CODE"}'
    rig.deliver(body, source="cloud", normalize=tencentdlr.read)

    assert rig.replay(meanings=meanings).reasons == {"bad_field": 1}
    monkeypatch.setattr(tencentdlr, "VERSION", 2)
    assert rig.replay(meanings=meanings).settled == 1

    [row] = rig.receipts()
    assert row[:6] == ("1", "+8613900000001", "tencent", "cloud", "failed", "NEW_CODE")
    assert row[8] == "queue"


def test_the_machines_clock_will_do(file: Rig) -> None:
    file.deliver(sms_report(1), normalize=refuse)
    file.clock = SystemClock()  # type: ignore[assignment] # as in real life

    assert file.replay().settled == 1
