"""The soak of `make soak`, in short; and that it would see a leak and a loss."""

import itertools
import os
import random
import socket

import pytest

from receiptd.clock import SystemClock
from receiptd.store import open_store
from tests.databases import ask, fresh_url
from torture.evidence import Verdict
from torture.soak_daemon import pools
from torture.soak_judge import judge
from torture.soak_report import markdown
from torture.soak_run import Plan, soak
from torture.soak_samples import LEAST_RECEIPTS, Judgement, Sample, leaks, memory, sample, slope
from torture.soak_sms import Oddity, biz_id, is_delivered, number_of, oddity, phone, receipts_of

# At a rate that gives each trouble its time, on a fast machine, too: four seconds.
SHORT = Plan(warm_up=2_000, messages=10_000, per_s=2_000, sample_every_s=0.5, trouble_every_s=0.3)


def test_a_soak_loses_nothing_and_leaves_no_thread_and_no_descriptor_open(tmp_path):
    with fresh_url("sqlite", tmp_path) as url:
        soaked = soak(SHORT, url, tmp_path)

    assert soaked.complaints == [], "\n".join(soaked.tail)
    assert leaks(soaked.quiet[0], soaked.quiet[1], pools("sqlite")) == []
    verdict = soaked.verdict
    assert (verdict.sent, verdict.lost, verdict.unexpected) == (10_000, 0, 0)
    assert (verdict.duplicated, verdict.early) == (0, 0)
    assert soaked.looked > 0
    # There was something to survive.
    assert soaked.struck["requests to the broker"] > 0
    assert soaked.struck["a second writer"] > 0
    assert soaked.struck["no room on the disk"] > 0
    assert soaked.events["store.lost"] > 0
    assert markdown(soaked).splitlines()[2].startswith("**Nothing was lost")


# --- the judgement of samples ---


def samples(growth=lambda number: 0.0, *, count=300, each=4000, noise_kib=200):
    """Return samples of one second each, of a process that holds 80 MB and what `growth` adds (in
    KiB) at each of them."""
    chance = random.Random(7)
    return [
        Sample(
            at_s=number,
            receipts=number * each,
            rss_kib=80_000 + round(growth(number) + chance.uniform(0, noise_kib)),
            anon_kib=0,
            threads=20,
            descriptors={"sockets": 8, "database": 9},
        )
        for number in range(count)
    ]


def test_memory_that_only_wavers_is_no_leak():
    found = memory(samples())

    assert found.is_judged
    assert not found.is_leak
    assert abs(found.slope_mb_h) < 1


@pytest.mark.parametrize("bytes_each", [4, 50])
def test_a_few_bytes_that_each_receipt_leaves_behind_are_found(bytes_each):
    found = memory(samples(lambda number: number * 4000 * bytes_each / 1024))

    assert found.is_leak
    assert found.bytes_per_receipt == pytest.approx(bytes_each, abs=0.2)
    assert found.slope_mb_h == pytest.approx(bytes_each * 4000 * 3600 / 1024**2, rel=0.05)


def test_a_leak_in_steps_of_an_arena_is_found():
    assert memory(samples(lambda number: number // 40 * 1024)).is_leak


@pytest.mark.parametrize("until", [60, 150])
def test_what_fills_and_then_stays_is_no_leak(until):
    found = memory(samples(lambda number: min(number, until) * 100))

    assert found.slope_mb_h > 1
    assert not found.is_leak


def test_one_arena_more_is_noise():
    found = memory(samples(lambda number: 1000 if number > 200 else 0, noise_kib=0))

    assert found.slope_mb_h > 1
    assert not found.is_leak


@pytest.mark.parametrize(("kib_each", "is_too_steep"), [(0, False), (0.1, False), (0.5, True)])
def test_growth_that_is_no_leak_yet_may_be_more_than_promised(kib_each, is_too_steep):
    """Over 1,000 s, 0.1 KiB a second is 0.35 MB an hour, 0.5 KiB are 1.76."""
    found = memory(samples(lambda number: number * kib_each, count=1000, noise_kib=100))

    assert not found.is_leak
    assert found.is_too_steep == is_too_steep


def test_a_megabyte_an_hour_is_not_looked_for_in_a_few_minutes():
    found = memory(samples(lambda number: number * 0.5, count=800, noise_kib=10))

    assert found.slope_mb_h > 1
    assert not found.is_too_steep


def test_too_few_receipts_are_not_judged():
    found = memory(samples(lambda number: number * 100, each=LEAST_RECEIPTS // 400))

    assert not found.is_judged
    assert not found.is_leak


@pytest.mark.parametrize(
    ("kib_each", "count", "judgement"),
    [
        (0, 1000, Judgement.STEADY),
        (0.5, 1000, Judgement.TOO_STEEP),
        (50, 1000, Judgement.LEAK),
        (50, 400, Judgement.LEAK),
        (50, 20, Judgement.UNJUDGED),
    ],
)
def test_the_worst_that_the_samples_say_is_the_judgement(kib_each, count, judgement):
    found = memory(samples(lambda number: number * kib_each, count=count, noise_kib=100))

    assert found.judgement is judgement


def test_the_slope_is_that_of_least_squares_and_its_error_that_of_the_rest():
    assert slope([0, 1, 2, 3], [1, 3, 5, 7]) == (2.0, 0.0)
    assert slope([1, 1, 1], [1, 2, 3]) == (0.0, 0.0)
    found, error = slope([0, 1, 2, 3], [0, 2, 0, 2])
    assert found == pytest.approx(0.4)
    assert error == pytest.approx((3.2 / 2 / 5) ** 0.5)


def test_a_thread_or_a_descriptor_more_than_after_the_warm_up_is_a_leak():
    before = samples(count=1)[0]

    def after(threads, **descriptors):
        return Sample(9, 9, 80_000, 0, threads, descriptors)

    assert leaks(before, after(20, sockets=8, database=9), {}) == []
    assert leaks(before, after(19, sockets=2), {}) == []
    assert leaks(before, after(20, broker=52), {"broker": 52}) == []
    assert leaks(before, after(20, broker=53), {"broker": 52}) == ["descriptors: broker 0 -> 53"]
    assert leaks(before, after(21, sockets=8, files=1), {}) == [
        "threads 20 -> 21",
        "descriptors: files 0 -> 1",
    ]


def test_a_process_is_sampled_with_what_it_holds_open_of_the_database(tmp_path):
    file = tmp_path / "receipts.db"
    pid = os.getpid()
    before = sample(pid, 0, 0, str(file))
    with file.open("w"):
        after = sample(pid, 1, 0, str(file))

    assert before.descriptors.get("database", 0) == 0
    assert after.descriptors["database"] == 1
    assert after.rss_kib > after.anon_kib > 0


def test_a_process_is_sampled_with_its_connections_to_the_broker(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            seen = sample(os.getpid(), 0, 0, str(tmp_path), port)

    assert seen.descriptors["broker"] == 1


# --- the judgement of rows ---


def test_an_sms_is_made_from_its_number_and_known_by_it():
    numbers = range(20_000)

    assert [number_of(biz_id(number)) for number in numbers] == list(numbers)
    assert number_of("900000000000000001^1") is None
    assert number_of("abc") is None
    shares = [sum(oddity(number) is odd for number in numbers) / len(numbers) for odd in Oddity]
    assert shares == [pytest.approx(0.01, abs=0.003)] * len(Oddity)
    delivered = sum(map(is_delivered, numbers)) / len(numbers)
    assert delivered == pytest.approx(0.8, abs=0.02)


@pytest.fixture
def url():
    """A database that holds the first ten SMS as they should be."""
    with fresh_url("sqlite") as url:
        store = open_store(url, SystemClock())
        store.upgrade()
        store.close()
        for number in range(10):
            receipt(url, number, is_delivered(number))
            for _ in range(receipts_of(number)):
                journal(url, number)
        yield url


ENVELOPES = itertools.count()


def receipt(url, number, success, account="main"):
    status = "delivered" if success else "failed"
    ask(
        url,
        "INSERT INTO receipts (provider, account, biz_id, phone, status, origin, created_at,"
        f" updated_at) VALUES ('aliyun', '{account}', '{biz_id(number)}', '+86{phone(number)}',"
        f" '{status}', 'queue', '2026-11-21 00:00:00.000000', '2026-11-21 00:00:00.000000')",
    )


def journal(url, number, outcome="stored", envelope="", part=0):
    name = envelope or f"e{next(ENVELOPES)}"
    ask(
        url,
        "INSERT INTO journal (source, envelope_id, part, body, encoding, kind, outcome, biz_id,"
        f" phone, received_at) VALUES ('s', '{name}', {part}, '', 'text', 'receipt',"
        f" '{outcome}', '{biz_id(number)}', '', '2026-11-21 00:00:00.000000')",
    )


def judged(url, sms=10, **known):
    rows = sum(receipts_of(number) for number in range(10))
    usual = {"handed_out": rows, "poisoned": 0, "answered": 0, "early": 0, "retried": False}
    return judge(url, sms, **{**usual, **known})


def test_what_was_stored_as_it_was_sent_is_right(url):
    assert judged(url) == Verdict(sent=10)


def test_a_row_that_is_missing_or_says_something_else_is_lost(url):
    ask(url, f"DELETE FROM receipts WHERE biz_id = '{biz_id(1)}'")
    ask(url, f"UPDATE receipts SET status = 'awaited' WHERE biz_id = '{biz_id(2)}'")

    assert judged(url) == Verdict(sent=10, lost=2)


def test_a_receipt_without_its_line_in_the_journal_is_lost(url):
    ask(url, f"DELETE FROM journal WHERE biz_id = '{biz_id(3)}'")

    assert judged(url) == Verdict(sent=10, lost=1)


def test_a_row_of_nobody_is_unexpected_and_one_too_many_a_duplicate(url):
    receipt(url, 5, is_delivered(5), account="other")
    receipt(url, 11, True)

    assert judged(url) == Verdict(sent=10, unexpected=1, duplicated=1)


def test_a_line_that_no_delivery_explains_is_a_duplicate_and_one_that_was_redelivered_is_not(url):
    journal(url, 4)
    rows = sum(receipts_of(number) for number in range(10))

    assert judged(url).duplicated == 1
    assert judged(url, retried=True).duplicated == 0
    assert judged(url, handed_out=rows + 1) == Verdict(sent=10, recovered=1)


def test_poison_that_is_a_list_was_handed_out_once(url):
    for part in range(3):
        journal(url, 99, outcome="quarantined", envelope="poison", part=part)
    rows = sum(receipts_of(number) for number in range(10))

    assert judged(url, handed_out=rows + 1, poisoned=1) == Verdict(sent=10)
    assert judged(url, handed_out=rows, poisoned=1).duplicated == 1


def test_poison_and_replies_are_counted(url):
    journal(url, 99, outcome="quarantined")

    assert judged(url, handed_out=99, poisoned=1) == Verdict(sent=10)
    assert judged(url, handed_out=99, poisoned=2).lost == 1
    assert judged(url, handed_out=99, poisoned=0).unexpected == 1
    assert judged(url, handed_out=99, poisoned=1, answered=1).lost == 1
