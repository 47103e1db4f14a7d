"""Who is measured: the commands of receiptd and of its rivals."""

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

_CONFIG = """\
[database]
url = {url}
upgrade_on_start = true

[accounts.main]
provider = "aliyun"
access_key_id = "testAK"
access_key_secret = "testSK"
endpoints = {{ dysms = {broker}, mns = {broker} }}

[sources.sms_report]
puller = "mns"
account = "main"
message_type = "SmsReport"
queue = {queue}
threads = {threads}

[http]
listen = "127.0.0.1:{port}"
"""
QUEUE = "bench-queue"
BATCH = 16


class Client(msgspec.Struct, frozen=True):
    """A consumer to be measured: its name, its command, and how many polls wait for a message once
    it has started."""

    name: str
    command: Callable[[str, str, Path], list[str]]  # database, broker, a folder of its own
    polls: int = 1
    tables: tuple[str, ...] = ("receipts",)  # each must hold every receipt once


def receiptd(threads: int) -> Client:
    """receiptd as users run it, with everything on."""

    def command(database: str, broker_url: str, folder: Path) -> list[str]:
        config = folder / "config.toml"
        config.write_text(
            _CONFIG.format(
                url=json.dumps(database),
                broker=json.dumps(broker_url),
                queue=json.dumps(QUEUE),
                threads=threads,
                port=free_port(),
            )
        )
        return [sys.executable, "-m", "receiptd", "run", "--config", str(config)]

    # One poll: receiptd's threads poll in turns, and one waits for all where nothing comes.
    return Client(f"receiptd, {threads} threads", command, 1, ("receipts", "journal"))


def rival(name: str, threads: int = 1) -> Client:
    """One of rivals.py."""

    def command(database: str, broker_url: str, folder: Path) -> list[str]:
        arguments = [name, database, broker_url, QUEUE, str(threads)]
        return [sys.executable, "-m", "benchmarks.rivals", *arguments]

    suffix = f", {threads} threads" if threads > 1 else ""
    return Client(name + suffix, command, threads)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
