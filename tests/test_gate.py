import itertools
import threading

import pytest

from receiptd.clock import ManualClock
from receiptd.gate import Gate


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def gate(clock):
    return Gate(clock, spread=lambda: 0.5)


NEVER = threading.Event()


def test_an_open_gate_lets_everyone_pass_at_once(gate, clock):
    with gate.attempt(NEVER) as first, gate.attempt(NEVER) as second:
        assert first is not None
        assert second is not None
        assert not first.probe

    assert clock.monotonic() == 0


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_a_fault_costs_at_most_twelve_attempts_in_any_minute_and_is_tried_every_30_s(spread):
    clock = ManualClock()
    gate = Gate(clock, spread=lambda: spread)
    times = []

    while clock.monotonic() < 600:
        with gate.attempt(NEVER) as attempt:
            times.append(clock.monotonic())
            attempt.failed()

    assert max(sum(1 for t in times if start <= t < start + 60) for start in times) <= 12
    assert max(b - a for a, b in itertools.pairwise(times)) < 30


def test_an_outage_begins_once_and_ends_with_its_length_and_attempts(gate, clock):
    clock.advance(1000)
    with gate.attempt(NEVER) as attempt:
        assert attempt.failed() is True
    with gate.attempt(NEVER) as attempt:
        assert attempt.probe
        assert attempt.failed() is False
    with gate.attempt(NEVER) as attempt:
        outage = attempt.succeeded()

    assert outage.attempts == 2
    assert outage.seconds == pytest.approx(3, abs=0.6)
    assert gate.is_open


def test_threads_that_were_under_way_when_the_outage_began_do_not_lengthen_it(gate, clock):
    with gate.attempt(NEVER) as one, gate.attempt(NEVER) as two, gate.attempt(NEVER) as three:
        one.failed()
        assert two.failed() is False
        assert three.succeeded() is None

    assert not gate.is_open
    with gate.attempt(NEVER):
        assert clock.monotonic() == pytest.approx(1, abs=0.3)


def test_only_one_thread_at_a_time_tries_during_an_outage():
    clock = ManualClock()
    gate = Gate(clock)
    with gate.attempt(NEVER) as attempt:
        attempt.failed()
    inside = 0
    most = 0
    lock = threading.Lock()

    def work():
        nonlocal inside, most
        for _ in range(20):
            with gate.attempt(NEVER) as attempt:
                with lock:
                    inside += 1
                    most = max(most, inside)
                attempt.failed()
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1


def test_nobody_tries_while_another_one_does_however_long_that_takes(gate, clock):
    with gate.attempt(NEVER) as attempt:
        attempt.failed()
    stopping = threading.Event()
    waited = []

    def waiting():
        waited.append(clock.monotonic())
        if waited[-1] > 600:
            stopping.set()

    with gate.attempt(NEVER) as probe:
        assert probe.probe
        with gate.attempt(stopping, waiting) as other:
            assert other is None

    assert len(waited) > 100


def test_who_waits_says_every_second_that_it_is_alive(gate, clock):
    with gate.attempt(NEVER) as attempt:
        attempt.failed()
    stopping = threading.Event()
    said = []

    def waiting():
        said.append(clock.monotonic())
        if len(said) == 100:
            stopping.set()

    assert gate.wait_open(stopping, waiting) is False
    assert len(said) == 100
    assert max(b - a for a, b in itertools.pairwise(said)) <= 1


def test_a_stop_ends_every_wait(gate):
    stopping = threading.Event()
    with gate.attempt(stopping) as attempt:
        attempt.failed()
    stopping.set()

    with gate.attempt(stopping) as attempt:
        assert attempt is None
    assert gate.wait_open(stopping) is False


def test_a_probe_that_says_nothing_gives_its_turn_back(gate):
    with gate.attempt(NEVER) as attempt:
        attempt.failed()
    with gate.attempt(NEVER) as attempt:
        assert attempt.probe

    with gate.attempt(NEVER) as attempt:
        assert attempt.probe
