"""One daemon after another on the same configuration."""

import json
import multiprocessing
import os
import signal
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from torture import child

_GRACE_S = 20.0

_CONFIG = """\
[database]
url = {database}
upgrade_on_start = false
[http]
listen = {listen}
[reconcile]
enabled = false  # it would find what the queue lost
"""


def common_config(database_url: str, *, listen: str = "") -> str:
    """Return the part of config.toml that is the same for all sources."""
    return _CONFIG.format(database=json.dumps(database_url), listen=json.dumps(listen))


class Life:
    """One run of the daemon, in a process of its own."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid: int = process.pid

    @property
    def code(self) -> int | None:
        """The exit code, the negative number of the signal that killed it, or None if it runs."""
        return self._process.exitcode

    def wait(self, seconds: float) -> int | None:
        """Wait until it is dead, at most `seconds`; return the exit code as above."""
        self._process.join(seconds)
        return self.code

    def kill(self) -> None:
        """Kill it, unless it is dead already."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> int | None:
        """Ask it to drain and leave; return the exit code, None if it had to be killed."""
        if self.code is None:
            os.kill(self.pid, signal.SIGTERM)
        code = self.wait(_GRACE_S)
        if code is None:
            self.kill()
            self._process.join()
        return code


class Lives:
    """Begins lives on the configuration in `folder`, where their log grows, too."""

    def __init__(self, folder: Path, config: str) -> None:
        self._config = folder / "config.toml"
        self._config.write_text(config)
        self.log = folder / "log.txt"
        self._context = multiprocessing.get_context("forkserver")
        # Heeded by the first life of this process.
        self._context.set_forkserver_preload(["torture.child"])

    def begin(self, point: str | None = None, nth: int = 1, *, is_traced: bool = False) -> Life:
        """Start a daemon that dies at `point` for the `nth` time, or one that lives until it is
        told otherwise; `is_traced`: it waits until a tracer has come."""
        process = self._context.Process(
            target=child.live,
            args=(str(self._config), str(self.log), point, nth, is_traced),
        )
        process.start()
        return Life(process)
