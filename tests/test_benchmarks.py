"""The benchmark's own parts: its broker, its arithmetic, and the guard's decision."""

import threading
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from mns.account import Account
from mns.mns_exception import MNSServerException

from benchmarks import clients, fleet, guard, places, publish, table, wire
from benchmarks.drain import check, drain
from benchmarks.figures import Key, Results, Spread, percentile
from benchmarks.fleet import Broker, Failed
from benchmarks.flow import flow
from benchmarks.machine import Cores
from benchmarks.promises import PROMISES, Promise, Verdict
from receiptd.clock import SystemClock
from receiptd.errors import InvalidEnvelope, SourceCancelled
from receiptd.model import Committed, Credentials, Envelope, Origin, Receipt
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context
from receiptd.providers.decode import decode
from receiptd.providers.keys import StaticCredentials
from receiptd.pullers.mns import MnsPuller

UNPINNED = Cores()
NORMALIZE = PROVIDER.normalizers["SmsReport"]


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(None) as one:
        yield one


@pytest.fixture
def puller(broker):
    credentials = StaticCredentials(Credentials("testAK", "testSK"))
    one = MnsPuller("s", broker.url, clients.QUEUE, credentials, SystemClock())
    yield one
    one.close()


@pytest.fixture
def sdk(broker):
    queue = Account(broker.url, "testAK", "testSK").get_queue(clients.QUEUE)
    yield queue
    queue.mns_client.http.conn.close()


def understood(envelope: Envelope) -> Receipt | None:
    if envelope.flaw is not None:
        return None
    try:
        (part,) = decode(envelope.body)
        if isinstance(part.data, InvalidEnvelope):
            return None
        record = NORMALIZE(part.data, Context("aliyun", "main", Origin.QUEUE))
    except InvalidEnvelope:
        return None
    assert isinstance(record, Receipt)
    return record


def test_receiptd_understands_every_message_of_the_broker(broker, puller):
    broker.prepare(20)
    broker.begin()

    envelopes = puller.pull(16, 0) + puller.pull(16, 0)

    receipts = [understood(envelope) for envelope in envelopes]
    assert [one.biz_id for one in receipts] == [wire.biz_id(number) for number in range(1, 21)]
    assert [one.phone for one in receipts] == [f"+86{wire.phone(n)}" for n in range(1, 21)]
    assert len({envelope.envelope_id for envelope in envelopes}) == 20
    assert all((one.visible_until or 0) > SystemClock().monotonic() for one in envelopes)
    assert not any(one.digest_differs for one in envelopes)
    assert puller.pull(16, 0) == []


def test_the_stock_sdk_reads_the_same_as_receiptd(broker, puller, sdk):
    broker.prepare(2)
    broker.begin()

    (ours,) = puller.pull(1, 0)
    (theirs,) = sdk.batch_receive_message(1, 0)

    assert ours.body == wire.body(1, ours.enqueued_at)
    at = datetime.fromtimestamp(theirs.enqueue_time / 1000, UTC)
    assert theirs.message_body == wire.body(2, at)
    with pytest.raises(MNSServerException, match="MessageNotExist"):
        sdk.receive_message(0)


def test_what_either_client_deletes_is_counted_once(broker, puller, sdk):
    broker.prepare(5)
    broker.begin()

    three = [Committed(envelope) for envelope in puller.pull(3, 0)]
    puller.ack(three)
    puller.ack(three)
    sdk.delete_message(sdk.receive_message(0).receipt_handle)
    sdk.batch_delete_message([one.receipt_handle for one in sdk.batch_receive_message(16, 0)])

    counts = broker.counts()
    assert (counts.handed_out, counts.deleted, counts.left) == (5, 5, 0)
    assert (counts.receives, counts.deletes) == (3, 4)
    assert counts.first_answer_at < counts.first_delete_at < counts.last_delete_at


def test_a_long_poll_waits_for_what_comes(broker, puller):
    broker.prepare(1)
    pulled: list[Envelope] = []
    thread = threading.Thread(target=lambda: pulled.extend(puller.pull(16, 30)))
    thread.start()
    while not broker.counts().waiting:
        pass

    broker.begin()

    thread.join()
    assert len(pulled) == 1
    assert broker.counts().waiting == 0


def test_a_poll_whose_client_went_away_gets_no_message(broker, puller):
    def poll() -> None:
        with pytest.raises(SourceCancelled):
            puller.pull(16, 30)

    broker.prepare(1)
    thread = threading.Thread(target=poll)
    thread.start()
    while not broker.counts().waiting:
        pass

    puller.cancel()
    thread.join()
    while broker.counts().waiting:
        pass

    broker.begin()
    assert broker.counts().handed_out == 0


def test_one_in_so_many_can_be_made_unreadable(broker, puller):
    broker.prepare(16, 4)
    broker.begin()

    receipts = [understood(envelope) for envelope in puller.pull(16, 0)]

    assert [number for number, one in enumerate(receipts, 1) if one is None] == [4, 8, 12, 16]


@pytest.mark.parametrize("number", range(6))
def test_no_bad_body_is_understood(number):
    envelope = Envelope(source="s", envelope_id="1", body=wire.bad(number), handle="")

    assert understood(envelope) is None


@pytest.mark.parametrize(
    "client", [clients.receiptd(2), clients.rival("demo1"), clients.rival("naive16", 2)]
)
def test_every_contender_stores_each_receipt_once(client):
    drained = drain(client, places.SQLITE, 40, UNPINNED)

    assert drained.per_s > 0
    assert drained.requests >= 2 / 16


def test_each_receipt_that_arrives_has_its_time():
    flowed = flow(clients.receiptd(1), places.SQLITE, 500, 0.1, UNPINNED, seed=1)

    assert 0 < flowed.p50_ms <= flowed.p99_ms


def test_a_receipt_that_is_missing_spoils_the_run():
    with places.fresh(places.SQLITE) as url:
        drain_nothing = clients.rival("demo1")
        with fleet.started(drain_nothing, url, cores=UNPINNED), pytest.raises(Failed, match="0, 0"):
            check(drain_nothing, url, 1)


def test_a_percentile_is_a_value_that_was_measured():
    assert percentile([5.0], 0.99) == 5.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile([float(number) for number in range(1, 101)], 0.99) == 99.0
    assert percentile([float(number) for number in range(1, 51)], 0.99) == 50.0


FAST, SLOW = (Key("saturation", places.SQLITE, "", name) for name in ("receiptd", "demo1"))


def measured(fast: float, slow: float) -> Results:
    results = Results()
    for share in (0.5, 1.0, 3.0):
        results.add(FAST, {"per_s": fast * share})
        results.add(SLOW, {"per_s": slow * share})
    return results


def test_a_ratio_is_of_medians():
    results = measured(100, 10)

    assert results.spread(FAST, "per_s") == Spread(100, 50, 300)
    assert results.ratio(FAST, SLOW, "per_s") == 10


def test_a_series_with_a_failed_round_has_no_figure():
    results = measured(100, 10)

    results.add_failure(FAST, "a receipt was lost")

    assert results.spread(FAST, "per_s") is None
    assert results.ratio(FAST, SLOW, "per_s") is None
    assert "FAILED: saturation, sqlite, receiptd: a receipt was lost" in table.markdown(results)


@pytest.mark.parametrize(
    ("value", "higher_is_better", "verdict"),
    [
        (3.0, True, Verdict.AIM),
        (2.0, True, Verdict.KEPT),
        (1.9, True, Verdict.BROKEN),
        (None, True, Verdict.UNKNOWN),
        (3.1, False, Verdict.BROKEN),
    ],
)
def test_a_promise_is_judged_by_floor_and_aim(value, higher_is_better, verdict):
    floor, aim = (2.0, 3.0) if higher_is_better else (3.0, 2.0)
    promise = Promise("it", lambda _: value, floor, aim, higher_is_better=higher_is_better)

    assert promise.verdict(Results()) is verdict


def test_the_promises_are_those_of_the_results():
    end_to_end = PROMISES[0]

    assert end_to_end.measured(measured(100, 10)) == 10
    assert end_to_end.verdict(measured(100, 10)) is Verdict.BROKEN
    assert end_to_end.verdict(measured(120, 10)) is Verdict.KEPT
    assert table.broken(measured(100, 10)) == ["end to end against demo1, sqlite"]
    assert table.broken(measured(120, 10)) == []


def test_the_table_shows_median_spread_and_ratio():
    text = table.markdown(measured(1200, 100))

    assert "| end to end against demo1, sqlite " in text
    assert " 12.0x " in text
    assert "1,200 [600–3,600]" in text


def test_the_tables_take_the_place_between_the_marks():
    document = "before\n" + publish.BEGIN + "old\n" + publish.END + "after\n"

    text = publish.published(document, measured(1200, 100))

    assert text.startswith("before\n" + publish.BEGIN)
    assert text.endswith(publish.END + "after\n")
    assert "1,200 [600–3,600]" in text
    assert "old" not in text
    assert publish.published(text, measured(1200, 100)) == text


def test_the_document_has_a_place_for_the_tables():
    publish.published(publish.DOCUMENT.read_text(), Results())


def test_the_guard_tolerates_a_fifth():
    committed = {"sqlite": {"speed": 4.0, "cpu": 2.0}, "postgresql": {"speed": 3.0}}
    found = {"sqlite": {"speed": 3.2, "cpu": 1.59}}

    (fallen,) = guard.shortfalls(committed, found, ["sqlite"])

    assert str(fallen) == "sqlite: cpu is 1.59, 80% of the committed 2.00"
    (missing,) = guard.shortfalls(committed, found, ["postgresql"])
    assert str(missing) == "postgresql: speed could not be measured"


def test_the_guard_reads_what_it_writes():
    written = guard.toml({"sqlite": {"speed against naive16": 4.125}})

    assert tomllib.loads(written) == {"sqlite": {"speed against naive16": 4.12}}


def test_the_committed_ratios_are_those_that_are_measured():
    committed = tomllib.loads(guard.RATIOS.read_text())

    results = Results()
    for kind in guard.KINDS:
        for name in ("receiptd", "naive16"):
            results.add(Key("guard", kind, "", name), {"per_s": 1.0, "cpu_us": 1.0})
    expected = guard.ratios(results, guard.KINDS)
    assert {kind: set(named) for kind, named in committed.items()} == {
        kind: set(named) for kind, named in expected.items()
    }
