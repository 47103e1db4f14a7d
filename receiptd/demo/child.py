"""The daemon as a user runs it: `receiptd run` in a process of its own, that can be killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


class Daemon:
    """One configuration, started as often as needed. All processes are ours and are ended by id."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds config.toml and receives the log."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "receiptd.log"

    def start(self) -> None:
        """Start `receiptd run`; returns at once."""
        # Settings of the caller's own receiptd must not leak into the demonstration.
        environ = {key: value for key, value in os.environ.items() if not _is_ours(key)}
        # On a server the daemon asks first; whoever starts a demonstration there has said yes.
        environ["RECEIPTD_DATABASE__UPGRADE_ON_START"] = "true"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "receiptd", "run", "--config", "config.toml"],
                cwd=self._folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> int:
        """Kill it as a power cut would; return its process id."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        return self._process.pid

    def stop(self) -> tuple[int, float]:
        """Ask it to drain; return its exit code and how many seconds it took."""
        assert self._process is not None
        began_at = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=20)
        return code, time.monotonic() - began_at

    def died(self) -> int | None:
        """Return the exit code if it has ended by itself, which it should not."""
        return self._process.poll() if self._process is not None else None

    def end(self) -> None:
        """Make sure that nothing of ours is left running."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _is_ours(key: str) -> bool:
    return key.startswith("RECEIPTD_") or key in {"NOTIFY_SOCKET", "WATCHDOG_USEC"}
