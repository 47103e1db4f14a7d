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
SOAK_PER_S = 1_000
SOAK_LOOK_S = 1.0
# Two things come before memory is looked at. All that the threads may hold at once, held once: at a
# steady rate it is chance when all hold much, and what the allocators then keep is no growth. And
# all work done once: roll-ups begin after 30 s and are up to date some minutes later, the first
# audit is after 300 s.
SOAK_BURST = 300_000
WARM_AFTER_S = 360.0


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
    """Return how memory grows while `receipts` arrive at a steady rate, of which one in a hundred
    cannot be understood, in MB per hour and per million receipts.

    They are counted from the time on when everything that the daemon does has been done once, and
    a full load has been borne. At full load the second half of a million takes half a minute, in
    which 1 MB an hour is two pages: what grew there was a process that had still not done
    everything.
    """
    with (
        places.fresh(kind) as database,
        started(clients.receiptd(threads), database, cores=cores) as (broker, (process,)),
    ):
        broker.prepare(SOAK_BURST, BAD_EVERY)
        broker.begin()
        process.wait(lambda: broker.counts().deleted >= SOAK_BURST, "the end of the burst")
        began_at = time.monotonic()
        at_h: list[float] = []
        memory_mb: list[float] = []
        flowing = int(SOAK_PER_S * WARM_AFTER_S) + receipts
        broker.flow(SOAK_PER_S, flowing, SOAK_PER_S, BAD_EVERY)

        def has_come() -> bool:
            elapsed_s = time.monotonic() - began_at
            if elapsed_s >= WARM_AFTER_S and broker.counts().left:
                at_h.append(elapsed_s / 3600)
                memory_mb.append(machine.rss_mb(process.pid))
            return broker.counts().deleted >= flowing

        process.wait(
            has_come, "all deletes", look_s=SOAK_LOOK_S, give_up_s=flowing / SOAK_PER_S * 2
        )
        stored = places.count(database, "*", "journal")
    if stored != SOAK_BURST + flowing:
        raise Failed(f"the journal holds {stored} rows, not {SOAK_BURST + flowing}")
    slope = statistics.linear_regression(at_h, memory_mb).slope
    return {
        "rss_mb": memory_mb[-1],
        "rss_mb_per_hour": slope,
        "rss_mb_per_million": slope / (SOAK_PER_S * 3600) * 1e6,
    }


def _stop(process: Running) -> float:
    began_at = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    code = process.process.wait(_GIVE_UP_S)
    seconds = time.monotonic() - began_at
    if code:
        raise Failed(f"it ended with exit code {code}")
    return seconds
