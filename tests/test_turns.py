"""How many threads of a source poll at a time."""

import threading
from contextlib import ExitStack

import pytest

from receiptd.clock import ManualClock, SystemClock
from receiptd.turns import Turns

NEVER = threading.Event()


class Poller(threading.Thread):
    """A thread that takes a turn and keeps it until told."""

    def __init__(self, turns, stopping=NEVER):
        super().__init__(daemon=True)
        self.turns = turns
        self.stopping = stopping
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.was_stopped = False
        self.start()

    def run(self):
        with self.turns.turn(self.stopping) as turn:
            self.was_stopped = turn is None
            self.has_begun.set()
            self.may_end.wait(10)


@pytest.fixture
def clock():
    return ManualClock()


def test_a_thread_alone_always_has_its_turn(clock):
    turns = Turns(1, clock)
    for share in (1.0, 0.0, 0.1):
        with turns.turn(NEVER) as turn:
            turn.over(share=share)

    assert clock.monotonic() == 0


def test_an_idle_source_is_polled_by_one_thread_however_many_there_are():
    turns = Turns(8, SystemClock())
    with turns.turn(NEVER) as turn:
        others = [Poller(turns) for _ in range(7)]
        assert not any(one.has_begun.wait(0.01) for one in others)
        turn.over()

        begun = [one for one in others if one.has_begun.wait(0.2)]
        assert len(begun) == 1
        for one in others:
            one.may_end.set()
    for one in others:
        one.join(10)
        assert one.has_begun.is_set()


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        pytest.param([1, 1, 1, 1, 0, 0, 0, 0], [2, 3, 4, 4, 3, 2, 1, 1], id="full or empty"),
        pytest.param([1, 0.6, 0.5, 0.5], [2, 3, 4, 4], id="slices: half a batch was waiting"),
        pytest.param([1, 0.4, 0.3, 0.25], [2, 2, 2, 2], id="between the two"),
        pytest.param([1, 1, 1 / 16, 1 / 16], [2, 3, 2, 1], id="one message at a time"),
    ],
)
def test_as_many_poll_at_a_time_as_find_half_a_batch(clock, shares, wanted):
    turns = Turns(4, clock)
    seen = []
    for share in shares:
        with turns.turn(NEVER) as turn:
            turn.over(share=share)
        seen.append(turns.wanted)

    assert seen == wanted


def test_those_who_wait_are_let_in_in_the_order_they_came():
    turns = Turns(3, SystemClock())
    with ExitStack() as stack:
        turn = stack.enter_context(turns.turn(NEVER))
        first = Poller(turns)
        while not turns._waiting:
            pass
        second = Poller(turns)
        turn.over()
        assert first.has_begun.wait(10)
        assert not second.has_begun.is_set()
        first.may_end.set()
        assert second.has_begun.wait(10)
        second.may_end.set()


def test_a_pause_is_the_sources_and_not_the_threads(clock):
    turns = Turns(2, clock)
    with turns.turn(NEVER) as turn:
        turn.over(pause_s=0.005)
    with turns.turn(NEVER):
        assert clock.monotonic() == pytest.approx(0.005)


def test_whoever_pauses_for_a_minute_says_meanwhile_that_it_is_alive(clock):
    turns = Turns(1, clock)
    told = []
    with turns.turn(NEVER) as turn:
        turn.over(pause_s=60)
    with turns.turn(NEVER, lambda: told.append(clock.monotonic())):
        pass

    assert told == [0, 10, 20, 30, 40, 50]
    assert clock.monotonic() == 60


def test_a_turn_that_ends_by_an_exception_is_given_back(clock):
    turns = Turns(1, clock)
    with pytest.raises(ZeroDivisionError), turns.turn(NEVER):
        raise ZeroDivisionError

    with turns.turn(NEVER) as turn:
        assert turn is not None


def test_a_stop_ends_the_waiting_at_once():
    turns = Turns(2, SystemClock())
    stopping = threading.Event()
    with turns.turn(stopping):
        waiting = Poller(turns, stopping)
        stopping.set()
        turns.wake()
        assert waiting.has_begun.wait(1)
        assert waiting.was_stopped
        waiting.may_end.set()


def test_whoever_waits_says_that_it_is_alive():
    turns = Turns(2, SystemClock())
    told = threading.Event()
    stopping = threading.Event()

    def wait_in_line():
        with turns.turn(stopping, told.set):
            pass

    with turns.turn(stopping):
        thread = threading.Thread(target=wait_in_line, daemon=True)
        thread.start()
        assert told.wait(10)
        stopping.set()
        turns.wake()
        thread.join(10)
