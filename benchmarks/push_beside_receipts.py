"""How long the provider waits for the answer to a push of 100 receipts, beside a queue's 1,000/s.

    python -m benchmarks.push_beside_receipts --pushes 300

On SQLite, ten pushes a second, each answered after its commit. The provider gives up after 700 ms.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.clients import free_port
from benchmarks.http_beside_receipts import RECEIPTS_PER_S, SOURCES, receipt, wait
from receiptd.sandbox import Sandbox
from receiptd.sandbox.configuration import config_toml

RECORDS = 100
PUSHES_PER_S = 10
LIMIT_MS = 700
_BURST = 16
_SECRET = "a-secret-of-the-benchmark"
_SOURCE = f"""
[sources.pushed]
puller = "push"
account = "main"
message_type = "SmsReport"
push_secret = "{_SECRET}"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pushes", type=int, default=300)
    options = parser.parse_args()
    port = free_port()
    with Sandbox(visibility_s=60) as sandbox, tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        text = config_toml(sandbox.url, database_url=f"sqlite:///{folder}/receipts.db")
        config.write_text(text + _SOURCE)
        config.chmod(0o600)
        environ = {key: value for key, value in os.environ.items() if "RECEIPTD" not in key}
        environ["RECEIPTD_HTTP__LISTEN"] = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", "receiptd", "run", "--config", str(config)]
        daemon = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
        over = threading.Event()
        feeder = threading.Thread(target=feed, args=(sandbox, over))
        try:
            wait(lambda: sandbox.polls_waiting() >= SOURCES)
            feeder.start()
            took, refused = push(port, options.pushes)
        finally:
            over.set()
            daemon.terminate()
            daemon.wait()
    took.sort()
    shares = {share: took[min(len(took) - 1, len(took) * share // 100)] for share in (50, 99, 100)}
    told = ", ".join(f"p{share} {1000 * value:.0f} ms" for share, value in shares.items())
    print(f"{options.pushes} pushes of {RECORDS}: {told}; {refused} not answered with code 0")
    if refused or shares[99] * 1000 >= LIMIT_MS:
        sys.exit(1)


def feed(sandbox: Sandbox, over: threading.Event) -> None:
    """Put receipts into the queue at a steady rate."""
    queue = sandbox.queue("SmsReport")
    began_at, number = time.monotonic(), 0
    while not over.wait(max(0.0, began_at + number / RECEIPTS_PER_S - time.monotonic())):
        for _ in range(_BURST):
            sandbox.send_mns(queue, receipt(number))
            number += 1


def push(port: int, pushes: int) -> tuple[list[float], int]:
    """Return how long each push took, in seconds, and how many were refused."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    began_at, pause = time.monotonic(), threading.Event()
    took: list[float] = []
    refused = 0
    for turn in range(pushes):
        first = 10_000_000 + turn * RECORDS
        records = [json.loads(receipt(number)) for number in range(first, first + RECORDS)]
        body = json.dumps(records)
        pause.wait(max(0.0, began_at + turn / PUSHES_PER_S - time.monotonic()))
        sent_at = time.monotonic()
        headers = {"Content-Type": "application/json"}
        connection.request("POST", f"/push/pushed/{_SECRET}", body, headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        took.append(time.monotonic() - sent_at)
        refused += told["code"] != 0
    connection.close()
    return took, refused


if __name__ == "__main__":
    main()
