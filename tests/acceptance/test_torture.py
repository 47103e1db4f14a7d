"""The torture of `make torture`, in short; and that it would see what it looks for."""

import time
from itertools import product

import pytest

from receiptd.clock import SystemClock
from receiptd.store import open_store
from tests.databases import ask, databases, fresh_url
from torture.anomalies import Anomaly, AnomalyResult, reason_to_skip, run_loop
from torture.evidence import Truth, Verdict, Witness, judge
from torture.report import Outcome, markdown
from torture.sweep import POINTS, Cell, CellResult, run_cell
from torture.traffic import PULLERS

KILLS = 2
# Each point, and each source on each database, once or twice.
FIELDS = [
    pytest.param(list(POINTS)[number % len(POINTS)], kind, puller, id=f"{kind}-{puller}")
    for number, (kind, puller) in enumerate(product(databases(), PULLERS))
]
FAILING = [("fdatasync", "EIO"), ("fdatasync", "SIGKILL"), ("pwrite64", "ENOSPC")]
NOTHING_WRONG = {"lost": 0, "unexpected": 0, "duplicated": 0, "early": 0}


def wrongs(verdict: Verdict) -> dict[str, int]:
    return {name: getattr(verdict, name) for name in NOTHING_WRONG}


@pytest.mark.parametrize(("point", "kind", "puller"), FIELDS)
def test_kills_lose_nothing_invent_nothing_and_double_nothing(point, kind, puller):
    with fresh_url(kind) as url:
        result = run_cell(Cell(point, kind, puller, KILLS), url)

    assert result.complaints == []
    assert result.killed == KILLS
    assert result.verdict.sent > 0
    assert wrongs(result.verdict) == NOTHING_WRONG


@pytest.mark.parametrize(("call", "fault"), FAILING)
def test_a_system_call_that_fails_loses_nothing_either(call, fault):
    if reason := reason_to_skip():
        pytest.skip(reason)
    result = run_loop(Anomaly(call, fault, most=2), until=time.time() + 60)

    assert result.complaints == []
    assert result.runs == 2
    assert result.died == (2 if fault == "SIGKILL" else 0)
    assert wrongs(result.verdict) == NOTHING_WRONG


@pytest.fixture
def url():
    """A database with one delivered SMS, stored and journalled as envelope e1."""
    with fresh_url("sqlite") as url:
        store = open_store(url, SystemClock())
        store.upgrade()
        store.close()
        receipt(url, "1^0", "delivered")
        journal(url, "e1", "1^0")
        yield url


def receipt(url, biz_id, status, account="main"):
    ask(
        url,
        "INSERT INTO receipts (provider, account, biz_id, phone, status, origin, created_at,"
        f" updated_at) VALUES ('aliyun', '{account}', '{biz_id}', '+86139', '{status}', 'queue',"
        " '2026-11-21 00:00:00.000000', '2026-11-21 00:00:00.000000')",
    )


def journal(url, envelope_id, biz_id):
    ask(
        url,
        "INSERT INTO journal (source, envelope_id, part, body, encoding, kind, outcome, biz_id,"
        f" phone, received_at) VALUES ('s', '{envelope_id}', 0, '', 'text', 'receipt', 'stored',"
        f" '{biz_id}', '+86139', '2026-11-21 00:00:00.000000')",
    )


def truth(deliveries=1, *, first="delivered", **others):
    """What a sender knows of SMS 1^0, which was in envelope e1, and of others."""
    statuses = {"1^0": first} | {f"{biz_id}^0": status for biz_id, status in others.items()}
    return Truth(
        {(biz_id, "+86139"): status for biz_id, status in statuses.items()}, {"e1": deliveries}
    )


def test_what_was_stored_once_is_found_right(url):
    assert judge(url, truth(), early=0) == Verdict(sent=1)


def test_a_receipt_without_its_row_is_lost(url):
    verdict = judge(url, truth(other="failed"), early=0)

    assert verdict == Verdict(sent=2, lost=1)
    assert not verdict.is_clean


def test_a_row_that_says_something_else_is_a_loss_too(url):
    assert judge(url, truth(first="failed"), early=0).lost == 1


def test_a_row_that_nobody_sent_is_unexpected(url):
    receipt(url, "2^0", "delivered")

    assert judge(url, truth(), early=0) == Verdict(sent=1, unexpected=1)


def test_one_sms_in_two_rows_is_a_duplicate(url):
    receipt(url, "1^0", "delivered", account="other")

    assert judge(url, truth(), early=0) == Verdict(sent=1, duplicated=1)


def test_a_journal_row_is_a_duplicate_unless_a_delivery_explains_it(url):
    journal(url, "e1", "1^0")

    assert judge(url, truth(deliveries=1), early=0).duplicated == 1
    assert judge(url, truth(deliveries=2), early=0) == Verdict(sent=1, recovered=1)
    assert judge(url, truth(deliveries=1), early=0, retried=True).is_clean


def test_an_ack_before_its_row_is_early(url):
    witness = Witness(url)
    witness.see("e1")
    witness.see("e2")
    witness.close()

    assert witness.early == {"e2"}
    assert not judge(url, truth(), early=len(witness.early)).is_clean


def outcome(**wrong):
    cell = CellResult(Cell("after ack", "sqlite", "mns"), Verdict(sent=9, **wrong), 25, 1.0, [])
    loop = AnomalyResult(Anomaly("fdatasync", "EIO"), Verdict(sent=3), 4, 0, True, 0.5, [])
    return Outcome([cell], [loop], ["mariadb: away"], 61.0)


def test_the_report_says_first_whether_anything_went_wrong():
    assert markdown(outcome()).splitlines()[2].startswith("**Nothing was lost")
    assert markdown(outcome(lost=1)).splitlines()[2].startswith("**SOMETHING was lost")


def test_the_report_counts_each_fault_and_names_what_did_not_run():
    report = markdown(outcome(lost=1))

    assert "| after ack | 25 | 9 | 1 | 0 | 0 | 0 | 0 | 1.0 s |" in report
    assert "| fdatasync, EIO | 4 | 0 | 3 | 0 | 0 | 0 | 0 | 0 | 0.5 s |" in report
    assert "- mariadb: away" in report
    assert "## What this does not cover" in report
