"""Values inside the text of a statement: each comes back as it was, none becomes SQL, and nobody is
shown one."""

import logging
import sys
import traceback
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError, ProgrammingError

from receiptd.errors import StoreRejected, StoreUnavailable
from receiptd.store import Store, rows, schema
from receiptd.store.dialects import mysql_rows
from receiptd.store.dialects.mysql import MysqlDialect
from tests.databases import MARIADB
from tests.store.store_samples import Database, entries, entry, receipt, uplink

pytestmark = pytest.mark.parametrize("database", [MARIADB], indirect=True)
DIALECT = MysqlDialect()
PHONE = "+8613900000001"
AT = "2026-01-01 12:00:00.000000"
CONTROL = "\x01"  # has its whole chunk escaped by the driver

HOSTILE = [
    '"', "'", "\\", "`", '\\"', "\\'", '""', "''", "\\\\", '\\\\"', "%", "%s", "%(a)s", "%%", "],[",
    "]\n[", '"]\n["', '"),("', "'),('", ");", "-- ", "#", "/*", "*/", "/*!", "\n", "\r", "\t", "\b",
    "\x1a", "\x7f", "\u2028", "中", "、", "¥", "😀", "\ufeff", "\\u0041", "\\f", "null", "NULL",
]  # fmt: skip
TEXTS = st.lists(
    st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"])), max_size=8
).map(lambda parts: "".join(parts).replace("\0", ""))


def row(**values: Any) -> rows.Row:
    given: dict[str, Any] = {
        "source": "sms_report",
        "envelope_id": "1",
        "part": 0,
        "body": "{}",
        "encoding": "text",
        "kind": "receipt",
        "outcome": "stored",
        "received_at": AT,
    }
    return tuple((given | values).get(name) for name in rows.JOURNAL)


def kept(store: Store, many: Sequence[rows.Row], *names: str) -> list[tuple[Any, ...]]:
    """Append rows and return those columns as the server has them; nothing stays."""
    query = f"SELECT {', '.join(names)} FROM journal ORDER BY id"
    with store._engines.writer.connect() as connection, connection.begin() as transaction:
        DIALECT.append(connection, schema.journal, rows.JOURNAL, many)
        found = [tuple(one) for one in connection.exec_driver_sql(query)]
        transaction.rollback()
    return found


def is_msgspecs(store: Store, one: rows.Row) -> bool:
    with store._engines.writer.connect() as connection:
        return mysql_rows._literals(connection, [row(), one])[0] is mysql_rows._json


@pytest.mark.parametrize("by", ["msgspec", "the driver"])
def test_any_text_comes_back_as_it_was(store: Store, by: str) -> None:
    last = [row(body=CONTROL)] if by == "the driver" else []

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.tuples(TEXTS, TEXTS.map(lambda text: text[:64])), min_size=1, max_size=4))
    def prove(texts: list[tuple[str, str]]) -> None:
        many = [row(body=body, source=source, reason=source) for body, source in texts]

        found = kept(store, many + last, "source", "reason", "body", "received_at", "pull_count")

        assert [one[:3] for one in found[: len(texts)]] == [
            (source, source, body) for body, source in texts
        ]
        assert {(str(at), count) for _, _, _, at, count in found} == {(AT[:19], None)}

    prove()


def test_what_looks_like_sql_is_text_at_either_end_of_a_row(store: Store) -> None:
    for control in ("", CONTROL):
        # `source` is a row's first value and stands in the canary; `reason` is followed by nulls.
        pairs = [(text, text + control) for text in HOSTILE]
        many = [row(source=text, reason=reason) for text, reason in pairs]

        assert kept(store, many, "source", "reason") == pairs
        for one, pair in zip(many, pairs, strict=True):
            assert kept(store, [one], "source", "reason") == [pair]


def test_all_numbers_nulls_and_truths_come_back_as_they_were(store: Store) -> None:
    numbers: list[int | None] = [0, -1, 1, 2**31 - 1, None, True, False]
    many = [row(pull_count=number) for number in numbers]

    assert kept(store, many, "pull_count") == [(number,) for number in numbers]
    assert kept(store, [*many, row(body=CONTROL)], "pull_count")[:7] == [(n,) for n in numbers]


def test_msgspec_escapes_no_more_than_mysql_reads_alike(database: Database) -> None:
    alike = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
    everything = [chr(code) for code in range(1, sys.maxunicode) if not 0xD800 <= code < 0xE000]
    escaped = [one for one in everything if one < " " or one in alike]
    plain = "".join(one for one in everything if one not in escaped)

    assert msgspec.json.encode(plain).decode() == f'"{plain}"'
    for one in escaped:
        written = msgspec.json.encode(one)
        is_foreign = any(foreign in written for foreign in mysql_rows._FOREIGN_ESCAPES)
        assert is_foreign == (one not in alike)
        assert is_foreign or written.decode() == f'"{alike[one]}"'


class Word(StrEnum):
    FEW = "few"


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("values", "by_msgspec"),
    [
        ({"body": "\"'\\ %s \n\r\t\b 用户 😀 \x7f"}, True),
        ({"body": '{"err_msg":"\\u7528\\u6237"}'}, True),
        ({"body": "\x01"}, False),
        ({"body": "\x1f"}, False),
        ({"body": "\f"}, False),
        ({"pull_count": 1.0}, False),
        ({"pull_count": Decimal(1)}, False),
        ({"body": b"bytes"}, False),
        ({"body": Word.FEW}, False),
        ({"body": Text("few")}, False),
    ],
)
def test_what_msgspec_would_write_otherwise_is_left_to_the_driver(
    store: Store, values: dict[str, Any], by_msgspec: bool
) -> None:
    assert is_msgspecs(store, row(**values)) is by_msgspec
    ((name, value),) = values.items()
    found = value.decode() if isinstance(value, bytes) else value
    assert kept(store, [row(**values), row()], name)[0] == (found,)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"1": "1"}, "\ud800", object])
def test_what_is_no_value_of_a_row_is_refused(store: Store, value: object) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        kept(store, [row(pull_count=value)], "pull_count")

    assert isinstance(DIALECT.translate(caught.value), (StoreRejected, StoreUnavailable))
    assert kept(store, [row()], "pull_count") == [(None,)]


FOREIGN = [
    "sql_mode = 'ANSI_QUOTES'",
    "sql_mode = 'NO_BACKSLASH_ESCAPES'",
    "sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
    "sql_mode = 'ORACLE'",
    "NAMES gbk",
    "NAMES big5",
    "NAMES sjis",
    "NAMES cp932",
]


HARM = """',0); -- ",0); DROP TABLE receipts; -- \\',0); -- \\",0); -- 中\\",0); -- """


@pytest.mark.parametrize("setting", FOREIGN)
def test_a_session_that_would_read_our_literals_otherwise_is_refused_and_replaced(
    store: Store, database: Database, setting: str
) -> None:
    # Harmless texts too: they would be stored if only what a text does to the syntax were noticed.
    for text in ("few", HARM, "few" + CONTROL, HARM + CONTROL):
        with store._engines.writer.connect() as connection:
            connection.exec_driver_sql(f"SET {setting}")
            raw: Any = connection.connection.dbapi_connection
            raw.server_status = 0  # as if the server had never told

        with pytest.raises(StoreUnavailable, match="does a proxy reset it"):
            kept(store, [row(body=text)], "body")

        assert kept(store, [row(body=text)], "body") == [(text,)]


def test_a_batch_for_such_a_session_is_stored_at_the_second_try(
    store: Store, database: Database
) -> None:
    with store._engines.writer.connect() as connection:
        connection.exec_driver_sql("SET sql_mode = 'ANSI_QUOTES'")

    with pytest.raises(StoreUnavailable, match="does a proxy reset it") as caught:
        store.save(entries(receipt(), uplink()))
    assert PHONE not in told(caught.value)
    assert database.count("journal") == 0

    assert store.save(entries(receipt(), uplink())).changed == 2


def test_a_syntax_error_in_a_session_like_ours_is_the_statements(store: Store) -> None:
    with (
        store._engines.writer.begin() as connection,
        pytest.raises(ProgrammingError, match="1064"),
    ):
        mysql_rows.write(connection, mysql_rows.Insert(b"INSERTED ", b""), [("a",)], 1)


def test_rows_beyond_a_packet_and_a_row_beyond_a_portion_are_written_in_order(
    store: Store, database: Database
) -> None:
    sizes = [10, 3_000_000, *[400_000] * 6, 5_000_000, 10]
    many = [row(body="\\" * size) for size in sizes]

    assert kept(store, many, "LENGTH(body)") == [(size,) for size in sizes]


@pytest.mark.parametrize("control", ["", CONTROL])
def test_rows_are_counted_alike_by_both_roads(store: Store, control: str) -> None:
    many = [receipt(f"{number:03}", err_msg=control) for number in range(300)]
    replies = [uplink(f"{number:03}", content=control) for number in range(300)]

    assert store.save(entries(*many[:299], *replies[:299])).changed == 598
    assert store.save(entries(*many, *replies)).changed == 2
    assert store.save(entries(receipt("000", err_msg=control + "重投"), *many[1:])).changed == 1
    assert store.save(entries(receipt("000", err_msg=control + "重投"))).changed == 0
    assert store.save(entries(replies[0])).changed == 0


def told(error: BaseException | None) -> str:
    """All that anybody could print of an error, and of those behind it."""
    text = ""
    while error is not None:
        text += f"{error}\n{error!r}\n{getattr(error, '__notes__', '')}\n{vars(error)}\n"
        text += "".join(traceback.format_exception(error))
        error = error.__cause__ or error.__context__
    return text


@pytest.mark.parametrize(
    "harm",
    [
        "DROP TABLE receipts",
        "ALTER TABLE receipts DROP COLUMN err_msg",
        "ALTER TABLE receipts MODIFY biz_id INT",
        "ALTER TABLE receipts MODIFY phone VARCHAR(3)",
        "ALTER TABLE receipts ADD CONSTRAINT refused CHECK (phone = '')",
    ],
)
@pytest.mark.parametrize("control", ["", CONTROL])
def test_no_error_shows_a_value_of_a_row(
    store: Store, database: Database, harm: str, control: str
) -> None:
    database.query(harm)

    with pytest.raises((StoreRejected, StoreUnavailable)) as caught:
        store.save(entries(receipt(err_msg=control)))

    assert PHONE not in told(caught.value)
    assert PHONE[3:] not in told(caught.value)


def test_the_drivers_own_error_shows_the_statement_without_its_rows(
    store: Store, database: Database
) -> None:
    database.query("DROP TABLE journal")

    with (
        pytest.raises(DBAPIError, match=r"INSERT INTO journal \(source") as caught,
        store._engines.writer.begin() as connection,
    ):
        DIALECT.append(connection, schema.journal, rows.JOURNAL, [row(phone=PHONE)])

    assert PHONE not in told(caught.value)


def test_the_log_of_sqlalchemy_shows_no_row(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sqlalchemy")
    store = database.open()

    store.save([entry(receipt(), body=PHONE.encode()), *entries(uplink())])
    store.close()

    assert "INSERT INTO receipts (provider" in caplog.text
    assert PHONE not in caplog.text
