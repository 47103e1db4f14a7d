import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiptd.phone import mask, to_e164


@pytest.mark.parametrize(
    "number",
    [
        "13900000001",
        "+8613900000001",
        "8613900000001",
        "008613900000001",
        "+86 139 0000 0001",
        "139-0000-0001",
        "(86) 13900000001",
        "+86\u00a013900000001",
    ],
)
def test_every_spelling_of_a_mainland_mobile_is_one_number(number: str) -> None:
    assert to_e164(number) == "+8613900000001"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("85291234567", "+85291234567"),
        ("0085291234567", "+85291234567"),
        ("+852 9123 4567", "+85291234567"),
        ("6591234567", "+6591234567"),
        ("+13105551234", "+13105551234"),
        ("0013105551234", "+13105551234"),
        ("447911123456", "+447911123456"),
    ],
)
def test_numbers_abroad_come_with_their_country_code(number: str, expected: str) -> None:
    assert to_e164(number) == expected
    assert to_e164(number, international=True) == expected


def test_eleven_bare_digits_are_read_as_the_document_says() -> None:
    assert to_e164("13105551234") == "+8613105551234"
    assert to_e164("13105551234", international=True) == "+13105551234"
    assert to_e164("8613900000001", international=True) == "+8613900000001"


@pytest.mark.parametrize(
    "number",
    [
        "139****0001",
        "",
        "abc",
        "１３９００００００００１",
        "123",
        "9" * 16,
        "+",
        "00",
        "\ud800",
        "13900000001\n",
        "999000000",
        "oaid-1234",
    ],
)
def test_what_cannot_be_read_stays_exactly_as_received(number: str) -> None:
    assert to_e164(number) == number


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.text(st.characters()) | st.text("0123456789+ -()", max_size=20), st.booleans())
def test_reading_never_raises_and_reading_twice_changes_nothing(
    number: str, international: bool
) -> None:
    found = to_e164(number, international=international)

    assert to_e164(found, international=international) == found


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+8613900000001", "139****0001"),
        ("13900000001", "139****0001"),
        ("139 0000 0001", "139****0001"),
        ("+85291234567", "+852****67"),
        ("8613900000001", "8613****01"),
        ("139****0001", "139****0001"),
        ("123456789", "****"),
        ("1", "****"),
        ("", "****"),
        ("not a number at all", "****"),
        ("1390000\n00001", "****"),
        ("\x1b[31m13900000001", "****"),
        ("１３９００００００００１", "****"),
    ],
)
def test_a_mask_hides_the_middle_and_whatever_is_no_number(number: str, shown: str) -> None:
    assert mask(number) == shown


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.text("0123456789+", max_size=20))
def test_a_mask_never_shows_more_than_seven_characters(number: str) -> None:
    shown = mask(number).replace("****", "")

    assert len(shown) <= 7
