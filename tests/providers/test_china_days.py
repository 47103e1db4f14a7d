"""On which China days a send may be booked."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from receiptd.china import china_days, china_text, day_text

SIXTH, SEVENTH, EIGHTH = (date(2024, 5, day) for day in (6, 7, 8))


@pytest.mark.parametrize(
    ("utc", "days"),
    [
        ((6, 7, 8, 9), (SIXTH,)),
        ((6, 15, 44, 59), (SIXTH,)),
        ((6, 15, 45, 0), (SIXTH, SEVENTH)),
        ((6, 15, 59, 59), (SIXTH, SEVENTH)),
        ((6, 16, 0, 0), (SEVENTH, SIXTH)),
        ((6, 16, 14, 59), (SEVENTH, SIXTH)),
        ((6, 16, 15, 0), (SEVENTH,)),
        ((7, 15, 50, 0), (SEVENTH, EIGHTH)),
    ],
)
def test_a_send_within_a_quarter_of_midnight_in_shanghai_has_two_days(
    utc: tuple[int, int, int, int], days: tuple[date, ...]
) -> None:
    assert china_days(datetime(2024, 5, *utc, tzinfo=UTC)) == days


def test_the_zone_of_the_time_does_not_matter() -> None:
    time = datetime(2024, 5, 6, 15, 50, tzinfo=UTC)

    assert china_days(time.astimezone(timezone(timedelta(hours=-7)))) == china_days(time)


def test_times_and_days_are_written_as_the_vendors_write_them() -> None:
    assert china_text(datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)) == "2024-05-06 15:08:09"
    assert day_text(SIXTH) == "20240506"
