"""What HTTP costs the receipts: the same stream of receipts with HTTP off, idle and busy.

    python -m benchmarks.http_beside_receipts --seconds 10

1,000 receipts/s from the sandbox; 50 requests/s of the API, or the dashboard once a second. The lag
is from put into the queue to acked, so from before the pull to after the commit; broker and caller
are on the same machine and take their share of it.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.clients import free_port
from benchmarks.machine import rss_mb
from receiptd.sandbox import AckEvent, Sandbox
from receiptd.sandbox.configuration import config_toml

RECEIPTS_PER_S = 1000
REQUESTS_PER_S = 50
ROUNDS = 3
KINDS = ("off", "idle", "api", "page")
_BURST = 16
_THREADS = 4
SOURCES = 3  # of the sandbox's configuration: at each waits one poll at least
_GIVE_UP_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float, float, float]]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):  # interleaved, so that a drift of the machine strikes all alike
        for kind in KINDS:
            found[kind].append(measure(kind, options.seconds))
    print("http   p50 ms   p99 ms  RSS MB  answers/s")
    for kind in KINDS:
        columns = zip(*found[kind], strict=True)
        p50, p99, rss, rate = (statistics.median(column) for column in columns)
        print(f"{kind:<5}{p50 * 1000:>8.1f} {p99 * 1000:>8.1f} {rss:>7.1f} {rate:>10.1f}")


def measure(kind: str, seconds: float) -> tuple[float, float, float, float]:
    """Return the lag's median and 99th percentile in seconds, the daemon's RSS in MB, and how many
    requests a second were answered with 200."""
    port = free_port()
    with Sandbox(visibility_s=60) as sandbox, tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        url = f"sqlite:///{folder}/receipts.db"
        config.write_text(config_toml(sandbox.url, database_url=url))
        environ = {key: value for key, value in os.environ.items() if "RECEIPTD" not in key}
        environ["RECEIPTD_HTTP__LISTEN"] = "" if kind == "off" else f"127.0.0.1:{port}"
        environ["RECEIPTD_SOURCES__SMS_REPORT__THREADS"] = str(_THREADS)
        command = [sys.executable, "-m", "receiptd", "run", "--config", str(config)]
        daemon = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
        try:
            wait(lambda: sandbox.polls_waiting() >= SOURCES)
            return stream(sandbox, daemon.pid, port, kind, seconds)
        finally:
            daemon.terminate()
            daemon.wait()


def stream(
    sandbox: Sandbox, pid: int, port: int, kind: str, seconds: float
) -> tuple[float, float, float, float]:
    sent: dict[str, float] = {}
    lags: list[float] = []

    def acked(event: AckEvent) -> None:
        if (at := sent.get(event.message_id)) is not None:
            lags.append(time.monotonic() - at)

    sandbox.on_ack = acked
    queue = sandbox.queue("SmsReport")
    pause = threading.Event()
    # A process of its own: what it computes must not hold up the broker, which is in this one.
    results, told = multiprocessing.Pipe(duplex=False)
    caller = multiprocessing.get_context("spawn").Process(
        target=call, args=(port, kind, seconds, told)
    )
    is_busy = kind in ("api", "page")
    if is_busy:
        caller.start()
    began_at = time.monotonic()
    number = 0
    while (now := time.monotonic()) < began_at + seconds:
        for _ in range(_BURST):
            body = receipt(number)
            sent[sandbox.send_mns(queue, body)] = time.monotonic()
            number += 1
        pause.wait(max(0.0, began_at + number / RECEIPTS_PER_S - now))
    wait(lambda: sandbox.depth(queue) == 0)
    good = results.recv() if is_busy else 0
    lags.sort()
    return lags[len(lags) // 2], lags[len(lags) * 99 // 100], rss_mb(pid), good / seconds


def call(port: int, kind: str, seconds: float, told: Connection) -> None:
    """Ask for the page, or all that the API answers in turn, at a steady rate; tell how often that
    was a 200."""
    asked: list[Callable[[int], tuple[str, str, str | None]]] = [
        lambda n: ("GET", f"/v1/receipts/{biz_id(n)}", None),
        lambda n: ("GET", "/v1/receipts?limit=100", None),
        lambda n: ("POST", "/v1/sends", own(n)),
        lambda n: ("GET", f"/v1/receipts?phone=139{n:08d}", None),
        lambda n: ("GET", "/readyz", None),
    ]
    if kind == "page":
        asked = [lambda n: ("GET", "/", None)]
    per_s = REQUESTS_PER_S if kind == "api" else 1
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    began_at, pause, good = time.monotonic(), threading.Event(), 0
    for turn in range(int(seconds * per_s)):
        pause.wait(max(0.0, began_at + turn / per_s - time.monotonic()))
        method, target, body = asked[turn % len(asked)](turn)
        connection.request(method, target, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        good += answer.status == 200
    connection.close()
    told.send(good)


def biz_id(number: int) -> str:
    return f"900000{number:012d}%5E0"


def own(number: int) -> str:
    return json.dumps(
        {"account": "main", "biz_id": f"8000{number:012d}^0", "phone": f"138{number:08d}"}
    )


def receipt(number: int) -> str:
    return json.dumps(
        {
            "send_time": "2026-05-06 15:08:09",
            "report_time": "2026-05-06 15:08:14",
            "success": True,
            "err_code": "DELIVERED",
            "phone_number": f"139{number:08d}",
            "sms_size": "1",
            "biz_id": f"900000{number:012d}^0",
        }
    )


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
