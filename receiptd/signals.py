"""SIGTERM and SIGINT, turned into an event: the first asks for the drain, the second leaves at
once."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Python wants a handler; the work is done by the thread that reads the wakeup socket."""


@contextmanager
def stop_signals(stopping: threading.Event) -> Iterator[None]:
    """Set `stopping` on the first SIGTERM or SIGINT, and end the process on the second, while the
    block runs.

    A handler must not set the event itself: it runs between two bytecodes of the main thread,
    which may hold the event's lock at that moment. So the signal's number travels through a
    socket to a thread of its own, which also works while the main thread is stuck in a call. Only
    for the main thread.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {number: signal.signal(number, _nothing) for number in _STOP_SIGNALS}
    fd_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_listen, args=(reader, stopping), name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(fd_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        writer.close()  # ends the thread: its read returns nothing
        thread.join()
        reader.close()


def _listen(reader: socket.socket, stopping: threading.Event) -> None:
    while numbers := reader.recv(64):
        for number in numbers:
            if number not in _STOP_SIGNALS:
                continue
            if stopping.is_set():
                os._exit(128 + number)
            stopping.set()
