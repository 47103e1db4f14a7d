"""What `save()` writes."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from receiptd.clock import ManualClock
from receiptd.errors import StoreRejected
from receiptd.model import Entry, Kind, Outcome, Reason, Record, Status
from receiptd.store import SaveResult, Store
from tests.store.store_samples import (
    BODY,
    NOON,
    Database,
    entries,
    entry,
    notice,
    receipt,
    uplink,
    with_envelope,
)


def test_a_receipt_is_stored_with_its_times_in_utc(store: Store, database: Database) -> None:
    beijing = timezone(timedelta(hours=8))

    store.save(entries(receipt(sent_at=datetime(2026, 1, 1, 20, tzinfo=beijing))))

    stored = database.row()
    assert (stored["sent_at"], stored["reported_at"]) == (NOON, NOON + timedelta(seconds=2))
    assert stored["sent_at"].tzinfo is UTC
    assert (stored["status"], stored["err_msg"]) == ("delivered", "用户接收成功")
    assert (stored["next_query_at"], stored["query_count"]) == (None, 0)


def test_a_row_keeps_when_it_was_made_and_tells_when_it_was_changed(database: Database) -> None:
    clock = ManualClock(NOON)
    store = database.open(clock)
    store.save(entries(receipt(status=Status.PENDING)))
    clock.advance(60)
    store.save(entries(receipt()))
    clock.advance(60)
    store.save(entries(receipt()))
    store.close()

    stored = database.row()
    assert stored["created_at"] == NOON
    assert stored["updated_at"] == NOON + timedelta(minutes=1)


def test_each_redelivery_is_a_journal_row_and_none_is_a_second_receipt(
    store: Store, database: Database
) -> None:
    store.save(entries(receipt()))
    store.save(entries(receipt()))

    assert (database.count(), database.count("journal")) == (1, 2)


def test_a_new_record_counts_as_changed_and_a_repeated_one_as_unchanged(store: Store) -> None:
    first = store.save(entries(receipt("a"), receipt("b"), uplink(), notice()))
    again = store.save(entries(receipt("a"), receipt("b"), uplink(), notice()))

    assert first == SaveResult(changed=4, unchanged=0)
    assert again == SaveResult(changed=0, unchanged=4)


def test_duplicates_within_a_batch_are_folded_before_they_are_written(
    store: Store, database: Database
) -> None:
    result = store.save(entries(receipt(status=Status.PENDING), receipt(), receipt()))

    assert result == SaveResult(changed=1, unchanged=2)
    assert database.row()["status"] == "delivered"


def test_keys_are_compared_byte_for_byte(store: Store, database: Database) -> None:
    keys = ["k", "K", "k ", "é", "e\u0301", "e"]

    store.save(entries(*(receipt(key) for key in keys)))

    assert database.count() == len(keys)


def test_the_journal_tells_everything_about_an_envelope(store: Store, database: Database) -> None:
    store.save([entry(receipt(), part=3)])

    assert database.row("journal") == {
        "id": 1,
        "source": "sms_report",
        "envelope_id": "5F290C926D472878-2-14D9529A8FA-200000001",
        "part": 3,
        "body": BODY.decode(),
        "encoding": "text",
        "kind": "receipt",
        "outcome": "stored",
        "reason": None,
        "biz_id": "1^0",
        "phone": "+8613900000001",
        "enqueued_at": NOON,
        "received_at": NOON,
        "pull_count": 1,
    }


@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"a":"\0"}', b"\xed\xa0\x80", b"\xc3"])
def test_a_body_that_is_not_plain_text_is_journalled_in_base64(
    store: Store, database: Database, body: bytes
) -> None:
    store.save([entry(None, body=body, reason=Reason.NOT_UTF8)])

    stored = database.row("journal")
    assert stored["encoding"] == "base64"
    assert base64.b64decode(stored["body"]) == body


def test_a_body_keeps_its_line_ends_and_its_emoji(store: Store, database: Database) -> None:
    body = "\ufeff{\r\n😀}\t".encode()

    store.save([entry(None, body=body)])

    assert database.row("journal")["body"].encode() == body


def test_the_journal_takes_what_the_tables_refuse(store: Store, database: Database) -> None:
    broken = with_envelope(
        entry(None, reason="bad_field:\0\ud800" + "x" * 500),
        source="s" * 300,
        envelope_id="\ud800\0" + "e" * 300,
        pull_count=2**63,
    )

    store.save([broken])

    stored = database.row("journal")
    assert stored["reason"].startswith("bad_field:\ufffd")
    assert (len(stored["source"]), len(stored["envelope_id"])) == (64, 128)
    assert stored["pull_count"] == 2**31 - 1


def test_a_quarantined_or_dropped_entry_stores_no_record(store: Store, database: Database) -> None:
    poison = receipt("b" * 500)
    result = store.save(
        [
            entry(poison, outcome=Outcome.QUARANTINED, reason=Reason.STORE_REJECTED),
            entry(receipt(), outcome=Outcome.DROPPED),
        ]
    )

    assert result == SaveResult(changed=0, unchanged=0)
    assert (database.count(), database.count("journal")) == (0, 2)


def test_a_replayed_entry_stores_its_record(store: Store, database: Database) -> None:
    store.save([entry(receipt(), outcome=Outcome.REPLAYED)])

    assert database.count() == 1


def test_saving_nothing_writes_nothing(store: Store, database: Database) -> None:
    assert store.save([]) == SaveResult(changed=0, unchanged=0)


def test_a_reply_is_one_row_with_or_without_its_time(store: Store, database: Database) -> None:
    store.save(entries(uplink(sent_at=None), uplink(sent_at=None)))
    store.save(entries(uplink()))
    store.save(entries(uplink("568000002"), uplink(phone="+8613900000002")))

    assert database.count("uplinks") == 3


def test_a_review_result_is_one_row_and_a_new_status_another(
    store: Store, database: Database
) -> None:
    store.save(entries(notice(status="approving"), notice(status="approving")))
    store.save(entries(notice(status="rejected", reason="资质不符")))

    told = [
        tuple(one[name] for name in ("status", "reason", "order_id", "submitted_at"))
        for one in database.rows("notices")
    ]
    assert told == [("approving", None, "", NOON), ("rejected", "资质不符", "", NOON)]


POISON: list[tuple[str, Record]] = [
    ("receipts.err_msg", receipt(err_msg="\ud800")),
    ("receipts.err_msg", receipt(err_msg="a\0b")),
    ("receipts.biz_id", receipt("b" * 129)),
    ("receipts.err_code", receipt(err_code="e" * 65)),
    ("receipts.segments", receipt(segments=2**63)),
    ("receipts.segments", receipt(segments=-(2**31))),
    ("receipts.phone", receipt(phone=None)),
    ("wrong type", receipt(out_id=["a"])),
    ("wrong type", receipt(err_code=7)),
    ("wrong type", receipt(segments="many")),
    ("wrong type", receipt(sent_at=datetime(2026, 1, 1))),
    ("wrong type", receipt(status="delivered")),
    ("uplinks.content", uplink(content="\ud83d")),
    ("uplinks.sequence_id", uplink("5" * 129)),
    ("notices.reason", notice(reason="\0")),
]


@pytest.mark.parametrize(("place", "record"), POISON)
def test_poison_is_rejected_by_name_and_leaves_nothing(
    store: Store, database: Database, place: str, record: Record
) -> None:
    with pytest.raises(StoreRejected, match=place):
        store.save(entries(receipt("good"), record))

    assert (database.count(), database.count("journal")) == (0, 0)
    assert store.save(entries(receipt("good"))).changed == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"err_msg": "😀" * 1024},
        {"biz_id": "b" * 128, "phone": "p" * 64, "out_id": "o" * 256},
        {"segments": 2**31 - 1},
        {"reported_at": datetime.max.replace(tzinfo=UTC), "sent_at": datetime(1, 1, 1, tzinfo=UTC)},
    ],
)
def test_what_just_fits_is_stored(store: Store, database: Database, fields: dict[str, Any]) -> None:
    store.save(entries(receipt(**fields)))

    assert database.count() == 1


def test_rejected_data_is_in_no_text_of_the_error_or_its_chain(store: Store) -> None:
    secret = "13987654321"
    poison: list[Entry] = [
        entry(receipt(phone=secret, err_msg=secret + "\ud800")),
        entry(uplink(phone=secret, content=secret + "\ud800", sequence_id="5" * 200)),
        entry(receipt(phone=secret, out_id=[secret]), kind=Kind.RECEIPT),
    ]
    for one in poison:
        with pytest.raises(StoreRejected) as caught:
            store.save([one])

        assert secret not in repr(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
