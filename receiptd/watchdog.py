"""Tells systemd that all is well, as long as every worker is heard of in time."""

from collections.abc import Callable, Sequence

from receiptd.log import get_logger
from receiptd.pulse import Pulse, late
from receiptd.systemd import Notifier

_log = get_logger()


class Watchdog:
    """Feeds systemd's watchdog from the workers' pulses, and from nothing else."""

    def __init__(
        self, pulses: Sequence[Pulse], notifier: Notifier, status: Callable[[], str]
    ) -> None:
        """`status` returns the text of the status line."""
        self._pulses = pulses
        self._notifier = notifier
        self._status = status
        self._stuck: list[str] = []

    def look(self) -> None:
        """Send one ping and the status line; neither, if a thread is overdue.

        Without pings systemd replaces the process, which is safe: nothing is acked that is not
        committed.
        """
        stuck = late(self._pulses)
        if not stuck:
            self._notifier.notify("WATCHDOG=1", f"STATUS={self._status()}")
        elif stuck != self._stuck:
            _log.error("daemon.stuck", threads=stuck)
            self._notifier.notify(f"STATUS=stuck: {', '.join(stuck)}")
        self._stuck = stuck
