"""Work beside the receipts' way: a thread that looks now and then, does what is due, and rests.

What a chore cannot do now it does at its next look: it leaves the gate of the database to the
workers, because a lock that it did not get is no outage.
"""

import threading
from abc import ABC, abstractmethod
from typing import ClassVar

from structlog.typing import FilteringBoundLogger

from receiptd.clock import Clock
from receiptd.errors import ConfigError, StoreError
from receiptd.gate import Gate
from receiptd.pulse import Pulse
from receiptd.store.leases import Leases


class Chore(ABC):
    """One thread's work."""

    LOOK_S: ClassVar[float]  # between two looks
    ALLOWANCE_S: ClassVar[float] = 60.0  # for a step, until the thread counts as stuck

    def __init__(
        self,
        *,
        store_gate: Gate,
        pulse: Pulse,
        stopping: threading.Event,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._store_gate = store_gate
        self._pulse = pulse
        self._stopping = stopping
        self._clock = clock
        self._log = log
        self._failing = False

    @property
    def pulse(self) -> Pulse:
        """The thread's promise to be heard of again; its name is the thread's."""
        return self._pulse

    def cancel(self) -> None:
        """End what it waits for; called from another thread after `stopping` was set."""
        return

    def run(self) -> None:
        """Work until stopped. Never raises: a bug is logged, waited out and tried again."""
        try:
            # The workers first: at the start they have a backlog, and nothing here is urgent.
            while not self._rest(self.LOOK_S):
                try:
                    self.run_once()
                except Exception:
                    self._log.error("worker.failed", exc_info=True)
        finally:
            self._leave()
            self._pulse.stop()

    def run_once(self) -> None:
        """Do what is due. Returns when there is no more to do, or when told to stop, or when the
        database is away."""
        if not self._store_gate.wait_open(self._stopping, self._alive):
            return
        self._alive()
        try:
            self._work()
        except (StoreError, ConfigError) as exc:
            if not self._failing:
                self._tell_failed(exc)
            self._failing = True
            return
        self._failing = False

    @abstractmethod
    def _work(self) -> None:
        """Do what is due. May raise StoreError or ConfigError, and is called again later."""

    @abstractmethod
    def _tell_failed(self, error: Exception) -> None:
        """Log that the database did not do its part; called once until it does again."""

    def _leave(self) -> None:
        """Clean up; the thread ends."""
        return

    def _rest(self, seconds: float) -> bool:
        """Wait; return whether told to stop."""
        self._pulse.beat(seconds + self.ALLOWANCE_S)
        return self._clock.wait(self._stopping, seconds)

    def _alive(self) -> None:
        self._pulse.beat(self.ALLOWANCE_S)


class LeasedChore(Chore):
    """A chore that one of all processes does at a time. A holder that was killed is replaced within
    `HELD_S` and a look."""

    HELD_S: ClassVar[float]
    RENEW_S: ClassVar[float]

    def __init__(
        self,
        lease: str,
        leases: Leases,
        *,
        store_gate: Gate,
        pulse: Pulse,
        stopping: threading.Event,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        super().__init__(
            store_gate=store_gate, pulse=pulse, stopping=stopping, clock=clock, log=log
        )
        self.lease = lease
        self._leases = leases
        self._renew_at = 0.0

    def _takes_lease(self) -> bool:
        """Take the lease, or keep it; return whether it is ours."""
        self._renew_at = self._clock.monotonic() + self.RENEW_S
        return self._leases.acquire(self.lease, self.HELD_S)

    def _keeps_lease(self) -> bool:
        """Renew the lease in time; return whether it is ours. To be called between steps."""
        now = self._clock.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + self.RENEW_S
            self._leases.renew(self.lease, self.HELD_S)
        return self._leases.holds(self.lease)

    def _leave(self) -> None:
        if not (self._store_gate.is_open and self._leases.holds(self.lease)):
            return
        try:
            self._leases.release(self.lease)
        except (StoreError, ConfigError):
            return  # it runs out by itself
