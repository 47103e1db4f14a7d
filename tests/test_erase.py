"""Erasure: nothing of the number is left, and nothing of anybody else's is lost."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from receiptd import erase
from receiptd.clock import ManualClock
from receiptd.erase import ERASED_BODY, Eraser, NotANumber, Number
from receiptd.errors import StoreUnavailable
from receiptd.model import Kind, Outcome, Status
from receiptd.store import Store
from receiptd.store.schema import metadata, notices, outbox, receipts
from receiptd.store.types import ByteText, LongText
from tests.databases import databases, fresh_url
from tests.store.store_samples import NOON, Database, entry, receipt, uplink

PHONE = "+8613812345678"
DIGITS = "13812345678"
OTHER = "+8613900000002"
SPELLINGS = [
    "13812345678",
    "+8613812345678",
    "86 138 1234 5678",
    "0086-138-1234-5678",
    "013812345678",
    "138.1234.5678",
    "１３８１２３４５６７８",
]


@pytest.fixture(params=databases())
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with fresh_url(request.param, tmp_path) as url:
        yield Database(request.param, url)


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    store = database.open()
    yield store
    store.close()


def run(store: Any, phone: str = PHONE, **options: Any) -> erase.Erased:
    return Eraser(store, Number(phone), ManualClock()).run(**({"asked_by": "root"} | options))


def unreadable(body: bytes) -> Any:
    return entry(None, body=body, reason="not_json")


def body_of(phone: str, **fields: object) -> bytes:
    return json.dumps({"phone_number": phone.removeprefix("+86"), **fields}).encode()


def person(phone: str, mark: str) -> list[Any]:
    """What there is about somebody in the tables that the pipeline writes."""
    return [
        entry(
            receipt(mark, phone=phone, out_id=f"order-{mark}", err_msg=f"{phone[3:]} 是空号"),
            body=body_of(phone, biz_id=mark),
        ),
        entry(uplink(mark, phone=phone, content="TD"), body=body_of(phone, content="TD")),
    ]


def notify(store: Store, phone: str | None, body: str) -> None:
    row = {
        "endpoint": "app", "event": "receipt.updated", "message_id": "m", "created_at": NOON,
        "next_attempt_at": NOON,
    }  # fmt: skip
    with store.writing() as connection:
        connection.execute(insert(outbox).values(phone=phone, body=body, **row))


def holds(database: Database, digits: str = DIGITS) -> list[str]:
    """Every column of every table that holds the digits in any row."""
    return [
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, (ByteText, LongText))
        and database.query(f"SELECT 1 FROM {table.name} WHERE {column.name} LIKE '%{digits}%'")
    ]


# --- the number ---


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_number_is_found_in_any_spelling(spelling: str) -> None:
    number = Number(DIGITS)
    escaped = "".join(f"\\u00{ord(digit):02x}" for digit in DIGITS)

    for text in (spelling, f'{{"phone":"{spelling}"}}', f"用户{spelling}号", f"a,{spelling},b"):
        assert number.is_in(text)
        assert not number.is_in(number.without(text))
    assert number.is_in(f'{{"phone":"{escaped}"}}')
    assert number.is_in(f"phone=%20{DIGITS}")
    twice = base64.b64encode(base64.b64encode(f'{{"phone":"{spelling}"}}'.encode()))
    assert number.is_in(twice.decode())
    assert number.is_in(base64.b64encode(f"\0{DIGITS}".encode("utf-16-le")).decode())


@pytest.mark.parametrize("spelling", SPELLINGS[:4])
def test_the_number_may_be_asked_for_in_the_usual_spellings(spelling: str) -> None:
    assert Number(f" {spelling}\n").e164 == PHONE


@pytest.mark.parametrize(
    "text",
    ["138123456789", "213812345678", "900138123456780001^0", "85213812345678", "1381234567", ""],
)
def test_a_longer_or_shorter_number_is_another(text: str) -> None:
    assert not Number(DIGITS).is_in(text)


def test_only_the_mention_is_cut_out() -> None:
    assert Number(DIGITS).without(f"打 +86 {DIGITS} 或 13900000002") == "打 [erased] 或 13900000002"


def test_a_number_abroad_needs_its_country_code_to_be_found() -> None:
    american = Number("+1 310 555 1234")

    assert american.is_in("+13105551234")
    assert american.is_in("001 (310) 555-1234")
    assert not american.is_in("13105551234")  # a mobile in China
    assert not Number("13105551234").is_in("+13105551234")
    assert Number("+85261234567").is_in("852-6123-4567")
    german = Number("+49 1510 5551 2345")  # as long as one of China's
    assert german.is_in("0049 15105551 2345")
    assert not german.is_in("151055512345")
    assert not Number("+4915105551234").is_in("15105551234")


@pytest.mark.parametrize("text", ["", "139", "abc", "139****0001", "1" * 30, "13900000001,2"])
def test_what_is_no_number_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(NotANumber) as told:
        Number(text)

    assert str(told.value).startswith("is no phone number: write +8613900000001")


# --- the tables ---


def test_nothing_of_the_number_is_left_in_any_table(store: Store, database: Database) -> None:
    store.save(person(PHONE, "1"))
    store.save([unreadable(f"[{{{spelling}".encode()) for spelling in SPELLINGS])
    store.save(
        [unreadable(b"\xff" + DIGITS.encode()), unreadable(base64.b64encode(body_of(PHONE)))]
    )
    store.save([entry(uplink("2", phone=OTHER, content=f"my friend is {DIGITS}"))])
    store.save([entry(receipt("3", phone=OTHER, out_id=f"{DIGITS}-7", err_msg=f"to {DIGITS}"))])
    store.save([entry(receipt("4", phone="138 1234 5678 ext 9"))])
    notify(store, PHONE, body_of(PHONE).decode())
    notify(store, None, f"[{body_of(OTHER).decode()},{body_of(PHONE).decode()}]")
    with store.writing() as connection:
        row = {
            "provider": "aliyun", "account": "main", "subject": "sign", "name": "x",
            "status": "rejected", "order_id": "", "created_at": NOON,
        }  # fmt: skip
        connection.execute(insert(notices).values(reason=f"contact {DIGITS} first", **row))
    assert len(holds(database)) >= 8

    done = run(store, because=f"a letter from {DIGITS} and 13900000001")

    assert holds(database) == []
    assert holds(database, "1234 5678") == []
    assert holds(database, "13900000001") == []
    assert done.rows == {"receipts": 3, "uplinks": 2, "journal": 12, "outbox": 2, "notices": 1}
    assert database.row("notices")["reason"] == "contact [erased] first"
    assert not done.has_traces
    assert run(store).rows == dict.fromkeys(done.rows, 0)


def test_receipts_stay_for_billing_and_say_no_longer_who(store: Store, database: Database) -> None:
    open_ = entry(receipt("1", phone=PHONE, status=Status.AWAITED, out_id="order-1"))
    store.save([open_, entry(receipt("2", phone=PHONE, err_msg="关机"))])
    database.query("UPDATE receipts SET next_query_at = created_at")
    before = database.rows()

    run(store)

    after = database.rows()
    assert {row["phone"][:7] for row in after} == {"erased:"}
    assert len({row["phone"] for row in after}) == 2  # nothing that joins them
    assert [row["out_id"] for row in after] == [None, None]
    assert [row["next_query_at"] for row in after] == [None, None]
    gone = ("phone", "out_id", "next_query_at")
    for old, new in zip(before, after, strict=True):
        assert {key: value for key, value in old.items() if key not in gone} == {
            key: value for key, value in new.items() if key not in gone
        }


def test_an_id_that_was_made_from_the_request_is_made_random(
    store: Store, database: Database
) -> None:
    store.record_sends([receipt(f"unanswered:{'ab' * 16}", phone=PHONE, status=Status.AWAITED)])

    run(store)

    biz_id = database.row()["biz_id"]
    assert biz_id.startswith("unanswered:erased:")
    assert "abab" not in biz_id


def test_journal_rows_keep_what_happened_when(store: Store, database: Database) -> None:
    store.save([*person(PHONE, "1"), unreadable(body_of(PHONE) + body_of(OTHER))])
    before = database.rows("journal")

    run(store)

    for old, new in zip(before, database.rows("journal"), strict=True):
        assert new == old | {"phone": None, "body": ERASED_BODY, "encoding": "text"}
    assert json.loads(ERASED_BODY) == {"erased": True}


def test_replies_and_waiting_notifications_go(store: Store, database: Database) -> None:
    store.save(person(PHONE, "1"))
    notify(store, PHONE, "{}")

    run(store)

    assert (database.count("uplinks"), database.count("outbox")) == (0, 0)


TABLES = ("receipts", "uplinks", "journal", "outbox")


def test_other_peoples_rows_stay_as_they_are(store: Store, database: Database) -> None:
    store.save(person(OTHER, "1"))
    store.save([entry(receipt(f"9{DIGITS}1", phone="+8613812345679"), body=b"138123456780")])
    store.save([unreadable(b"nobody's")])
    store.save([entry(receipt("5", phone="+13812345678"), body=b'{"phone":"13812345678"}')])
    notify(store, OTHER, "{}")
    before = {table: database.rows(table) for table in TABLES}
    store.save(person(PHONE, "2"))

    run(store)

    for table in TABLES:
        kept = [
            row for row in database.rows(table) if row["id"] in {r["id"] for r in before[table]}
        ]
        assert kept == before[table]


def test_a_mention_in_somebody_elses_body_goes_alone(store: Store, database: Database) -> None:
    body = body_of(OTHER, content=f"call {DIGITS}")
    store.save([entry(uplink("1", phone=OTHER, content=f"call {DIGITS}"), body=body)])

    run(store)

    assert database.row("uplinks")["content"] == "call [erased]"
    assert json.loads(database.row("journal")["body"])["content"] == "call [erased]"
    assert database.row("journal")["phone"] == OTHER


def test_a_mention_that_cannot_be_cut_out_takes_the_body_with_it(
    store: Store, database: Database
) -> None:
    body = b"\xff " + DIGITS.encode()
    store.save([entry(receipt("1", phone=OTHER), body=body)])

    run(store)

    row = database.row("journal")
    assert (row["body"], row["encoding"], row["phone"]) == (ERASED_BODY, "text", OTHER)


def test_every_column_that_may_name_a_person_is_looked_at() -> None:
    seen = {column for plan in erase._plans(Number(PHONE)) for column in plan.columns}
    telling = {"phone", "out_id", "err_msg"}

    for table in metadata.tables.values():
        for column in table.columns:
            if column.name in telling or isinstance(column.type, LongText):
                assert column in seen, column


# --- the run ---


def test_it_is_recorded_without_saying_who(store: Store, database: Database) -> None:
    store.save(person(PHONE, "1"))

    done = run(store, asked_by="li", because=f"ticket 7 of {PHONE}")

    row = database.row("erasures")
    assert row["id"] == done.id
    assert (row["phone_hint"], row["asked_by"]) == ("138****5678", "li")
    assert row["because"] == "ticket 7 of [erased]"
    assert row["finished_at"] is not None
    assert {table: row[table] for table in done.rows} == done.rows


def test_counting_changes_nothing(store: Store, database: Database) -> None:
    store.save(person(PHONE, "1"))
    before = [database.rows(table) for table in ("receipts", "uplinks", "journal")]

    found = Eraser(store, Number(PHONE), ManualClock()).count()

    assert [database.rows(table) for table in ("receipts", "uplinks", "journal")] == before
    assert (found.id, database.count("erasures")) == (None, 0)
    assert found.rows == run(store).rows


class Failing:
    """A store whose transactions that write fail for a while."""

    def __init__(self, store: Store, *, after: int, failures: int) -> None:
        self._store = store
        self._after = after
        self._failures = failures

    def reading(self) -> AbstractContextManager[Connection]:
        return self._store.reading()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with self._store.writing() as connection:
            yield connection
            self._after -= 1
            if self._after < 0 < self._failures:
                self._failures -= 1
                raise StoreUnavailable("locked")


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "STEP_ROWS", 2)
    monkeypatch.setattr(erase, "_PAGE_ROWS", 5)


@pytest.mark.usefixtures("small_steps")
def test_what_was_interrupted_is_completed_by_the_next_run(
    store: Store, database: Database
) -> None:
    for number in range(8):
        store.save(person(PHONE, str(number)))
    broken = Failing(store, after=3, failures=99)

    with pytest.raises(StoreUnavailable):
        run(broken)
    assert {row["phone"] == PHONE for row in database.rows()} == {True, False}
    assert holds(database) != []
    run(store)

    assert holds(database) == []
    first, second = database.rows("erasures")
    assert (first["finished_at"], second["finished_at"] is None) == (None, False)
    assert first["receipts"] + second["receipts"] == 8
    assert first["journal"] + second["journal"] == 16


@pytest.mark.usefixtures("small_steps")
def test_a_lock_that_somebody_else_holds_is_waited_for(store: Store, database: Database) -> None:
    for number in range(8):
        store.save(person(PHONE, str(number)))

    done = run(Failing(store, after=2, failures=4))

    assert holds(database) == []
    assert done.rows["receipts"] == 8
    assert database.row("erasures")["receipts"] == 8


@pytest.mark.usefixtures("small_steps")
def test_beside_a_writer_nobody_loses_a_row(store: Store, database: Database) -> None:
    for number in range(20):
        store.save(person(PHONE, str(number)))
    stop = threading.Event()
    saved: list[str] = []
    writer_store = database.open(upgrade=False)

    def write() -> None:
        while not stop.is_set():
            mark = f"w{len(saved)}"
            # Others' rows, and news of the very rows that are being erased.
            again = receipt(str(len(saved) % 20), phone=OTHER)
            writer_store.save([*person(OTHER, mark), entry(again)])
            saved.append(mark)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        run(store)
    finally:
        stop.set()
        writer.join()
        writer_store.close()

    assert holds(database) == []
    rows = database.rows()
    assert len([row for row in rows if row["phone"].startswith("erased:")]) == 20
    assert {row["biz_id"] for row in rows if row["phone"] == OTHER} >= set(saved)
    assert database.count("uplinks") == len(saved)


def test_a_redelivery_afterwards_makes_the_row_again(store: Store, database: Database) -> None:
    store.save(person(PHONE, "1"))
    run(store)

    store.save(person(PHONE, "1"))

    assert [row["phone"] for row in database.rows()][1:] == [PHONE]
    assert run(store).rows["receipts"] == 1


def test_progress_is_told_for_every_table(store: Store) -> None:
    store.save(person(PHONE, "1"))
    told: list[tuple[str, float]] = []

    Eraser(store, Number(PHONE), ManualClock(), told=lambda *step: told.append(step)).run(
        asked_by="root"
    )

    assert told == [("receipts", 1.0), ("uplinks", 1.0), ("journal", 1.0)]


def test_the_kinds_of_journal_rows_stay(store: Store, database: Database) -> None:
    store.save([*person(PHONE, "1"), unreadable(body_of(PHONE))])

    run(store)

    assert [(row["kind"], row["outcome"]) for row in database.rows("journal")] == [
        (Kind.RECEIPT, Outcome.STORED),
        (Kind.UPLINK, Outcome.STORED),
        (Kind.UNREADABLE, Outcome.QUARANTINED),
    ]


def test_nothing_of_the_number_is_left_in_sqlites_file(tmp_path: Path) -> None:
    with fresh_url("sqlite", tmp_path) as url:
        database = Database("sqlite", url)
        store = database.open()
        with store.writing() as connection:
            connection.exec_driver_sql("PRAGMA secure_delete = OFF")  # as many builds are
        for number in range(60):
            store.save(person(f"+86138{number:04}5678", f"a{number}"))
            store.save(person(PHONE, str(number)))
            later = NOON + timedelta(days=1)
            store.save([entry(receipt(str(number), phone=PHONE, reported_at=later))])

        done = run(store, vacuum=True)

        assert not done.has_traces
        for file in tmp_path.iterdir():
            assert DIGITS.encode() not in file.read_bytes(), file.name
        assert len([row for row in database.rows() if row["phone"].startswith("erased:")]) == 60
        store.close()


def test_old_copies_in_sqlites_file_are_told(tmp_path: Path) -> None:
    with fresh_url("sqlite", tmp_path) as url:
        database = Database("sqlite", url)
        store = database.open()
        store.save(person(PHONE, "1"))
        with store.writing() as connection:
            connection.exec_driver_sql("PRAGMA secure_delete = OFF")
            connection.execute(receipts.delete())

        assert run(store).has_traces
        assert not run(store, vacuum=True).has_traces
        store.close()
