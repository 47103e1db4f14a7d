"""Exports: what is written is what is stored, in a form that its reader opens right."""

import csv
import importlib
import io
import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from receiptd import export as module
from receiptd.errors import ConfigError
from receiptd.export import Selection, export, guarded, unguarded, whole_file
from receiptd.model import Status
from receiptd.store import Store
from receiptd.store.schema import journal, metadata, receipts, uplinks
from receiptd.store.types import UTC as UTC_COLUMN
from tests.databases import databases, fresh_url
from tests.store.store_samples import NOON, Database, entries, entry, open_new, receipt, uplink

parquet: Any = importlib.import_module("pyarrow.parquet")  # it brings no types

TABLES = ["receipts", "uplinks", "journal"]
SHANGHAI = ZoneInfo("Asia/Shanghai")
NASTY = [
    "=1+1", "+8613900000001", "-1", "@x", "\t=1", "\r=1", "＝1+1", " =1", "007", "1E5", "1-2",
    "3/4", "12:30", "20%", "900000000000000001", "900000000000000001^0", "a,b", 'say "hi"',
    "two\r\nlines", "", "用户接收成功", "😀", "1月2日", "1.2.3", "TD", "\u00a0x",
]  # fmt: skip


@pytest.fixture(params=databases())
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with fresh_url(request.param, tmp_path) as url:
        yield Database(request.param, url)


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    store = database.open()
    yield store
    store.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Store]:
    store = open_new(tmp_path / "receiptd.db")
    yield store
    store.close()


def fill(store: Store) -> None:
    """Receipts, replies and a quarantined body, with the texts that trip up readers."""
    for number, text in enumerate(NASTY):
        fields = {"out_id": text, "err_msg": text, "sign_name": text, "conflict": number % 2 == 0}
        store.save(entries(receipt(str(number), **fields), uplink(str(number), content=text)))
    store.save(entries(receipt("null", out_id=None, err_msg=None, segments=None, sent_at=None)))
    store.save([entry(None, body=b"\xff\x00", reason="not_utf8")])


def exported(
    store: Store, table: Any = "receipts", format: Any = "ndjson", **options: Any
) -> bytes:
    out = io.BytesIO()
    wanted = {name: options.pop(name) for name in list(options) if name in SELECTED}
    count = export(store.reading, Selection(table=table, **wanted), format, out, **options)
    if format == "ndjson":
        assert count == out.getvalue().count(b"\n")
    return out.getvalue()


SELECTED = ("since", "until", "statuses", "account")


def ids(store: Store, **options: Any) -> list[str]:
    return [json.loads(line)["biz_id"] for line in exported(store, **options).splitlines()]


def stored(database: Database, table: str) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name != "query_place"}
        for row in database.rows(table)
    ]


# --- round trips ---


@pytest.mark.parametrize("table", TABLES)
def test_csv_holds_what_is_stored(store: Store, database: Database, table: str) -> None:
    fill(store)

    lines = list(csv.reader(io.StringIO(exported(store, table, "csv").decode("utf-8-sig"))))

    rows = [
        {name: said(table, name, cell) for name, cell in zip(lines[0], line, strict=True)}
        for line in lines[1:]
    ]
    # The csv module does not tell "" from nothing.
    assert rows == [
        {name: None if value == "" else value for name, value in row.items()}
        for row in stored(database, table)
    ]


def said(table: str, name: str, cell: str) -> Any:
    """A cell as any program would read it that knows the one rule."""
    if cell == "":
        return None
    kind = metadata.tables[table].c[name].type
    if isinstance(kind, UTC_COLUMN):
        return datetime.fromisoformat(cell)
    if kind.python_type is bool:
        return {"true": True, "false": False}[cell]
    return int(cell) if kind.python_type is int else unguarded(cell)


@pytest.mark.parametrize("table", TABLES)
def test_ndjson_holds_what_is_stored(store: Store, database: Database, table: str) -> None:
    fill(store)

    rows = [json.loads(line) for line in exported(store, table).splitlines()]

    for row, held in zip(rows, stored(database, table), strict=True):
        times = {name: value for name, value in held.items() if isinstance(value, datetime)}
        assert row == held | {name: row[name] for name in times}
        assert {name: datetime.fromisoformat(row[name]) for name in times} == times
        assert all(row[name].endswith("Z") for name in times)


@pytest.mark.parametrize("table", TABLES)
def test_parquet_holds_what_is_stored(store: Store, database: Database, table: str) -> None:
    fill(store)

    file = parquet.ParquetFile(io.BytesIO(exported(store, table, "parquet")))

    assert file.read().to_pylist() == stored(database, table)
    kinds = {field.name: str(field.type) for field in file.schema_arrow}
    assert (kinds["id"], kinds["phone"]) == ("int64", "string")
    assert kinds["received_at" if table == "journal" else "created_at"] == "timestamp[us, tz=UTC]"


def test_parquet_comes_in_row_groups(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(local)
    monkeypatch.setitem(module._TABLES, "receipts", (receipts, "created_at", 5))
    monkeypatch.setattr(module, "_GROUP_ROWS", 10)

    found = parquet.ParquetFile(io.BytesIO(exported(local, "receipts", "parquet"))).metadata

    assert [found.row_group(number).num_rows for number in range(found.num_row_groups)] == [
        10,
        10,
        7,
    ]


def test_parquet_ends_a_row_group_where_its_rows_are_large(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.save([entry(receipt(str(number)), body=b"x" * 60_000) for number in range(4)])
    monkeypatch.setitem(module._TABLES, "journal", (journal, "received_at", 1))
    monkeypatch.setattr(module, "_GROUP_BYTES", 100_000)

    found = parquet.ParquetFile(io.BytesIO(exported(local, "journal", "parquet"))).metadata

    assert found.num_row_groups == 2


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("format", ["csv", "ndjson", "parquet"])
def test_an_empty_table_is_a_file_without_rows(local: Store, table: str, format: str) -> None:
    text = exported(local, table, format)

    if format == "parquet":
        assert parquet.ParquetFile(io.BytesIO(text)).metadata.num_rows == 0
    else:
        assert text.count(b"\n") == (format == "csv")


def test_the_journals_columns_are_those_that_a_replay_reads(local: Store) -> None:
    fill(local)

    first = json.loads(exported(local, "journal").splitlines()[0])

    assert list(first) == [
        "id", "source", "envelope_id", "part", "body", "encoding", "kind", "outcome", "reason",
        "biz_id", "phone", "enqueued_at", "received_at", "pull_count",
    ]  # fmt: skip


# --- spreadsheets ---


def test_csv_is_what_excel_takes_for_utf8(local: Store) -> None:
    fill(local)

    text = exported(local, "receipts", "csv")

    assert text.startswith(b"\xef\xbb\xbf")
    assert text.count(b"\xef\xbb\xbf") == 1
    lines = re.sub(rb'"[^"]*"', b"", text)  # what is not quoted
    assert lines.count(b"\r\n") == lines.count(b"\n") == lines.count(b"\r")
    assert "用户接收成功".encode() in text


@pytest.mark.parametrize("text", NASTY)
def test_the_guard_comes_off_again(text: str) -> None:
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "+8613900000001", "-1", "@x", "\t=1", "\r=1", "＝1+1", " =1", "\u00a0=1", "\n=1"),
        *("007", "1E5", "1-2", "3/4", "12:30", "20%", "900000000000000001", "1月2日"),
    ],
)
def test_what_a_spreadsheet_would_compute_or_change_is_guarded(text: str) -> None:
    assert guarded(text) == "\t" + text


@pytest.mark.parametrize("text", ["TD", "900000000000000001^0", "SMS_1", "用户", "", "1:a", "a=1"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert guarded(text) == text


def test_a_null_is_told_from_an_empty_text(local: Store) -> None:
    local.save(entries(receipt("1", out_id="", err_msg=None)))

    (row,) = exported(local, "receipts", "csv").decode("utf-8-sig").splitlines()[1:]

    cells = row.split(",")
    names = [c.name for c in receipts.columns]
    assert cells[names.index("out_id")] == '""'
    assert cells[names.index("err_msg")] == ""


# --- what is chosen ---


def test_the_time_is_that_of_the_first_storing_from_since_up_to_until(
    store: Store, database: Database
) -> None:
    store.save(entries(*(receipt(str(number)) for number in range(5))))
    for number in range(5):
        at = NOON + timedelta(days=number)
        database.query(
            f"UPDATE receipts SET created_at = '{at:%Y-%m-%d %H:%M:%S}.000000'"
            f" WHERE biz_id = '{number}'"
        )

    found = ids(store, since=NOON + timedelta(days=1), until=NOON + timedelta(days=3))

    assert found == ["1", "2"]
    assert ids(store, since=(NOON + timedelta(days=3)).astimezone(SHANGHAI)) == ["3", "4"]


def test_the_journal_goes_by_when_it_was_received(store: Store) -> None:
    for number in range(3):
        store.save([entry(receipt(str(number)), received_at=NOON + timedelta(days=number))])

    since = NOON + timedelta(days=1)

    assert ids(store, table="journal", since=since) == ["1", "2"]
    assert ids(store, table="journal", until=since) == ["0"]


def test_by_status_and_account(store: Store) -> None:
    rows = [
        receipt("1", status=Status.FAILED),
        receipt("2", status=Status.LOST),
        receipt("3", account="other", status=Status.FAILED),
        receipt("4"),
    ]
    store.save(entries(*rows))

    assert ids(store, statuses=("failed", "lost")) == ["1", "2", "3"]
    assert ids(store, statuses=("failed",), account="main") == ["1"]
    assert ids(store, account="nobody") == []


# --- how it is shown ---


@pytest.mark.parametrize("format", ["csv", "ndjson", "parquet"])
def test_masked_exports_hold_no_number(local: Store, format: str) -> None:
    number = "13987654321"
    local.save(
        [
            entry(
                receipt("1", phone=f"+86{number}", out_id=f"x{number}", err_msg=f"to {number}"),
                body=f'{{"phone":"{number}"}}'.encode(),
            ),
            entry(uplink("1", phone=f"+86{number}", content=f"call {number}")),
        ]
    )

    for table in TABLES:
        raw = exported(local, table, format, mask=True)
        if format == "parquet":
            raw = str(parquet.ParquetFile(io.BytesIO(raw)).read().to_pylist()).encode()
        assert number.encode() not in raw
        assert b"139****4321" in raw


@pytest.mark.parametrize("format", ["csv", "ndjson"])
def test_times_can_be_of_another_zone(local: Store, format: str) -> None:
    local.save(entries(receipt(sent_at=datetime(2026, 1, 1, 20, tzinfo=UTC))))

    text = exported(local, "receipts", format, zone=SHANGHAI).decode()

    assert "2026-01-02T04:00:00+08:00" in text
    assert not re.search(r"\dZ", text)


def test_parquets_times_know_their_zone(local: Store) -> None:
    local.save(entries(receipt()))

    file = parquet.ParquetFile(io.BytesIO(exported(local, "receipts", "parquet", zone=SHANGHAI)))

    assert str(file.schema_arrow.field("sent_at").type) == "timestamp[us, tz=Asia/Shanghai]"
    assert file.read().to_pylist()[0]["sent_at"] == NOON


# --- how it is written ---


def test_pages_come_together_without_gap_or_double(local: Store) -> None:
    local.save(entries(*(receipt(str(number)) for number in range(4500))))
    done: list[float] = []

    found = ids(local, on_page=done.append)

    assert sorted(found, key=int) == [str(number) for number in range(4500)]
    assert done == sorted(done)
    assert len(done) >= 3


def test_any_text_makes_the_trip_through_csv(local: Store) -> None:
    turn = random.Random(7)
    letters = "=+-@\t\r\n\",;' 0159.:/E%^aZ月日＝＋\u00a0😀"
    texts = ["".join(turn.choices(letters, k=turn.randrange(8))) for _ in range(500)]
    local.save(
        entries(*(uplink(f"{number:03}", content=text) for number, text in enumerate(texts)))
    )

    reader = csv.DictReader(io.StringIO(exported(local, "uplinks", "csv").decode("utf-8-sig"),
                                        newline=""))  # fmt: skip

    assert [unguarded(row["content"]) for row in reader] == texts


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"

    with whole_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
        (part,) = tmp_path.iterdir()
        assert part.name.startswith(".a.csv.")

    assert path.read_bytes() == b"whole"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, LookupError])
def test_an_export_that_was_cut_off_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def write() -> None:
        with whole_file(tmp_path / "a.csv") as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write()

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_replaced_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"old")

    with pytest.raises(FileExistsError), whole_file(path):
        pass
    assert path.read_bytes() == b"old"

    with whole_file(path, overwrite=True) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_not_replaced_either(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"

    def write() -> None:
        with whole_file(path) as file:
            file.write(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(FileExistsError):
        write()

    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


class Full(io.BytesIO):
    """A disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._room:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("format", ["csv", "ndjson", "parquet"])
def test_a_full_disk_is_an_error_and_parquet_gets_no_footer(local: Store, format: Any) -> None:
    fill(local)
    out = Full(1000)

    with pytest.raises(OSError, match="No space"):
        export(local.reading, Selection(table="receipts"), format, out)

    if format == "parquet":
        assert not out.getvalue().endswith(b"PAR1") or len(out.getvalue()) == 4


def test_parquet_that_was_interrupted_does_not_look_whole(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(local)
    monkeypatch.setitem(module._TABLES, "receipts", (receipts, "created_at", 5))
    monkeypatch.setattr(module, "_GROUP_ROWS", 5)
    out = io.BytesIO()

    def interrupt(done: float) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(local.reading, Selection(table="receipts"), "parquet", out, on_page=interrupt)

    assert len(out.getvalue()) > 100
    assert not out.getvalue().endswith(b"PAR1")


def test_without_its_package_parquet_names_the_cure(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)

    with pytest.raises(ConfigError, match=r"pip install 'receiptd\[parquet\]'"):
        exported(local, "receipts", "parquet")
    assert exported(local, "receipts", "ndjson") == b""


def test_the_tables_have_an_id_first() -> None:
    for table in (receipts, uplinks, journal):
        assert next(iter(table.columns)).name == "id"
