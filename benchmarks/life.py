"""The daemon's own life: how long it takes to start and to stop, what it costs when nothing comes,
and whether it grows."""

import signal
import statistics
import time

from benchmarks import clients, machine, places
from benchmarks.fleet import Broker, Failed, Running, running, started
from benchmarks.machine import Cores

IDLE_S = 60.0
_SETTLE_S = 5.0
_BACKLOG = 100_000
_GIVE_UP_S = 30.0
BAD_EVERY = 100
_ROUND_RECEIPTS = 100_000


def start(kind: str, cores: Cores, threads: int) -> dict[str, float]:
    """Return the seconds from the process' start to its first ack, with a new database to set up
    and receipts that wait already."""
    with places.fresh(kind) as database, Broker(cores.broker) as broker:
        broker.prepare(clients.BATCH)
        broker.begin()
        began_at = time.monotonic()
        with running(clients.receiptd(threads), database, broker.url, cores.client) as process:
            process.wait(lambda: broker.counts().deleted > 0, "the first ack")
            return {"seconds": broker.counts().first_delete_at - began_at}


def stop_waiting(kind: str, cores: Cores, threads: int) -> dict[str, float]:
    """Return the seconds from SIGTERM to exit, in a long poll."""
    with (
        places.fresh(kind) as database,
        started(clients.receiptd(threads), database, cores=cores) as (_, (process,)),
    ):
        time.sleep(_SETTLE_S)  # the first polls are short ones
        return {"seconds": _stop(process)}


def stop_working(kind: str, cores: Cores, threads: int) -> dict[str, float]:
    """Return the seconds from SIGTERM to exit, at full load: in transactions, pulls and acks."""
    with (
        places.fresh(kind) as database,
        started(clients.receiptd(threads), database, cores=cores, prepared=_BACKLOG) as (
            broker,
            (process,),
        ),
    ):
        broker.begin()
        process.wait(lambda: broker.counts().deleted > _BACKLOG // 20, "some acks")
        seconds = _stop(process)
        if not broker.counts().left:
            raise Failed("it had finished before it was told to stop")
        return {"seconds": seconds}


def idle(kind: str, cores: Cores, threads: int) -> dict[str, float]:
    """Return the CPU seconds of an hour without a receipt, extrapolated from a minute."""
    with (
        places.fresh(kind) as database,
        started(clients.receiptd(threads), database, cores=cores) as (_, (process,)),
    ):
        time.sleep(_SETTLE_S)
        before = machine.cpu_s(process.pid)
        time.sleep(IDLE_S)
        return {"cpu_s_per_hour": (machine.cpu_s(process.pid) - before) * 3600 / IDLE_S}


def soak(kind: str, cores: Cores, threads: int, receipts: int) -> dict[str, float]:
    """Return how memory grows over `receipts`, of which one in a hundred cannot be understood, in
    MB per hour at full load and per million receipts; from the second half, when all is warm."""
    rounds = max(4, round(receipts / _ROUND_RECEIPTS))
    with (
        places.fresh(kind) as database,
        started(clients.receiptd(threads), database, cores=cores) as (broker, (process,)),
    ):
        memory_mb: list[float] = []
        busy_s = 0.0
        for number in range(rounds):
            broker.prepare(_ROUND_RECEIPTS, BAD_EVERY)
            broker.begin()
            process.wait(lambda: broker.counts().deleted >= _ROUND_RECEIPTS, "a round's deletes")
            counts = broker.counts()
            if number >= rounds // 2:
                busy_s += counts.last_delete_at - counts.first_answer_at
                memory_mb.append(machine.rss_mb(process.pid))
        stored = places.count(database, "*", "journal")
    if stored != rounds * _ROUND_RECEIPTS:
        raise Failed(f"the journal holds {stored} rows, not {rounds * _ROUND_RECEIPTS}")
    slope = statistics.linear_regression(range(len(memory_mb)), memory_mb).slope
    return {
        "rss_mb_per_hour": slope / (busy_s / len(memory_mb)) * 3600,
        "rss_mb_per_million": slope / _ROUND_RECEIPTS * 1e6,
    }


def _stop(process: Running) -> float:
    began_at = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    code = process.process.wait(_GIVE_UP_S)
    seconds = time.monotonic() - began_at
    if code:
        raise Failed(f"it ended with exit code {code}")
    return seconds
