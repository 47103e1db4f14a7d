"""What a replayed record costs against a live one, and what a replay costs live traffic beside it.

    python -m benchmarks.replay --rows 20000 --rounds 5
    python -m benchmarks.replay --beside --seconds 4 --rounds 5

Both on SQLite files in a temporary directory, removed at the end. *live* is Pipeline.process of
envelopes that are in memory, in batches of 16 (a worker alone) and of the replay's own size. The
replays read the journal that live traffic wrote: into an empty table of receipts (`new`), over the
rows that are there (`unchanged`), and out of the quarantine (`quarantined`). All by turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.growth import Traffic
from receiptd import log
from receiptd.clock import SystemClock
from receiptd.config import Settings
from receiptd.errors import InvalidEnvelope
from receiptd.model import Envelope, Origin, Reason
from receiptd.pipeline import Pipeline
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context, Normalizer
from receiptd.replay import batches
from receiptd.replay.meaning import Meanings
from receiptd.replay.run import Replayer
from receiptd.replay.savers import JournalSaver
from receiptd.store import Store, open_store
from receiptd.store.journal import Selection

WORKER_BATCH = 16
LIVE_THREADS = 2
SETTINGS = Settings.model_validate(
    {
        "accounts": {"main": {"provider": "aliyun"}},
        "sources": {
            "sms_report": {"puller": "mns", "account": "main", "message_type": "SmsReport"}
        },
    }
)
NORMALIZE = PROVIDER.normalizers["SmsReport"]
EVER = Selection(since=datetime(2020, 1, 1, tzinfo=UTC))


def refuse(data: Any, context: Context) -> Any:
    """A normalizer before its fix."""
    raise InvalidEnvelope(Reason.BAD_FIELD, "err_code")


def envelopes(traffic: Traffic, count: int) -> list[Envelope]:
    """Return new envelopes."""
    return [entry.envelope for entry in traffic.batch(count)]


def live(
    store: Store, arrived: Sequence[Envelope], batch: int, normalize: Normalizer = NORMALIZE
) -> None:
    """Process envelopes as one worker does."""
    context = Context("aliyun", "main", Origin.QUEUE)
    pipeline = Pipeline(context=context, normalize=normalize, store=store, clock=SystemClock())
    for start in range(0, len(arrived), batch):
        pipeline.process(arrived[start : start + batch])


def replay(store: Store, *, quarantined: bool) -> int:
    """Replay the quarantine or the whole journal; return how many records."""
    replayer = Replayer(
        JournalSaver(store),
        clock=SystemClock(),
        stopping=threading.Event(),
        on_refused=lambda refused: None,
        on_batch=lambda batch: None,
    )
    meanings = Meanings(SETTINGS)
    if quarantined:
        return replayer.run(batches.quarantined(store, meanings, Selection(), -1)).records
    return replayer.run(batches.received(store, meanings, EVER)).records


def speeds(folder: Path, rows: int, rounds: int) -> dict[str, float]:
    """Return the medians of microseconds per record."""
    traffic = Traffic(datetime.now(UTC))
    costs: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[..., object], *arguments: Any, **options: Any) -> None:
        began = time.perf_counter()
        work(*arguments, **options)
        costs.setdefault(name, []).append((time.perf_counter() - began) / rows * 1e6)

    for number in range(rounds):
        with _Fresh(folder, f"a{number}") as store:
            arrived = envelopes(traffic, rows)
            timed(f"live, batches of {WORKER_BATCH}", live, store, arrived, WORKER_BATCH)
        with _Fresh(folder, f"b{number}") as store:
            arrived = envelopes(traffic, rows)
            size = batches.BATCH_ROWS
            timed(f"live, batches of {size}", live, store, arrived, size)
            timed("replay, unchanged", replay, store, quarantined=False)
            with store.writing() as connection:
                connection.execute(text("DELETE FROM receipts"))
            timed("replay, new", replay, store, quarantined=False)
        with _Fresh(folder, f"c{number}") as store:
            live(store, envelopes(traffic, rows), 1000, refuse)
            timed("replay, quarantined", replay, store, quarantined=True)
    return {name: round(statistics.median(found), 1) for name, found in costs.items()}


def beside(folder: Path, seconds: float, rounds: int) -> dict[str, float]:
    """Return the medians of records per second of two live workers, alone and beside another
    process that replays the whole journal again and again."""
    traffic = Traffic(datetime.now(UTC))
    alone: list[float] = []
    together: list[float] = []
    with _Fresh(folder, "beside") as store:
        live(store, envelopes(traffic, 100_000), 1000)
        with store.writing() as connection:  # or there would be nothing to write
            connection.execute(text("DELETE FROM receipts WHERE id % 2 = 0"))
        for _ in range(rounds):
            alone.append(_rate(store, traffic, seconds))
            command = [sys.executable, "-m", "benchmarks.replay", "--forever", str(folder)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
                assert other.stdout is not None
                other.stdout.readline()  # it has begun
                together.append(_rate(store, traffic, seconds))
                other.kill()
    return {
        "alone_per_s": round(statistics.median(alone)),
        "beside_per_s": round(statistics.median(together)),
        "share": round(statistics.median(b / a for a, b in zip(alone, together, strict=True)), 2),
    }


def _rate(store: Store, traffic: Traffic, seconds: float) -> float:
    arrived = envelopes(traffic, int(20_000 * seconds))
    lock = threading.Lock()
    done = 0
    began = time.perf_counter()

    def work() -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            with lock:
                start, done = done, done + WORKER_BATCH
            live(store, arrived[start : start + WORKER_BATCH], WORKER_BATCH)

    threads = [threading.Thread(target=work) for _ in range(LIVE_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done / (time.perf_counter() - began)


class _Fresh:
    """A store on a file of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._store = open_store(f"sqlite:///{folder}/{name}.db", SystemClock())

    def __enter__(self) -> Store:
        self._store.upgrade()
        return self._store

    def __exit__(self, *error: object) -> None:
        self._store.close()


def main(arguments: Sequence[str]) -> None:
    """Print the medians as JSON."""
    parser = argparse.ArgumentParser(description="The cost of a replay.")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", action="store_true")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--forever", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    log.configure("json", "error")
    if options.forever:
        store = open_store(f"sqlite:///{options.forever}/beside.db", SystemClock())
        print("begun", flush=True)
        while True:
            replay(store, quarantined=False)
    with tempfile.TemporaryDirectory() as folder:
        if options.beside:
            result = beside(Path(folder), options.seconds, options.rounds)
        else:
            result = speeds(Path(folder), options.rows, options.rounds)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
