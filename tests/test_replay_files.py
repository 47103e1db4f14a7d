"""Files as a replay reads them: pieces, kinds, and what an export wrote."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.config import Settings
from receiptd.model import Origin
from receiptd.replay import files
from receiptd.replay.batches import Batch
from receiptd.replay.lines import LONGEST, pieces
from receiptd.replay.meaning import BadRequest, Meanings
from tests.fakes import sms_report

SETTINGS = Settings.model_validate(
    {
        "accounts": {"main": {"provider": "aliyun"}, "shop": {"provider": "jushita"}},
        "sources": {
            "sms_report": {"puller": "mns", "account": "main", "message_type": "SmsReport"}
        },
    }
)
TOLD = Meanings(SETTINGS, "aliyun.SmsReport")
ROW = {
    "id": 1, "source": "sms_report", "envelope_id": "m1", "part": 0, "body": "", "encoding": "text",
    "kind": "receipt", "outcome": "stored", "reason": None,
}  # fmt: skip
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def split(data: bytes) -> list[tuple[int, bytes | None]]:
    return [(one.number, one.body) for one in pieces(io.BytesIO(data), lambda size: None)]


def read(data: bytes, meanings: Meanings = TOLD, **options: Any) -> list[Batch]:
    return list(files.read_file(io.BytesIO(data), "a.json", meanings, **options))


def bodies(data: bytes, meanings: Meanings = TOLD) -> list[bytes]:
    return [item.body for batch in read(data, meanings) for _, item in batch.items]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", []),
        (b" \n\r\n\n", []),
        (b"\xef\xbb\xbf", []),
        (b"x", [(1, b"x")]),
        (b'{"a":1}\r\n\n{broken\n{"b":2}', [(1, b'{"a":1}'), (3, b"{broken"), (4, b'{"b":2}')]),
        (b'{"a":1,\n{"b":2}\n', [(1, b'{"a":1,'), (2, b'{"b":2}')]),
        (b'\xef\xbb\xbf\n{\n "a": 1\n}\n', [(1, b'{\n "a": 1\n}')]),
        (b'{"a":\n1}\n{"b":2}', [(1, b'{"a":'), (2, b"1}"), (3, b'{"b":2}')]),
        (b'{"a":1,\n"b":"}"}\n{"c":{}}', [(1, b'{"a":1,\n"b":"}"}'), (2, b'{"c":{}}')]),
        (b'[{"a":1},{"b":2}]', [(1, b'[{"a":1},{"b":2}]')]),
        (b'[\n{"a":"]}\\""},\n no, [{}]\n]', [(1, b'{"a":"]}\\""}'), (2, b"no"), (3, b"[{}]")]),
        (b'[\n{"a":1},\n{"b"', [(1, b'{"a":1}'), (2, b'{"b"')]),
        (b'[\n{"a":1}\n]\n[{"b":2}]', [(1, b'{"a":1}'), (2, b'[{"b":2}]')]),
    ],
)
def test_a_file_is_cut_into_lines_or_elements(data: bytes, found: object) -> None:
    assert split(data) == found


@given(st.lists(st.dictionaries(st.text(), _JSON, max_size=3), min_size=1), st.integers(0, 3))
def test_any_layout_of_json_gives_its_objects(objects: list[Any], indent: int) -> None:
    array = json.dumps(objects, indent=indent).encode()
    objects_in_lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in objects).encode()

    assert [json.loads(body or b"") for _, body in split(array)] == objects
    assert [json.loads(body or b"") for _, body in split(objects_in_lines)] == objects


@given(st.binary(max_size=300))
def test_any_bytes_are_cut_without_an_error(data: bytes) -> None:
    for start in (b"", b"[\n", b"{\n", b'{"a":1}\n'):
        for batch in read(start + data):
            assert len(batch.items) + len(batch.refused) + batch.passed_over <= 300


def test_a_line_that_is_too_long_costs_only_itself() -> None:
    found = split(b'{"a":1}\n' + b"x" * (2 * LONGEST + 5) + b'\n{"b":2}\n')

    assert found == [(1, b'{"a":1}'), (2, None), (3, b'{"b":2}')]


def test_an_array_in_one_line_may_be_longer_than_any_line() -> None:
    one = b'{"a":"%s"}' % (b"x" * 1000)
    found = split(b"[" + b",".join([one] * 5000) + b"]")

    assert (len(found), found[4999]) == (5000, (5000, one))


def test_an_element_without_an_end_is_told() -> None:
    [batch] = read(b'[\n{"a":"' + b"x" * (LONGEST + 70_000))

    [refused] = batch.refused
    assert (refused.place, refused.rule) == (
        "a.json:1",
        "is longer than 4 MiB, and nothing behind it was read",
    )


def test_bodies_are_read_as_they_come_from_a_queue_or_a_push() -> None:
    one, two = sms_report(1), sms_report(2)
    url_safe = base64.urlsafe_b64encode(two).rstrip(b"=")

    assert bodies(b"\n".join([one, base64.b64encode(one), url_safe, b"[%s]" % one])) == [
        one,
        one,
        two,
        b"[%s]" % one,
    ]


def test_an_exported_journal_is_read_by_its_sources() -> None:
    lines = [
        ROW | {"body": "one"},
        ROW | {"body": base64.b64encode(b"\xff").decode(), "encoding": "base64"},
        ROW | {"body": "x", "source": "gone"},
        ROW | {"body": "x", "source": "query:main"},
        ROW | {"body": "x", "outcome": "dropped"},
        ROW | {"body": '{"erased":true}'},
        ROW,
    ]
    data = "\n".join(map(json.dumps, lines)).encode()

    [batch] = read(data, Meanings(SETTINGS))

    assert [item.body for _, item in batch.items] == [b"one", b"\xff"]
    assert {meaning.context.origin for meaning, _ in batch.items} == {Origin.REPLAY}
    assert (batch.items[0][1].envelope_id, batch.items[0][1].source) == ("m1", "replay")
    assert (batch.unexplained, batch.passed_over) == ({"gone": 1}, 3)
    assert [one.rule for one in batch.refused] == ["has no body: was it exported with --mask?"]


def test_an_exported_csv_is_read_with_its_guards_and_newlines() -> None:
    text = (
        '\ufeff"id","source","envelope_id","part","body","encoding","outcome"\r\n'
        '1,"sms_report","\t007",0,"{\n\n ""a"": 1\r\n}","text","stored"\r\n'
        '2,"sms_report"\r\n'
        '3,"sms_report","m3",0,"b","text","stored"\r\n'
    )

    [batch] = read(text.encode(), Meanings(SETTINGS))

    first, second = (item for _, item in batch.items)
    assert (first.envelope_id, first.body) == ("007", b'{\n\n "a": 1\r\n}')
    assert (second.place, second.body) == ("a.json:7", b"b")
    assert [(one.place, one.rule) for one in batch.refused] == [
        ("a.json:6", "has 2 fields where the header has 7")
    ]


def test_a_quote_that_never_ends_is_told() -> None:
    head = "id,source,envelope_id,part,body,encoding,outcome\n"
    [batch] = read((head + '1,s,e,0,"' + "x\n" * (LONGEST // 2 + 1)).encode())

    [refused] = batch.refused
    assert refused.rule == "is no CSV, and nothing behind it was read"


def test_batches_are_bounded_and_say_where_to_go_on() -> None:
    data = b"\n".join(map(sms_report, range(10)))

    first, second, third = read(data, rows=4)
    [rest] = read(data, after=4, rows=100)

    assert [len(one.items) for one in (first, second, third)] == [4, 4, 2]
    assert first.position == ("a.json", "--after-line", "4")
    assert first.size + second.size + third.size == len(data)
    assert [item.place for _, item in rest.items][::5] == ["a.json:5", "a.json:10"]


def test_large_bodies_make_small_batches() -> None:
    large = b'{"a":"%s"}\n' % (b"x" * (1 << 20))

    assert [len(one.items) for one in read(large * 6)] == [4, 2]


def test_what_nobody_explains_is_a_question() -> None:
    with pytest.raises(BadRequest, match=r"--type aliyun\.SmsReport"):
        read(sms_report(1), Meanings(SETTINGS))


def test_an_empty_file_is_nothing(tmp_path: Path) -> None:
    assert [len(one.items) for one in read(b"")] == [0]
