"""What a second and a fourth process bring: the same backlog, drained by 1, 2 and 4 daemons.

    python -m benchmarks.processes --url postgresql://root@127.0.0.1:5432/scratch --messages 20000

The broker is the sandbox, in this process: on two cores it takes its share of them, so the ratios
are a floor. The database must be one of your own; its receiptd tables are emptied.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import make_url, text

from receiptd.clock import SystemClock
from receiptd.sandbox import Sandbox
from receiptd.sandbox.configuration import config_toml
from receiptd.store import dialects, open_store

PROCESSES = (1, 2, 4)
ROUNDS = 3
_GIVE_UP_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="a database of your own")
    parser.add_argument("--messages", type=int, default=20_000)
    options = parser.parse_args()
    store = open_store(options.url, SystemClock())
    store.upgrade()
    store.close()
    seconds: dict[int, list[float]] = {count: [] for count in PROCESSES}
    for _ in range(ROUNDS):  # interleaved, so that a drift of the machine strikes all alike
        for count in PROCESSES:
            empty(options.url)
            seconds[count].append(drain(options.url, options.messages, count))
    print(f"{make_url(options.url).get_backend_name()}, {options.messages} receipts")
    print("processes  receipts/s  against one")
    one = statistics.median(seconds[1])
    for count in PROCESSES:
        median = statistics.median(seconds[count])
        print(f"{count:>9}  {options.messages / median:>10.0f}  {one / median:>10.2f}x")


def empty(url: str) -> None:
    """Delete all receipts and the journal."""
    parsed = make_url(url)
    engines = dialects.load(parsed.drivername).engines(parsed)
    with engines.writer.begin() as connection:
        for table in ("receipts", "journal"):
            connection.execute(text(f"DELETE FROM {table}"))
    engines.dispose()


def drain(url: str, messages: int, count: int) -> float:
    """Return the seconds from the first ack to the last, with `count` daemons."""
    with Sandbox(visibility_s=60) as sandbox, tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        config.write_text(config_toml(sandbox.url, database_url=url))
        environ = {key: value for key, value in os.environ.items() if "RECEIPTD" not in key}
        environ["RECEIPTD_HTTP__LISTEN"] = ""  # one port is not enough for several
        daemons = [
            subprocess.Popen(
                [sys.executable, "-m", "receiptd", "run", "--config", str(config)],
                env=environ,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(count)
        ]
        try:
            wait(lambda: sandbox.polls_waiting() >= 3 * count)
            for first in range(0, messages, 500):
                sandbox.send_sms([f"139{first + number:08d}" for number in range(500)])
            began_at = time.monotonic()
            wait(lambda: sandbox.depth(sandbox.queue("SmsReport")) == 0)
            return time.monotonic() - began_at
        finally:
            for daemon in daemons:
                daemon.terminate()
            for daemon in daemons:
                daemon.wait()


def wait(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds."""
    until = time.monotonic() + _GIVE_UP_S
    pause = threading.Event()
    while not condition():
        if time.monotonic() > until:
            raise SystemExit("gave up")
        pause.wait(0.01)


if __name__ == "__main__":
    main()
