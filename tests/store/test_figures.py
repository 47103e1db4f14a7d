"""Figures for `status`, on every database."""

from datetime import timedelta

from receiptd.clock import ManualClock
from receiptd.model import Origin, Outcome, Receipt, Status
from receiptd.store import Store, figures, journal
from receiptd.store.leases import read_time
from receiptd.tally import Counts
from tests.store.store_samples import NOON, Database, entries, entry, receipt, with_envelope

DAY = timedelta(days=1)


def send(biz_id: str, submitted_at: object = NOON, **fields: object) -> Receipt:
    given = {
        "status": Status.AWAITED,
        "origin": Origin.SEND,
        "submitted_at": submitted_at,
        "err_code": None,
        "err_class": None,
        "reported_at": None,
    }
    return receipt(biz_id, **(given | fields))


def test_progress_is_read_as_it_was_written(store: Store) -> None:
    store.record_progress("b/2", "s", Counts(pulled=2, acked=1))
    store.record_progress("a/1", "s", Counts(pulled=5, last_pull_at=NOON))

    with store.reading() as connection:
        first, second = figures.progress_rows(connection)

    assert (first.instance, first.pulled, first.last_pull_at) == ("a/1", 5, NOON)
    assert (second.instance, second.acked, second.last_commit_at) == ("b/2", 1, None)


def test_the_lag_is_that_of_each_sources_newest_envelope(store: Store) -> None:
    def pulled(source: str, second: int, waited: float) -> None:
        at = NOON + timedelta(seconds=second)
        one = entry(receipt(), received_at=at)
        store.save([with_envelope(one, source=source, enqueued_at=at - timedelta(seconds=waited))])

    pulled("a", 1, 9.0)
    pulled("b", 2, 0.25)
    pulled("a", 3, 0.5)

    with store.reading() as connection:
        assert figures.last_waits(connection, 100) == {"a": 0.5, "b": 0.25}
        assert figures.last_waits(connection, 2) == {"a": 0.5, "b": 0.25}
        assert figures.last_waits(connection, 1) == {"a": 0.5}


def test_an_envelope_without_a_time_says_nothing_about_the_lag(store: Store) -> None:
    store.save([with_envelope(entry(receipt()), enqueued_at=None)])

    with store.reading() as connection:
        assert figures.last_waits(connection, 100) == {}


def test_the_quarantine_is_counted_by_reason_without_its_detail(store: Store) -> None:
    reasons = ["bad_field:report_time", "bad_field:success", "not_json"]
    store.save([entry(None, reason=reason) for reason in reasons])
    store.save([entry(None, reason="not_json", outcome=Outcome.DROPPED), entry(receipt())])

    with store.reading() as connection:
        assert journal.by_reason(connection) == {"bad_field": 2, "not_json": 1}


def test_planned_sends_are_counted_with_what_is_overdue_and_due(store: Store) -> None:
    sends = [send("1^0"), send("2^0", NOON + timedelta(minutes=10)), send("3^0", NOON + DAY)]
    store.record_sends([*sends, send("4^0", None), send("5^0", account="other")])

    now = NOON + timedelta(minutes=20)
    with store.reading() as connection:
        found, last = figures.planned(connection, now, now - timedelta(minutes=15), None, 1000)

    assert last is None
    mine, other = sorted(found, key=lambda one: one.account)
    assert (mine.count, mine.overdue, mine.due, mine.oldest) == (3, 1, 1, NOON)
    assert (other.account, other.count, other.status) == ("other", 1, Status.AWAITED)


def test_planned_sends_are_counted_in_steps_each_once(store: Store) -> None:
    # Three turns; the second has more rows than a step.
    for minute, count in ((0, 2), (1, 5), (2, 1)):
        at = NOON + timedelta(minutes=minute)
        store.record_sends([send(f"{minute}-{n}^0", at) for n in range(count)])

    counts, after = [], None
    while True:
        with store.reading() as connection:
            found, after = figures.planned(connection, NOON, NOON, after, 3)
        counts.append(sum(one.count for one in found))
        if after is None:
            break

    assert counts == [7, 1]


def test_an_overdue_send_that_is_not_there_has_no_time(store: Store) -> None:
    store.record_sends([send("1^0")])

    with store.reading() as connection:
        [found], _ = figures.planned(connection, NOON, NOON - DAY, None, 10)

    assert (found.overdue, found.oldest) == (0, None)


def test_receipts_are_counted_by_account_and_status(store: Store) -> None:
    store.record_sends([send("1^0"), send("2^0", None)])
    store.save(entries(receipt("3^0"), receipt("4^0"), receipt("5^0", status=Status.PENDING)))

    with store.reading() as connection:
        found = {one.status: one for one in figures.tallies(connection, (0, 1 << 40))}
        assert figures.tallies(connection, (1 << 40, 1 << 41)) == []

    assert found[Status.DELIVERED].count == 2
    awaited = found[Status.AWAITED]
    assert (awaited.count, awaited.unplanned, awaited.undated) == (2, 1, 1)
    assert found[Status.PENDING].undated == 1


def test_only_leases_that_somebody_holds_are_told(database: Database) -> None:
    store = database.open(ManualClock(NOON))
    mine = store.leases("host/1")
    mine.acquire("housekeeping", 300)
    mine.acquire("reconcile", 300)
    mine.release("reconcile")

    with store.reading() as connection:
        # A server's own clock decides.
        now = read_time(connection, ManualClock(NOON))
        held = figures.held_leases(connection, now)
    store.close()

    assert [one.name for one in held] == ["housekeeping"]
    assert held[0].holder.startswith("host/1/")


def test_the_database_tells_its_kind_and_size(database: Database, store: Store) -> None:
    store.save(entries(receipt()))

    with store.reading() as connection:
        kind, sizes = figures.kind(connection), figures.sizes(connection)

    assert kind == database.kind
    assert sum(sizes.values()) > 10_000
    assert set(sizes) == {""} if database.is_sqlite else {"receipts", "journal"} <= set(sizes)
