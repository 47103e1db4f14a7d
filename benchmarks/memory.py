"""The same rows without a queue: what the database alone can take.

    python -m benchmarks.memory rows|copy DATABASE RECEIPTS

*rows* are receiptd's own statements on rows that lie ready in memory, 1,024 receipts (and their
journal rows) a transaction: no pulling, decoding or normalizing, not even the making of rows.
*copy* is PostgreSQL's COPY of the same rows, rendered beforehand, into the same tables with the
same indexes: no merge, no idempotence. Prints {"per_s": …, "cpu_us": …}.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias

import psycopg
from sqlalchemy import Connection, Engine, make_url

from benchmarks.growth import Traffic
from receiptd.clock import SystemClock
from receiptd.store import dialects, open_store, rows
from receiptd.store.batch import Batch
from receiptd.store.writer import GROUP_ENTRIES, Writer

# What is done in one transaction.
Step: TypeAlias = Callable[[Connection], None]
# A table, its columns, and rows in COPY's text format.
Part: TypeAlias = tuple[str, Sequence[str], bytes]


def main(what: str, database: str, receipts: int) -> None:
    """Make the schema, then write `receipts` in one of the two ways; print what that took."""
    store = open_store(database, SystemClock())
    store.upgrade()
    store.close()
    url = make_url(database)
    dialect = dialects.load(url.drivername)
    engine = dialect.engines(url).writer
    writer = Writer(
        engine, dialect, SystemClock(), trace=lambda point: None, on_commit=lambda *told: None
    )
    traffic = Traffic(datetime.now(UTC))
    batches = [writer.prepare(traffic.batch(size)) for size in _sizes(receipts)]
    steps: list[Step]
    if what == "rows":
        steps = [partial(_rows, writer, batch) for batch in batches]
    else:
        steps = [partial(_copy, _parts(batch)) for batch in batches]
    print(json.dumps(_timed(engine, steps, receipts)))


def _sizes(receipts: int) -> Iterator[int]:
    for start in range(0, receipts, GROUP_ENTRIES):
        yield min(GROUP_ENTRIES, receipts - start)


def _timed(engine: Engine, steps: Sequence[Step], receipts: int) -> dict[str, float]:
    with engine.begin():
        pass  # connected before the clock runs
    cpu_before, began_at = _cpu_s(), time.perf_counter()
    for step in steps:
        with engine.begin() as connection:
            step(connection)
    seconds = time.perf_counter() - began_at
    return {"per_s": receipts / seconds, "cpu_us": (_cpu_s() - cpu_before) / receipts * 1e6}


def _rows(writer: Writer, batch: Batch, connection: Connection) -> None:
    writer.write(connection, [batch])


def _copy(parts: Sequence[Part], connection: Connection) -> None:
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, psycopg.Connection)
    for table, columns, data in parts:
        statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
        with driver.cursor().copy(statement.encode()) as copy:
            copy.write(data)


def _parts(batch: Batch) -> list[Part]:
    return [
        ("receipts", rows.RECEIPTS, _rendered(batch.receipt_rows())),
        ("journal", rows.JOURNAL, _rendered(batch.journal)),
    ]


def _rendered(found: Sequence[rows.Row]) -> bytes:
    """Return rows in COPY's text format."""
    return "".join("\t".join(map(_cell, row)) + "\n" for row in found).encode()


def _cell(value: object) -> str:
    if value is None:
        return r"\N"
    text = str(value)
    return text.replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n")


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
