from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from receiptd.errors import InvalidEnvelope
from receiptd.providers import fields


def _refusal(reader: Callable[[dict[str, object], str], object], value: object) -> str:
    with pytest.raises(InvalidEnvelope) as caught:
        reader({"k": value}, "k")
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("x", "x"),
        (" x ", " x "),
        (0, "0"),
        (-1, "-1"),
        (10**18, "1000000000000000000"),
        ("", None),
        (None, None),
    ],
)
def test_text_takes_texts_and_integers_verbatim(value: object, found: object) -> None:
    assert fields.text({"k": value}, "k") == found


@pytest.mark.parametrize(
    "value",
    [True, 1.5, [], {}, b"x", "a\0", "\ud800", "好\udfff", "x" * 65, 10**5000, object()],
    ids=lambda value: type(value).__name__,
)
def test_text_refuses_by_name_what_no_database_could_hold(value: object) -> None:
    assert _refusal(fields.text, value) == "bad_field:k"


def test_an_absent_text_is_none_and_a_required_one_is_missed() -> None:
    assert fields.text({}, "k") is None
    with pytest.raises(InvalidEnvelope, match="missing_field:k"):
        fields.required({}, "k")


@pytest.mark.parametrize("value", [True, 1, "1", "true", "True", "TRUE"])
def test_true_has_many_spellings(value: object) -> None:
    assert fields.boolean({"k": value}, "k") is True


@pytest.mark.parametrize("value", [False, 0, "0", "false", "False"])
def test_false_has_many_spellings(value: object) -> None:
    assert fields.boolean({"k": value}, "k") is False


@pytest.mark.parametrize("value", [2, -1, "yes", "t", "１", " true", 1.0, [], "ｔrue"])
def test_anything_else_is_no_boolean(value: object) -> None:
    assert _refusal(fields.boolean, value) == "bad_field:k"


@pytest.mark.parametrize(
    ("value", "found"),
    [(1, 1), ("1", 1), ("12", 12), (0, 0), ("0", 0), (9999, 9999)],
)
def test_segments_are_read_from_numbers_and_texts(value: object, found: object) -> None:
    assert fields.segments({"k": value}, "k") == found


@pytest.mark.parametrize(
    "value",
    ["1,2,3", "", " 1", "-1", -1, 10_000, "10000", 2**63, "１", "²", True, 1.0, None, [], {}],
)
def test_segments_that_cannot_be_read_are_none_and_never_refused(value: object) -> None:
    assert fields.segments({"k": value}, "k") is None


@pytest.mark.parametrize(
    "value", [568000001, "568000001", "568000001.0", "5.68000001E8", "5.68000001e+8"]
)
def test_every_spelling_of_a_sequence_is_one_identity(value: object) -> None:
    assert fields.sequence({"k": value}, "k") == "568000001"


@pytest.mark.parametrize("value", ["1.5", "1e9999", "0010", "abc", "1e", "-5", "５", "1e41"])
def test_what_is_no_whole_number_stays_as_received(value: object) -> None:
    assert fields.sequence({"k": value}, "k") == value


def test_zero_with_a_huge_exponent_is_zero() -> None:
    assert fields.sequence({"k": "0e9999"}, "k") in ("0", "0e9999")


NOON = datetime(2024, 5, 6, 4, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2024-05-06 12:00:00",
        "20240506120000",
        20240506120000,
        "1714968000000",
        1714968000000,
        "Mon, 06 May 2024 12:00:00 +0800",
        "6 May 2024 12:00:00 +0800",
        "Mon, 06 May 2024 04:00:00 GMT",
        "Mon, 06 May 2024 00:00:00 -0400",
        "Mon, 06 May 2024 09:30:00 +0530",
    ],
)
def test_one_moment_is_read_from_all_spellings(value: object) -> None:
    found = fields.china_time({"k": value}, "k")

    assert found == NOON
    assert found is not None
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        "2021-02-30 00:00:00",
        "2024-05-06 24:00:00",
        "2024-05-06 12:60:00",
        "2024-05-06 12:00:60",
        "0000-00-00 00:00:00",
        "0001-01-01 00:00:00",
        "1970-01-01 08:00:00",
        "9999-12-31 23:59:59",
        "２０２４-05-06 12:00:00",
        "2024-05-06 12:00:0０",
        "２０２４０５０６１２００００",
        "2024-05-06T12:00:00",
        "2024-05-06 12:00+08",
        "20240506 120000.123",
        "2024-W19-1 12:00:00",
        "2024-05-06 1a:00:00",
        "2024/05/06 12:00:00",
        "20240532120000",
        "9999999999999",
        "0000000000000",
        "1714968000",
        "Mon, 06 Mai 2024 12:00:00 +0800",
        "Mon, 31 Feb 2024 12:00:00 +0800",
        "Mon, 06 May 9999 12:00:00 +0800",
        "Mon, 06 May 0001 00:00:00 +9999",
        "Mon, 06 May 9999 23:59:59 -9999",
        "Mon, 06 May 2024 12:00:00",
        "",
        " ",
        "x" * 10_000,
        None,
        True,
        -1,
        10**14,
        10**5000,
        1714968000.5,
        [],
        {},
        "2024-05-06 12:00:00\n",
    ],
    ids=lambda value: str(value)[:30] if not isinstance(value, int) else type(value).__name__,
)
def test_a_time_that_cannot_be_read_is_none_and_never_refused(value: object) -> None:
    assert fields.china_time({"k": value}, "k") is None
