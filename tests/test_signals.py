import os
import signal
import subprocess
import sys
import threading

from receiptd.signals import stop_signals


def test_the_first_signal_sets_the_event_and_the_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    fd_before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd_before)
    stopping = threading.Event()

    with stop_signals(stopping):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.wait(5)

    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(fd_before) == fd_before


def test_the_second_signal_ends_the_process_even_while_its_main_thread_is_stuck():
    program = """
import os, signal, threading
from receiptd.signals import stop_signals
stopping = threading.Event()
with stop_signals(stopping):
    os.kill(os.getpid(), signal.SIGINT)
    stopping.wait()
    stuck = threading.Lock()
    stuck.acquire()
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    stuck.acquire()
"""
    result = subprocess.run([sys.executable, "-c", program], timeout=20, check=False)

    assert result.returncode == 128 + signal.SIGINT
