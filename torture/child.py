"""The process that dies: the daemon, with a bomb at one of its named points.

It is forked from a server that has imported all this already, because 1,575 starts of Python would
take longer than the kills.
"""

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

from receiptd import daemon, log
from receiptd.config.loading import load
from receiptd.worker import no_trace

# What the daemon imports when it is needed.
_LATER = (
    "receiptd.providers.aliyun",
    "receiptd.providers.jushita",
    "receiptd.pullers.mns",
    "receiptd.pullers.push",
    "receiptd.pullers.rocketmq",
    "receiptd.store.dialects.mysql",
    "receiptd.store.dialects.postgresql",
    "receiptd.store.dialects.sqlite",
    "receiptd.web.app",
    "receiptd.web.server",
    "sqlalchemy.dialects.mysql.pymysql",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
)
for _name in _LATER:
    importlib.import_module(_name)

# prctl(2): let a process trace us that is not our parent, where Yama would forbid it.
_PR_SET_PTRACER = 0x59616D61
_PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)
_TRACER_WITHIN_S = 10.0


class Bomb:
    """Kills this process when it comes to `point` for the `nth` time, whichever thread it is."""

    def __init__(self, point: str, nth: int) -> None:
        self._point = point
        self._left = nth
        self._lock = threading.Lock()

    def __call__(self, point: str) -> None:
        if point != self._point:
            return
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def live(config: str, log_file: str, point: str | None, nth: int, is_traced: bool) -> None:
    """Be the daemon until SIGTERM, or until it is at `point` for the `nth` time."""
    threading.Thread(target=_die_with_parent, name="parent", daemon=True).start()
    os.dup2(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    if is_traced:
        _await_tracer()
    log.configure("json", "info")
    settings = load(Path(config), {})
    sys.exit(daemon.run(settings, environ={}, trace=Bomb(point, nth) if point else no_trace))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _await_tracer() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)
    until = time.monotonic() + _TRACER_WITHIN_S
    while "TracerPid:\t0" in Path("/proc/self/status").read_text():
        if time.monotonic() > until:
            sys.exit("no tracer came")
        time.sleep(0.002)
