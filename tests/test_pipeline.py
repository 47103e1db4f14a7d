"""What becomes of a batch: records, reasons, and what may be acked."""

import gc
import json
import sys

import pytest
from structlog.testing import capture_logs

from receiptd.clock import ManualClock
from receiptd.errors import ConfigError, Problem, StoreRejected, StoreUnavailable
from receiptd.model import Kind, Origin, Outcome, Reason
from receiptd.pipeline import Pipeline, read
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context
from receiptd.store import SaveResult
from tests.fakes import envelope, sms_report

CONTEXT = Context(provider="aliyun", account="main", origin=Origin.QUEUE)
NORMALIZE = PROVIDER.normalizers["SmsReport"]


class Recorder:
    """A saver that keeps what it was given, and refuses what `refuse` says."""

    def __init__(self):
        self.saved = []
        self.refuse = lambda entries: None

    def save(self, entries):
        error = self.refuse(entries)
        if error is not None:
            raise error
        self.saved.append(list(entries))
        records = sum(entry.record is not None for entry in entries)
        return SaveResult(changed=records, unchanged=0)


@pytest.fixture
def saver():
    return Recorder()


@pytest.fixture
def pipeline(saver):
    return Pipeline(context=CONTEXT, normalize=NORMALIZE, store=saver, clock=ManualClock())


def entries(body):
    return read(envelope(body), CONTEXT, NORMALIZE, ManualClock().now())


def test_an_envelope_with_an_array_gives_an_entry_for_each_element():
    good, bad = sms_report(1), b'{"biz_id": "1"}'

    found = entries(b"[" + good + b", " + bad + b"]")

    assert [(one.part, one.outcome, one.body) for one in found] == [
        (0, Outcome.STORED, good),
        (1, Outcome.QUARANTINED, bad),
    ]
    assert found[1].reason.startswith((Reason.MISSING_FIELD, Reason.UNKNOWN_SHAPE))


def test_a_reply_in_a_queue_of_receipts_is_still_a_reply():
    body = {
        "phone_number": "13900000002",
        "content": "TD",
        "dest_code": "2400001",
        "send_time": "2026-05-06 15:20:00",
        "sequence_id": 568000001,
    }

    (entry,) = entries(json.dumps(body).encode())

    assert entry.kind is Kind.UPLINK


def test_a_whole_batch_is_saved_at_once_and_all_of_it_may_be_acked(pipeline, saver):
    batch = [envelope(sms_report(1), "a"), envelope(b"garbage", "b")]

    processed = pipeline.process(batch)

    assert len(saver.saved) == 1
    assert [one.envelope.envelope_id for one in processed.committed] == ["a", "b"]
    assert (processed.records, processed.quarantined) == (1, 1)


@pytest.mark.parametrize(
    "error", [StoreUnavailable("away"), ConfigError([Problem("database.url", "is not durable")])]
)
def test_nothing_may_be_acked_while_the_database_does_not_store(pipeline, saver, error):
    saver.refuse = lambda entries: error

    with pytest.raises(type(error)):
        pipeline.process([envelope(sms_report(1))])

    assert saver.saved == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreRejected("too long"), Reason.STORE_REJECTED),
        (ZeroDivisionError(), Reason.UNEXPECTED_ERROR),
    ],
)
def test_the_one_row_that_is_refused_is_quarantined_alone(pipeline, saver, error, reason):
    def refuse(entries):
        bad = [one for one in entries if one.record and one.record.out_id == "order-2"]
        return error if bad else None

    saver.refuse = refuse
    processed = pipeline.process([envelope(sms_report(n), f"m{n}") for n in range(4)])

    assert len(processed.committed) == 4
    assert (processed.records, processed.quarantined) == (3, 1)
    flat = [entry for group in saver.saved for entry in group]
    assert [one.reason for one in flat if one.outcome is Outcome.QUARANTINED] == [reason]
    assert [one.envelope.envelope_id for one in flat] == ["m0", "m1", "m2", "m3"]


def test_a_bug_of_ours_is_logged_with_where_it_happened(pipeline, saver):
    saver.refuse = lambda entries: ZeroDivisionError() if entries[0].record else None

    with capture_logs() as lines:
        pipeline.process([envelope(sms_report(1), "m1")])

    [failed] = [line for line in lines if line["event"] == "envelope.failed"]
    assert (failed["envelope_id"], failed["exc_info"]) == ("m1", True)


def test_a_database_that_goes_away_during_the_one_by_one_pass_stops_it(pipeline, saver):
    errors = iter([StoreRejected("data"), None, StoreUnavailable("away")])
    saver.refuse = lambda entries: next(errors)

    with pytest.raises(StoreUnavailable):
        pipeline.process([envelope(sms_report(n), f"m{n}") for n in range(4)])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"not json",
        b"[1, 2]",
        b'["cut off',
        b'{"biz_id": "1"}',
        b"[" + sms_report(1) + b', {"cut": ',
        b"[" * 5_000,
        b'{"a": ' * 5_000,
    ],
)
def test_what_cannot_be_understood_leaves_nothing_behind(pipeline, saver, body):
    """A refusal that held the frames it went through would keep each bad batch for ever."""
    batch = [envelope(body, f"m{number}") for number in range(16)]
    pipeline.process(batch)
    saver.saved.clear()
    gc.collect()
    gc.disable()
    try:
        before = sys.getallocatedblocks()
        for _ in range(50):
            pipeline.process(batch)
            saver.saved.clear()
        kept = sys.getallocatedblocks() - before
        garbage = gc.collect()
    finally:
        gc.enable()

    assert kept < len(batch) * 50  # less than one for each; what the log says is caught, too
    assert garbage == 0
