import socket

import pytest

from receiptd.clock import ManualClock
from receiptd.pulse import Pulse
from receiptd.systemd import Notifier
from receiptd.watchdog import Watchdog


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def test_pings_stop_when_a_thread_is_overdue_and_go_on_when_it_is_heard_of(listener):
    clock = ManualClock()
    pulses = [Pulse("sms_report/1", clock), Pulse("sms_report/2", clock)]
    watchdog = Watchdog(
        pulses, Notifier({"NOTIFY_SOCKET": listener.getsockname()}), lambda: "all well"
    )
    for pulse in pulses:
        pulse.beat(within_s=10)

    watchdog.look()
    assert listener.recv(1024) == b"WATCHDOG=1\nSTATUS=all well"

    clock.advance(11)
    pulses[0].beat(within_s=10)
    watchdog.look()
    watchdog.look()
    assert listener.recv(1024) == b"STATUS=stuck: sms_report/2"

    pulses[1].beat(within_s=10)
    watchdog.look()
    assert listener.recv(1024) == b"WATCHDOG=1\nSTATUS=all well"


def test_a_thread_that_has_ended_is_not_waited_for(listener):
    clock = ManualClock()
    pulse = Pulse("sms_report/1", clock)
    pulse.beat(within_s=10)
    pulse.stop()
    clock.advance(3600)

    Watchdog([pulse], Notifier({"NOTIFY_SOCKET": listener.getsockname()}), lambda: "").look()

    assert listener.recv(1024).startswith(b"WATCHDOG=1")
