"""What systemd is told: ready, alive, stopping (sd_notify(3)). Nothing happens without systemd."""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends states to the socket that `$NOTIFY_SOCKET` names; a no-op if it names none.

    Safe from any thread; never blocks and never raises.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_interval_s = watchdog_interval_s(environ)

    def notify(self, *states: str) -> None:
        """Send states such as `READY=1` or `STATUS=two sources`, in one datagram."""
        if self._address is None:
            return
        # One state a line: a newline within a status would begin another state.
        data = "\n".join(state.replace("\n", " ") for state in states).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(data, self._address)
        except OSError:
            return  # systemd is away or busy; the next state says as much


def watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """Return how often to send `WATCHDOG=1`: half of `$WATCHDOG_USEC`, as systemd advises.

    None if no watchdog waits for this process.
    """
    pid = environ.get("WATCHDOG_PID")
    if pid and pid != str(os.getpid()):
        return None  # meant for our parent
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 2_000_000 if microseconds > 0 else None


def _address(name: str) -> str | None:
    if name.startswith("@"):
        return "\0" + name[1:]  # Linux' abstract namespace
    return name if name.startswith("/") else None
