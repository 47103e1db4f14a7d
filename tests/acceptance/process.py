"""A real `receiptd run` in a process of its own, and patience that ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError


def eventually(condition: Callable[[], bool], within_s: float, what: str = "") -> float:
    """Return after how many seconds `condition` held; fail if it did not within `within_s`."""
    began_at = time.monotonic()
    pause = threading.Event()
    while not condition():
        if time.monotonic() - began_at > within_s:
            raise AssertionError(f"not within {within_s} s: {what or condition}")
        pause.wait(0.02)
    return time.monotonic() - began_at


@cache
def _engine(url: str) -> Engine:
    # Kept for what it learns of a server once; it holds no connection.
    return create_engine(url, poolclass=NullPool)


class Receiptd:
    """`receiptd run` on a configuration, and a SQLite file in `folder` or another database."""

    def __init__(
        self,
        folder: Path,
        config: str,
        *,
        url: str | None = None,
        program: list[str] | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.url = url or f"sqlite:///{folder}/receipts.db"
        self.log = folder / "log.txt"
        (folder / "config.toml").write_text(config)
        self._program = program or [sys.executable, "-m", "receiptd", "run"]
        self.process: subprocess.Popen[bytes] | None = None
        self._log_begins_at = 0

    def start(self, **environ: str) -> "Receiptd":
        self._log_begins_at = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._program, "--config", str(self.folder / "config.toml")],
                env={
                    **_clean_environ(),
                    "RECEIPTD_DATABASE__URL": self.url,
                    "RECEIPTD_DATABASE__UPGRADE_ON_START": "true",
                    "RECEIPTD_HTTP__LISTEN": "",  # tests run beside each other
                    **environ,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit code and the seconds until the exit."""
        began_at = time.monotonic()
        self.send(signal.SIGTERM)
        assert self.process is not None
        code = self.process.wait(timeout=30)
        return code, time.monotonic() - began_at

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    @property
    def has_started(self) -> bool:
        """Whether it has come so far since the last start that a signal lets it drain."""
        return b'"daemon.started"' in self.log.read_bytes()[self._log_begins_at :]

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def rss_mb(self) -> float:
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmHWM")

    def rows(self, query: str, **values: object) -> list[tuple[object, ...]]:
        with _engine(self.url).connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def count(self, query: str) -> int:
        """Return the number that `query` gives; 0 while its table is not there yet."""
        try:
            return int(str(self.rows(query)[0][0]))
        except (OperationalError, ProgrammingError):
            return 0


def _clean_environ() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("RECEIPTD_")}
