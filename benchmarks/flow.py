"""One run: receipts arrive at a fixed rate, and it is measured how long each takes."""

import msgspec

from benchmarks import machine, places
from benchmarks.clients import Client
from benchmarks.drain import check
from benchmarks.figures import percentile
from benchmarks.fleet import started
from benchmarks.machine import Cores


class Flowed(msgspec.Struct, frozen=True):
    """What one run gave.

    The time is from a receipt's arrival in the queue to the arrival of its delete at the broker.
    That is later than the commit, by the acking of its batch: the database's own times are not
    taken, because they are stamped before the commit and would flatter.
    """

    p50_ms: float
    p99_ms: float
    requests: float  # receives and deletes, per receipt
    cpu_us: float  # of the client, user and system, per receipt


def flow(
    client: Client, kind: str, per_s: float, seconds: float, cores: Cores, seed: int
) -> Flowed:
    """Let receipts arrive for about `seconds`. Raises Failed if not every one is in the database
    exactly once."""
    receipts = max(round(per_s * seconds), 1)
    with places.fresh(kind) as database:
        with started(client, database, cores=cores) as (broker, (process,)):
            cpu_before = machine.cpu_s(process.pid)
            broker.flow(per_s, receipts, seed)
            process.wait(lambda: broker.counts().deleted >= receipts, f"{receipts} deletes")
            cpu_s = machine.cpu_s(process.pid) - cpu_before
            counts, lags_s = broker.counts(), broker.lags_s()
        check(client, database, receipts)
    return Flowed(
        p50_ms=percentile(lags_s, 0.5) * 1000,
        p99_ms=percentile(lags_s, 0.99) * 1000,
        requests=(counts.receives + counts.deletes) / receipts,
        cpu_us=cpu_s / receipts * 1e6,
    )
