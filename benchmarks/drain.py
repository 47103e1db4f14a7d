"""One run: a full queue is drained into an empty database."""

import msgspec

from benchmarks import machine, places
from benchmarks.clients import Client
from benchmarks.fleet import Failed, started
from benchmarks.machine import Cores


class Drained(msgspec.Struct, frozen=True):
    """What one run gave. The rate is from the broker's first answer to the last delete that it
    saw, so it includes every ack and no start."""

    per_s: float
    cpu_us: float  # of the client, user and system, per receipt
    rss_mb: float  # the highest seen while it drained
    requests: float  # receives and deletes, per receipt
    broker_us: float  # of the broker, per receipt: how far it is from being the limit


def drain(
    client: Client,
    kind: str,
    receipts: int,
    cores: Cores,
    *,
    round_trip_s: float = 0.0,
    sync_delay_us: int = 0,
    copies: int = 1,
) -> Drained:
    """Drain `receipts` with so many processes of the client. Raises Failed if not every receipt is
    in the database exactly once."""
    with places.fresh(kind) as database:
        with started(
            client,
            database,
            cores=cores,
            round_trip_s=round_trip_s,
            prepared=receipts,
            sync_delay_us=sync_delay_us,
            copies=copies,
        ) as (broker, processes):
            pids = [process.pid for process in processes]
            memory = [0.0]
            cpu_before, broker_before = sum(map(machine.cpu_s, pids)), machine.cpu_s(broker.pid)

            def is_drained() -> bool:
                memory.append(sum(map(machine.rss_mb, pids)))
                return broker.counts().deleted >= receipts

            broker.begin()
            processes[0].wait(is_drained, f"{receipts} deletes")
            cpu_s = sum(map(machine.cpu_s, pids)) - cpu_before
            broker_s = machine.cpu_s(broker.pid) - broker_before
            counts = broker.counts()
        check(client, database, receipts)
    seconds = counts.last_delete_at - counts.first_answer_at
    return Drained(
        per_s=receipts / seconds,
        cpu_us=cpu_s / receipts * 1e6,
        rss_mb=max(memory),
        requests=(counts.receives + counts.deletes) / receipts,
        broker_us=broker_s / receipts * 1e6,
    )


def check(client: Client, database: str, receipts: int) -> None:
    """Raise Failed unless each receipt is in each of the client's tables exactly once."""
    for table in client.tables:
        found = places.count(database, "*", table), places.count(database, "DISTINCT biz_id", table)
        if found != (receipts, receipts):
            raise Failed(f"{client.name}: {table} holds {found} rows and ids, not {receipts}")
