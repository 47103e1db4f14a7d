"""When a send is asked about, and how fast."""

import threading
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from receiptd.clock import ManualClock
from receiptd.config.settings import ReconcileSettings
from receiptd.reconcile.schedule import schedule
from receiptd.reconcile.throttle import Throttle

SENT = datetime(2026, 1, 1, tzinfo=UTC)
SCHEDULE = schedule(ReconcileSettings())


def test_the_questions_come_at_the_configured_times_and_then_it_is_over() -> None:
    asked, now = [], SENT + timedelta(minutes=15)
    while not SCHEDULE.is_over(SENT, now):
        asked.append(now - SENT)
        now = SCHEDULE.after(SENT, now)

    hours = [1, 6, 24, 72, 7 * 24, 14 * 24, 28 * 24]
    assert asked == [timedelta(minutes=15), *(timedelta(hours=one) for one in hours)]
    assert now == SENT + timedelta(days=30)


@given(st.timedeltas(timedelta(0), timedelta(days=40)))
def test_the_next_question_is_always_ahead_until_the_window_closes(age: timedelta) -> None:
    now = SENT + age
    following = SCHEDULE.after(SENT, now)

    assert following > now or SCHEDULE.is_over(SENT, now)
    assert following <= SCHEDULE.end(SENT)


def test_steps_beyond_the_window_or_out_of_order_do_no_harm() -> None:
    settings = ReconcileSettings.model_validate(
        {"first_after": "1h", "then_after": ["20d", "1h", "15m", "10d"], "window_days": 14}
    )

    steps = schedule(settings).steps

    assert list(steps) == [timedelta(minutes=15), timedelta(hours=1), timedelta(days=10)]


def test_calls_come_evenly_and_never_in_a_burst() -> None:
    clock = ManualClock()
    throttle = Throttle(4, clock)
    clock.advance(60)  # what was not used is not saved up
    times = []
    for _ in range(9):
        assert throttle.wait(threading.Event())
        times.append(clock.monotonic())

    assert [round(time - times[0], 6) for time in times] == [number / 4 for number in range(9)]


def test_a_refusal_halves_the_pace_and_answers_bring_it_back_but_no_further() -> None:
    clock = ManualClock()
    throttle = Throttle(4, clock)

    def gap() -> float:
        throttle.wait(threading.Event())
        before = clock.monotonic()
        throttle.wait(threading.Event())
        return clock.monotonic() - before

    throttle.slow_down()
    throttle.slow_down()
    gap()
    assert gap() == 1.0
    for _ in range(100):
        throttle.speed_up()
    gap()
    assert gap() == 0.25


def test_whoever_waits_is_sent_away_when_the_daemon_stops() -> None:
    stopping = threading.Event()
    throttle = Throttle(0.1, ManualClock())
    assert throttle.wait(stopping)
    stopping.set()

    assert not throttle.wait(stopping)
