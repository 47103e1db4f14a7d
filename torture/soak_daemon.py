"""The daemon that is soaked: `receiptd run` as a process of its own, what it logs, and what its
HTTP says."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from receiptd.pullers.broker import LANES
from receiptd.sandbox import Sandbox
from tests.databases import SQLITE
from torture.broker import ALIYUN, JUSHITA
from torture.lives import common_config
from torture.soak_push import PUSH_SECRET

THREADS = 2
# Several of each, because a source that met a fault waits for a second.
QUEUES = tuple(f"Alicom-Queue-{number}-SmsReport" for number in range(1, 5))
TOPICS = ("jst-sms-report-1", "jst-sms-report-2")
# The long polls when all is quiet: one a source, with that of the replies.
POLLS = len(QUEUES) + len(TOPICS) + 1
# Connections to a server: two of the pool that writes and two of the one that reads.
_SERVER_POOL = 4
# Three connections of three files each, and one that was closed in a fault: SQLite keeps it for the
# next while its process holds any lock on the file (POSIX would drop them all).
_SQLITE_POOL = 10
# Connections that the threads of these sources may have to the broker.
_MOST_LANES = ((len(QUEUES) + len(TOPICS)) * THREADS + 1) * LANES

# Bugs of ours, whatever was done to the daemon.
BUGS = (
    "worker.failed", "envelope.failed", "thread.died", "daemon.stuck", "http.failed",
    "shutdown.timed_out",
)  # fmt: skip
_LINES_KEPT = 40
_GRACE_S = 20.0
_HTTP_TIMEOUT_S = 15.0

_PUSHED = """\
[sources.pushed]
puller = "push"
account = "main"
message_type = "SmsReport"
push_secret = {secret}
threads = {threads}
"""
_QUEUE = """\
[sources.{name}]
puller = "mns"
account = "main"
message_type = "{message_type}"
queue = {queue}
credentials = "token"
threads = {threads}
wait_s = 2  # so that all is quiet soon, and a poll that hangs is given up soon
"""
_TOPIC = """\
[sources.{name}]
puller = "rocketmq"
account = "shop"
endpoint = {url}
instance_id = "MQ_INST_soak"
topic = {topic}
group = "GID_receiptd"
threads = {threads}
wait_s = 2
"""


def config(sandbox: Sandbox, database_url: str, port: int) -> str:
    """Return the config.toml: all roads, HTTP, and no reconciliation, which would find what was
    lost."""
    q = json.dumps
    url = q(sandbox.url)
    parts = [
        common_config(database_url, listen=f"127.0.0.1:{port}"),
        (ALIYUN + JUSHITA).format(url=url),
        _PUSHED.format(secret=q(PUSH_SECRET), threads=THREADS),
    ]
    replies = q(sandbox.queue("SmsUp"))
    parts.append(_QUEUE.format(name="replies", message_type="SmsUp", queue=replies, threads=1))
    for number, name in enumerate(QUEUES):
        parts.append(
            _QUEUE.format(
                name=f"reports_{number}", message_type="SmsReport", queue=q(name), threads=THREADS
            )
        )
    for number, name in enumerate(TOPICS):
        parts.append(_TOPIC.format(name=f"shop_{number}", url=url, topic=q(name), threads=THREADS))
    return "".join(parts)


def pools(database: str) -> Mapping[str, int]:
    """Return how many descriptors the daemon may hold, now or at another time, by their kind."""
    is_file = database == SQLITE
    return {"database": _SQLITE_POOL if is_file else _SERVER_POOL, "broker": _MOST_LANES}


class Place:
    """A port of loopback that nobody else is given, and that the daemon can listen on."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give it back."""
        self._socket.close()


class Daemon:
    """One run. Its log goes through a pipe: files are what cannot be written for a while."""

    def __init__(self, folder: Path, config: str, port: int) -> None:
        file = folder / "config.toml"
        file.write_text(config)
        self._port = port
        self.events: Counter[str] = Counter()
        self.tail: deque[str] = deque(maxlen=_LINES_KEPT)  # of what is no everyday event
        self._process = subprocess.Popen(
            [sys.executable, "-m", "receiptd", "run", "--config", str(file)],
            env={k: v for k, v in os.environ.items() if not k.startswith("RECEIPTD_")},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name="log")
        self._reader.start()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> int | None:
        """Ask it to drain and leave; return the exit code, None if it had to be killed."""
        code: int | None = None
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_GRACE_S)
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        return code

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask its HTTP; the status is 0 if there was no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_HTTP_TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def fill_pools(self) -> None:
        """Ask many things at once, so that what is made when it is first needed is there."""
        with ThreadPoolExecutor(8) as pool:
            for path in ("/v1/receipts?limit=200", "/metrics", "/readyz", "/"):
                list(pool.map(self.get, [path] * 16))

    def figures(self) -> Mapping[str, float]:
        """Return what /metrics says, by name and labels; nothing if there was no answer."""
        status, body = self.get("/metrics")
        lines = body.decode().splitlines() if status == 200 else []
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            try:
                event = str(json.loads(line)["event"])
            except (ValueError, KeyError):
                event = "no event"
            self.events[event] += 1
            if event not in ("batch.committed", "envelope.quarantined"):
                self.tail.append(line.decode(errors="replace").rstrip())
