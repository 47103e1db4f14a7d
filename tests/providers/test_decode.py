import json
import sys

import pytest

from receiptd.errors import InvalidEnvelope
from receiptd.providers.decode import MAX_DEPTH, decode, parse_object


def test_one_object_is_one_part_with_the_whole_body() -> None:
    body = b' {"a": 1}\n'

    (part,) = decode(body)

    assert (part.index, part.body, part.data) == (0, body, {"a": 1})


def test_elements_of_an_array_keep_their_bytes_verbatim() -> None:
    parts = decode(b'[ {"a" : 1.0} ,\n{"b":"\xe5\x8f\xb7"}]')

    assert [part.body for part in parts] == [b'{"a" : 1.0}', b'{"b":"\xe5\x8f\xb7"}']
    assert [part.index for part in parts] == [0, 1]


def test_both_roads_cut_an_array_alike() -> None:
    elements = [b'{"a" : [1,"]"]}', b'{"b":{"c":"\\",["}}', b"[]", b'"x"']
    array = b"[ " + b" ,\t".join(elements) + b" ]"

    strict = decode(array)
    tolerant = decode(b"\xef\xbb\xbf" + array)

    assert [part.body for part in strict] == elements
    assert [part.body for part in tolerant] == elements
    assert [part.data for part in strict[:2]] == [part.data for part in tolerant[:2]]


def test_a_one_element_array_keeps_the_whole_body() -> None:
    body = b'[{"a":1}]'

    (part,) = decode(body)

    assert part.body == body


@pytest.mark.parametrize("flaw", [b"", b',"flaw":NaN'], ids=["strict", "tolerant"])
@pytest.mark.parametrize(
    "literal", ["1.10", "9007199254740993.0", "1E400", "0.1000000000000000055511151231257827"]
)
def test_a_fraction_keeps_every_digit_on_both_roads(literal: str, flaw: bytes) -> None:
    (part,) = decode(b'{"n":' + literal.encode() + flaw + b"}")

    assert isinstance(part.data, dict)
    assert part.data["n"] == literal


@pytest.mark.parametrize("flaw", [b"", b',"flaw":NaN'], ids=["strict", "tolerant"])
def test_a_big_integer_keeps_every_digit_on_both_roads(flaw: bytes) -> None:
    (part,) = decode(b'{"n":123456789012345678901234567890' + flaw + b"}")

    assert isinstance(part.data, dict)
    assert str(part.data["n"]) == "123456789012345678901234567890"


def test_the_depth_limit_is_ours_and_does_not_depend_on_the_caller() -> None:
    at_limit = b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH
    beyond = b'{"a":' + at_limit + b"}"

    def deep(levels: int) -> str:
        if levels:
            return deep(levels - 1)
        assert isinstance(parse_object(at_limit), dict)
        return str(parse_object(beyond))

    assert deep(0) == "too_deep"
    assert deep(sys.getrecursionlimit() // 2) == "too_deep"


def test_many_shallow_values_in_one_object_are_not_deep() -> None:
    data = {str(index): {"a": [index]} for index in range(2 * MAX_DEPTH)}

    assert parse_object(json.dumps(data).encode()) == data


def test_many_shallow_elements_are_not_deep() -> None:
    body = json.dumps([{"a": {"b": index}} for index in range(500)]).encode()

    assert [part.data for part in decode(body)] == [{"a": {"b": index}} for index in range(500)]


@pytest.mark.parametrize(
    "body",
    [
        b'["' + b'\\"' * 100_000,
        b"[" + b'"' * 200_001,
        b"[" + b"\\" * 200_000,
        b"[" * 200_000,
        b"[" + b"," * 100_000,
        b'{"a":' * 50_000,
        b'{"a":"' + b"\\" * 200_001,
    ],
    ids=["escaped quotes", "quotes", "backslashes", "brackets", "commas", "objects", "open"],
)
def test_hostile_bodies_are_read_in_linear_time(body: bytes) -> None:
    # Held by the suite's timeout: a quadratic reader needs minutes for these.
    try:
        parts = decode(body)
    except InvalidEnvelope:
        return
    assert all(isinstance(part.data, InvalidEnvelope) for part in parts)


def test_what_is_shown_of_a_part_holds_none_of_it() -> None:
    (part,) = decode(b'{"phone_number":"13900000001"}')

    assert "139" not in repr(part)
