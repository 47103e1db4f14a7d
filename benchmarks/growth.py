"""What a receipt costs in a database that has grown, against an empty one.

    python -m benchmarks.growth --rows 5000000 --url sqlite:////tmp/growth.db

Makes two databases beside the address (`…_empty`, `…_filled`), fills one, and saves new receipts in
both by turns: batches of 64 and of 1024, each round long enough for several checkpoints of SQLite.
The first rounds warm up and are left out. On a server the address must name an existing database,
and its user may create others. All that was made is dropped at the end.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import URL, make_url

from benchmarks import wire
from receiptd.clock import SystemClock
from receiptd.model import Entry, Envelope, ErrClass, Kind, Origin, Outcome, Receipt, Status
from receiptd.store import Store, dialects, open_store

BATCHES = (64, 1024)
FILL_BATCH = 1024
ROUND_RECEIPTS = 16_384
WARM_UP_ROUNDS = 2
FLOOR = 1.25  # what design.md section 12 allows

_console = Console(stderr=True)


class Traffic:
    """Receipts as the provider sends them: each of another SMS, with ids that rise with time."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._numbers = count()

    def batch(self, size: int) -> list[Entry]:
        """Return the next `size` receipts."""
        return [self._entry(next(self._numbers)) for _ in range(size)]

    def _entry(self, number: int) -> Entry:
        at = self._start + timedelta(milliseconds=number)
        body = wire.body(number, at)
        envelope = Envelope(
            source="sms_report",
            envelope_id=f"5F290C926D472878-2-14D9529A8FA-{number:012d}",
            body=body,
            handle="",
            pull_count=1,
            enqueued_at=at,
        )
        receipt = Receipt(
            provider="aliyun",
            account="main",
            biz_id=wire.biz_id(number),
            phone=f"+86{wire.phone(number)}",
            status=Status.DELIVERED,
            origin=Origin.QUEUE,
            out_id=f"order-{number}",
            err_code="DELIVERED",
            err_msg="用户接收成功",
            err_class=ErrClass.OK,
            segments=1,
            sent_at=at - wire.ON_THE_WAY,
            reported_at=at,
        )
        return Entry(
            envelope=envelope,
            part=0,
            body=body,
            kind=Kind.RECEIPT,
            outcome=Outcome.STORED,
            received_at=at,
            record=receipt,
        )


def fill(store: Store, traffic: Traffic, rows: int) -> float:
    """Save `rows` receipts in the store's own way, so that the files look as in real life; return
    the seconds that took."""
    began = time.perf_counter()
    for done in range(0, rows, FILL_BATCH):
        store.save(traffic.batch(min(FILL_BATCH, rows - done)))
        if done // FILL_BATCH % 500 == 0:
            _console.print(f"  {done:>12,} of {rows:,} rows, {time.perf_counter() - began:.0f} s")
    return time.perf_counter() - began


def cost_us(store: Store, traffic: Traffic, batch: int) -> float:
    """Return the microseconds that `save()` takes per new receipt, over one round."""
    batches = [traffic.batch(batch) for _ in range(ROUND_RECEIPTS // batch)]
    began = time.perf_counter()
    for entries in batches:
        store.save(entries)
    return (time.perf_counter() - began) / ROUND_RECEIPTS * 1e6


def compare(url: URL, rows: int, rounds: int) -> list[dict[str, object]]:
    """Return the medians for one database, a dictionary per size of batch."""
    start = datetime.now(UTC) - timedelta(milliseconds=rows)
    with database(url, "empty") as empty, database(url, "filled") as filled:
        lives = {"empty": (empty, Traffic(start)), "filled": (filled, Traffic(start))}
        took_s = fill(*lives["filled"], rows)
        _console.print(f"  filled in {took_s:.0f} s, {rows / took_s:,.0f} receipts/s")
        costs: dict[tuple[str, int], list[float]] = {}
        for number in range(WARM_UP_ROUNDS + rounds):
            for batch in BATCHES:
                # By turns, and either first: what else the machine does falls on both.
                for name in sorted(lives, reverse=bool(number % 2)):
                    cost = cost_us(*lives[name], batch)
                    if number >= WARM_UP_ROUNDS:
                        costs.setdefault((name, batch), []).append(cost)
    return [_result(url, rows, batch, costs) for batch in BATCHES]


def _result(
    url: URL, rows: int, batch: int, costs: dict[tuple[str, int], list[float]]
) -> dict[str, object]:
    empty, filled = costs["empty", batch], costs["filled", batch]
    return {
        "database": url.get_backend_name(),
        "rows": rows,
        "batch": batch,
        "empty_us": round(statistics.median(empty), 1),
        "filled_us": round(statistics.median(filled), 1),
        "ratio": round(statistics.median(filled) / statistics.median(empty), 2),
        "empty_range_us": [round(min(empty), 1), round(max(empty), 1)],
        "filled_range_us": [round(min(filled), 1), round(max(filled), 1)],
    }


@contextmanager
def database(url: URL, suffix: str) -> Iterator[Store]:
    """A new database beside `url`, with the schema; dropped afterwards."""
    name = f"{url.database or ''}_{suffix}"
    address = url.set(database=name)
    is_file = url.get_backend_name() == "sqlite"
    if is_file and Path(name).exists():
        raise SystemExit(f"{name} exists: remove it, or name another place")
    if not is_file:
        _administer(url, f"CREATE DATABASE {name}")
    store = open_store(address.render_as_string(hide_password=False), SystemClock())
    try:
        store.upgrade()
        yield store
    finally:
        store.close()
        if is_file:
            for end in ("", "-wal", "-shm"):
                Path(name + end).unlink(missing_ok=True)
        else:
            _administer(url, f"DROP DATABASE {name}")


def _administer(url: URL, statement: str) -> None:
    engines = dialects.load(url.drivername).engines(url)
    with engines.writer.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql(statement)
    engines.dispose()


def main(arguments: Sequence[str]) -> int:
    """Print a table on stderr and JSON on stdout; return 1 if a ratio is above the floor."""
    parser = argparse.ArgumentParser(description="Cost of a receipt against the tables' size.")
    parser.add_argument("--url", action="append", required=True, help="may be repeated")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    results = []
    for url in map(make_url, options.url):
        _console.print(f"{url.get_backend_name()}, {options.rows:,} rows")
        results += compare(url, options.rows, options.rounds)
    table = Table("database", "rows", "batch", "empty µs", "filled µs", "ratio")
    for result in results:
        table.add_row(*(str(value) for value in list(result.values())[:6]))
    _console.print(table)
    print(json.dumps(results, indent=2))
    return int(any(float(str(result["ratio"])) > FLOOR for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
