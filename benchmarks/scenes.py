"""What is measured under which conditions: each scene is a list of jobs."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import make_url

from benchmarks import clients, growth, life, machine, places
from benchmarks.clients import Client
from benchmarks.drain import drain
from benchmarks.figures import Key
from benchmarks.fleet import Failed
from benchmarks.flow import flow
from benchmarks.machine import Cores
from benchmarks.rounds import Job

RECEIPTD, DEMO1, NAIVE16 = "receiptd", "demo1", "naive16"
ROWS, COPY = "rows from memory", "raw COPY"
ONE, TWO = "one process", "two processes"
WAITING, WORKING = "in a long poll", "at full load"
THREADS = 4  # of receiptd, where there is no round trip to hide
RATE_THREADS = 2  # the default: nobody sets more for so few
FAR_THREADS = 64  # of receiptd, where the round trip is what takes time
FAR_NAIVE_THREADS = 16
SYNC_DELAY_US = 2_000
FEW_PER_S, MANY_PER_S = 50, 1_000
FEW_S, MANY_S = 10.0, 4.0  # how long: a 99th percentile wants some hundred receipts
ROUND_TRIPS_MS = (5, 20)


class Plan(msgspec.Struct, frozen=True):
    """How large a session is."""

    cores: Cores
    databases: Sequence[str]
    scale: float = 1.0  # of the number of receipts
    grown_rows: int = 5_000_000
    grown_rounds: int = 7
    soaked: int = 1_000_000

    def only(self, *kinds: str) -> list[str]:
        """Return those of `kinds` that are measured at all."""
        return [kind for kind in kinds if kind in self.databases]


class Scene(msgspec.Struct, frozen=True):
    """Jobs that are measured together, by turns. `is_long`: left out of a quick session, and done
    once, because it takes minutes or has rounds of its own."""

    jobs: Callable[[Plan], list[Job]]
    is_long: bool = False


def _saturation(plan: Plan) -> list[Job]:
    jobs = []
    for kind in plan.databases:
        jobs += [
            _drained(plan, "saturation", kind, "", RECEIPTD, clients.receiptd(THREADS), 40_000),
            _drained(plan, "saturation", kind, "", DEMO1, clients.rival(DEMO1), 1_500),
            _drained(plan, "saturation", kind, "", NAIVE16, clients.rival(NAIVE16), 10_000),
            _from_memory(plan, kind, ROWS),
        ]
        if kind == places.POSTGRESQL:
            jobs.append(_from_memory(plan, kind, COPY))
    return jobs


def _round_trip(plan: Plan) -> list[Job]:
    far_naive = clients.rival(NAIVE16, FAR_NAIVE_THREADS)
    jobs = []
    for kind in plan.databases:
        for delay_ms in ROUND_TRIPS_MS:
            condition, delay_s = f"{delay_ms} ms", delay_ms / 1000
            for contender, client, receipts in (
                (RECEIPTD, clients.receiptd(FAR_THREADS), 40_000),
                (DEMO1, clients.rival(DEMO1), 800 // delay_ms),
                (NAIVE16, far_naive, 40_000 // delay_ms),
            ):
                jobs.append(
                    _drained(
                        plan,
                        "round trip",
                        kind,
                        condition,
                        contender,
                        client,
                        receipts,
                        round_trip_s=delay_s,
                    )
                )
    return jobs


def _rate(plan: Plan) -> list[Job]:
    jobs = []
    for kind in plan.databases:
        ours = clients.receiptd(RATE_THREADS)
        jobs += [
            _flowing(plan, kind, FEW_PER_S, RECEIPTD, ours),
            _flowing(plan, kind, MANY_PER_S, RECEIPTD, ours),
        ]
        if kind == places.SQLITE:
            jobs += [
                _flowing(plan, kind, FEW_PER_S, DEMO1, clients.rival(DEMO1)),
                # demo1 keeps up with 1,000/s on a fast machine only; what falls behind has no p99.
                _flowing(plan, kind, MANY_PER_S, NAIVE16, clients.rival(NAIVE16)),
            ]
    return jobs


def _slow_disk(plan: Plan) -> list[Job]:
    return [
        _drained(
            plan,
            "slow disk",
            kind,
            "",
            contender,
            client,
            receipts,
            sync_delay_us=SYNC_DELAY_US,
        )
        # A server's calls are made by its own processes, which are not ours to trace.
        for kind in plan.only(places.SQLITE)
        for contender, client, receipts in (
            (RECEIPTD, clients.receiptd(THREADS), 40_000),
            (DEMO1, clients.rival(DEMO1), 600),
            (NAIVE16, clients.rival(NAIVE16), 6_000),
        )
    ]


def _processes(plan: Plan) -> list[Job]:
    # Not pinned: two on one core would gain nothing, whatever they are.
    free = msgspec.structs.replace(plan, cores=Cores())
    return [
        _drained(
            free, "processes", kind, "", name, clients.receiptd(THREADS), 40_000, copies=copies
        )
        for kind in plan.only(places.POSTGRESQL)
        for name, copies in ((ONE, 1), (TWO, 2))
    ]


def _life(plan: Plan) -> list[Job]:
    def job(kind: str, scene: str, condition: str, measure: Callable[..., dict[str, float]]) -> Job:
        key = Key(scene, kind, condition, RECEIPTD)
        return Job(key, lambda: measure(kind, plan.cores, THREADS))

    return [
        found
        for kind in plan.databases
        for found in (
            job(kind, "start", "", life.start),
            job(kind, "stop", WAITING, life.stop_waiting),
            job(kind, "stop", WORKING, life.stop_working),
        )
    ]


def _idle(plan: Plan) -> list[Job]:
    def measure() -> dict[str, float]:
        return life.idle(places.SQLITE, plan.cores, RATE_THREADS)

    kinds = plan.only(places.SQLITE)
    return [Job(Key("idle", kind, "", RECEIPTD), measure) for kind in kinds]


def _soak(plan: Plan) -> list[Job]:
    def measure() -> dict[str, float]:
        return life.soak(places.SQLITE, plan.cores, THREADS, plan.soaked)

    kinds = plan.only(places.SQLITE)
    return [Job(Key("soak", kind, "", RECEIPTD), measure) for kind in kinds]


def _grown(plan: Plan) -> list[Job]:
    def job(kind: str) -> Job:
        def measure() -> dict[str, float]:
            with places.fresh(kind) as database, machine.pinned(plan.cores.client):
                found = growth.compare(make_url(database), plan.grown_rows, plan.grown_rounds)
            return {
                f"{figure}_{one['batch']}": float(str(one[figure]))
                for one in found
                for figure in ("empty_us", "filled_us", "ratio")
            }

        return Job(Key("grown", kind, f"{plan.grown_rows:,} rows", RECEIPTD), measure)

    return [job(kind) for kind in plan.databases]


SCENES: dict[str, Scene] = {
    "saturation": Scene(_saturation),
    "round-trip": Scene(_round_trip),
    "rate": Scene(_rate),
    "slow-disk": Scene(_slow_disk),
    "processes": Scene(_processes),
    "life": Scene(_life),
    "idle": Scene(_idle, is_long=True),
    "soak": Scene(_soak, is_long=True),
    "grown": Scene(_grown, is_long=True),
}


def _drained(
    plan: Plan,
    scene: str,
    kind: str,
    condition: str,
    contender: str,
    client: Client,
    receipts: int,
    *,
    round_trip_s: float = 0.0,
    sync_delay_us: int = 0,
    copies: int = 1,
) -> Job:
    def measure() -> dict[str, float]:
        drained = drain(
            client,
            kind,
            max(1, round(receipts * plan.scale)),
            plan.cores,
            round_trip_s=round_trip_s,
            sync_delay_us=sync_delay_us,
            copies=copies,
        )
        return msgspec.structs.asdict(drained)

    return Job(Key(scene, kind, condition, contender), measure)


def _flowing(plan: Plan, kind: str, per_s: int, contender: str, client: Client) -> Job:
    def measure() -> dict[str, float]:
        seconds = plan.scale * (FEW_S if per_s == FEW_PER_S else MANY_S)
        flowed = flow(client, kind, per_s, seconds, plan.cores, seed=per_s)
        return msgspec.structs.asdict(flowed)

    return Job(Key("rate", kind, f"{per_s}/s", contender), measure)


def _from_memory(plan: Plan, kind: str, contender: str) -> Job:
    what = "copy" if contender == COPY else "rows"

    def measure() -> dict[str, float]:
        with places.fresh(kind) as database, machine.pinned(plan.cores.client):
            receipts = str(round(60_000 * plan.scale))
            command = [sys.executable, "-m", "benchmarks.memory", what, database, receipts]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(done.stderr[-2000:])
        figures: dict[str, float] = json.loads(done.stdout)
        return figures

    return Job(Key("saturation", kind, "", contender), measure)
