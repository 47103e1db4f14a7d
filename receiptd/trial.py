"""A body that was delivered more than five times is first read by a process of its own, so that one
that kills whoever reads it cannot kill the daemon again and again."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

import msgspec

from receiptd.clock import Clock
from receiptd.log import get_logger
from receiptd.model import Envelope, Origin, Reason
from receiptd.trial_reader import NEXT, READY, framed

# A healthy message is pulled once, one that a crash interrupted twice.
PULLS_BEFORE_TRIAL = 5
# The death of one reader proves nothing (the machine's memory ran out, somebody killed it).
_DEATHS = 2
# A body is read in milliseconds; two readers that hang still fit in the daemon's drain of 8 s.
PATIENCE_S = 3.0
# How long a reader may take to start: an interpreter and one provider, on a machine under load.
_START_S = 5.0
# What a batch may cost. What is left over comes again; 30 s later its handles would be dead.
_BATCH_S = 12.0
# The reader needs none of our configuration, and must not know a secret.
_NOT_ITS = ("RECEIPTD_", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_")

_log = get_logger()


class ReadAs(msgspec.Struct, frozen=True):
    """How a source's bodies are read, in words that another process understands."""

    provider: str  # the entry point's name
    message_type: str  # "": the provider's default
    account: str
    origin: Origin


class Trial:
    """Tries the suspects of one source's batches; its threads share it. Thread-safe.

    Nothing readable is ever quarantined by it: the count of deliveries only makes a suspect (it
    also rises while acks fail), and a suspect whose reader lives on is read as usual.
    """

    def __init__(self, read_as: ReadAs, clock: Clock, *, patience_s: float = PATIENCE_S) -> None:
        self._read_as = read_as
        self._clock = clock
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._reader: _Reader | None = None

    def sift(self, envelopes: list[Envelope]) -> list[Envelope]:
        """Return the envelopes that may go on; what ended its reader has the flaw KILLS_READER.

        Suspects for which there was no time are left out: they come again. Takes at most half a
        minute.
        """
        if not any(map(_is_suspect, envelopes)):
            return envelopes
        if not self._lock.acquire(timeout=_BATCH_S):
            return [one for one in envelopes if not _is_suspect(one)]
        try:
            return self._try(envelopes)
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the reader, if there is one."""
        with self._lock:
            self._end_reader()

    def _try(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        until = self._clock.monotonic() + _BATCH_S
        sifted = []
        for envelope in envelopes:
            if not _is_suspect(envelope):
                sifted.append(envelope)
            elif self._clock.monotonic() < until:
                killed = self._kills(envelope.body)
                flaw = Reason.KILLS_READER if killed else None
                sifted.append(msgspec.structs.replace(envelope, flaw=flaw))
        return sifted

    def _kills(self, body: bytes) -> bool:
        for _ in range(_DEATHS):
            reader = self._running_reader()
            if reader is None or reader.survives(body, self._patience_s):
                return False
            self._end_reader()
        return True

    def _running_reader(self) -> "_Reader | None":
        """Return the reader, started if need be; None if none can be had, which is no fault of the
        body."""
        if self._reader is not None and not self._reader.is_running:
            self._end_reader()
        if self._reader is None:
            try:
                self._reader = _Reader(self._read_as)
            except OSError as exc:
                _log.warning("trial.failed", error=type(exc).__name__)
        return self._reader

    def _end_reader(self) -> None:
        if self._reader is not None:
            self._reader.end()
            self._reader = None


class _Reader:
    """A running `receiptd.trial_reader`. It ends by itself when it has had nothing to do for a
    minute."""

    def __init__(self, read_as: ReadAs) -> None:
        """Raises OSError if it does not get ready."""
        self._socket, its = socket.socketpair()
        try:
            with its:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "receiptd.trial_reader", *_arguments(read_as)],
                    stdin=its.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # a crash may print what it was reading
                    env=_environment(),
                    start_new_session=True,  # Ctrl-C is meant for us
                )
        except OSError:
            self._socket.close()
            raise
        try:
            self._socket.settimeout(_START_S)
            if self._socket.recv(1) != READY:
                raise ConnectionAbortedError
        except OSError:
            self.end()
            raise

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def survives(self, body: bytes, patience_s: float) -> bool:
        """Return whether it read `body` in time."""
        self._socket.settimeout(patience_s)
        try:
            self._socket.sendall(framed(body))
            return self._socket.recv(1) == NEXT
        except OSError:
            return False

    def end(self) -> None:
        """End the process; it has nothing that could be lost."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.upper().startswith(_NOT_ITS)
    }


def _is_suspect(envelope: Envelope) -> bool:
    # What has a flaw is not read anyway.
    return envelope.flaw is None and (envelope.pull_count or 0) > PULLS_BEFORE_TRIAL


def _arguments(read_as: ReadAs) -> list[str]:
    return [read_as.provider, read_as.message_type, read_as.account, read_as.origin.value]
