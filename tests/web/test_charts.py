"""Charts: where what is drawn stands, and that what is missing is seen to be missing."""

import pytest

from receiptd.web import charts
from receiptd.web.words import Language, number, percent, preferred, seconds


def plain(value: float) -> str:
    return f"{value:g}"


@pytest.mark.parametrize(
    ("step", "next_round"),
    [(1, 1), (1.2, 2), (2.1, 2.5), (3, 5), (7, 10), (0.003, 0.005), (26_000, 50_000)],
)
def test_an_axis_goes_in_round_steps(step: float, next_round: float) -> None:
    assert charts.nice(step) == pytest.approx(next_round)


@pytest.mark.parametrize("top", [0, 1, 3, 17, 99, 100, 101, 12_345, 10**9])
def test_an_axis_holds_all_values_and_few_lines(top: int) -> None:
    chart = charts.stacked(["a", "b"], [("delivered", [top, 0])], written=plain)

    values = [float(tick.label) for tick in chart.y_ticks]
    assert values[0] == 0
    assert values[-1] >= top
    assert 2 <= len(values) <= 6
    assert all(value == int(value) for value in values)
    assert chart.y_ticks[0].at == chart.bottom
    assert chart.y_ticks[-1].at == chart.top


def test_parts_of_a_bar_stand_on_each_other() -> None:
    series = [("delivered", [60]), ("failed", [0]), ("waiting", [40])]

    low, high = charts.stacked(["a"], series, written=plain).bars

    assert (low.name, high.name) == ("delivered", "waiting")
    assert low.y == pytest.approx(high.y + high.height, abs=0.11)
    assert low.height == pytest.approx(1.5 * high.height, abs=0.2)
    assert low.x == high.x


def test_one_among_a_million_is_seen() -> None:
    chart = charts.stacked(["a"], [("delivered", [10**6]), ("failed", [1])], written=plain)

    assert chart.bars[-1].name == "failed"
    assert chart.bars[-1].height >= 1


def test_nothing_leaves_the_frame() -> None:
    labels = [str(place) for place in range(30)]
    bars = charts.stacked(labels, [("delivered", list(range(30)))], written=plain)
    lines = charts.lines(labels, [("rate", [0.5, 1.0, 7.0] * 10)], written=plain, low=0.9, high=1.0)

    for bar in bars.bars:
        assert bars.left <= bar.x <= bar.x + bar.width <= bars.right
        assert bars.top <= bar.y <= bar.y + bar.height <= bars.bottom + 0.1
    for x, y in lines.lines[0].points:
        assert lines.left <= x <= lines.right
        assert lines.top <= y <= lines.bottom


def test_a_missing_value_is_a_gap_and_no_zero() -> None:
    chart = charts.lines(["a"] * 6, [("rate", [1.0, 2.0, None, 1.0, None, 2.0])], written=plain)

    [line] = chart.lines
    assert line.path.count("M") == 3
    assert line.path.count("L") == 1
    assert len(line.points) == 4


def test_a_chart_of_nothing_says_so() -> None:
    assert charts.stacked(["a"], [("delivered", [0])], written=plain).is_empty
    assert charts.lines(["a"], [("rate", [None])], written=plain).is_empty
    assert not charts.lines(["a"], [("rate", [0.0])], written=plain).is_empty


def test_labels_have_room() -> None:
    narrow = charts.stacked(["a"], [("delivered", [9])], written=number)
    wide = charts.stacked(["a"], [("delivered", [123_456_789])], written=number)

    assert wide.y_ticks[-1].label == "150,000,000"
    assert wide.left > narrow.left
    assert wide.left >= len("150,000,000") * 7


def test_only_labelled_places_have_a_tick() -> None:
    chart = charts.stacked(["", "b", "", "d"], [("delivered", [1, 1, 1, 1])], written=plain)

    assert [tick.label for tick in chart.x_ticks] == ["b", "d"]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "100 %"),
        (0.99999, "> 99.9 %"),
        (0.999, "99.9 %"),
        (0.5, "50 %"),
        (0.0001, "< 0.1 %"),
        (0.0, "0 %"),
    ],
)
def test_a_share_is_not_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(4.0, "4"), (3.999, "4.0"), (0.999, "1.0"), (0.25, "0.25"), (1234.5, "1,234")],
)
def test_seconds_have_the_places_that_matter(value: float, text: str) -> None:
    assert seconds(value) == text


def test_a_header_without_a_language_of_ours_is_english() -> None:
    assert preferred("") == preferred("fr, de;q=0.9, *;q=0.1") == "en"


def test_a_word_that_nobody_translated_is_shown_as_it_is() -> None:
    t = Language("zh")

    assert t.err_class("brand_new") == "brand_new"
    assert t.status("brand_new") == "brand_new"
    assert t.event("brand_new") == "brand_new"
