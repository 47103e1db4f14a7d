"""One soak: the daemon, the broker, what befalls them, and what is seen of it."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import make_url

from receiptd.clock import SystemClock
from receiptd.sandbox import Sandbox
from receiptd.store import open_store
from tests.chaos_proxy import ChaosProxy
from tests.databases import SQLITE
from torture import soak_faults
from torture.evidence import Verdict
from torture.soak_daemon import BUGS, POLLS, QUEUES, TOPICS, Daemon, Place, config, pools
from torture.soak_flow import Flow
from torture.soak_judge import Eye, judge
from torture.soak_push import Pusher
from torture.soak_report import Soaked
from torture.soak_samples import Judgement, Sample, leaks, memory, sample

# Short, so that what was handed out to nobody comes again soon.
_VISIBILITY_S = 5.0
_TOKEN_S = 200.0  # renewed 90 to 150 s before its end
_LOOK_EVERY = 8  # acks
_QUIET_WITHIN_S = 90.0
_LET_GO_WITHIN_S = 20.0  # what a fault left open is closed by a deadline
_LOOK_S = 0.1


class Plan(msgspec.Struct, frozen=True):
    """How much, on what, and how often it is looked at and struck.

    The first messages come as fast as they are taken: until then, caches, pools and the
    allocators' heaps grow to what a full load under faults needs. Over the rest, at a steady rate,
    what still grows is a leak.
    """

    warm_up: int = 500_000
    messages: int = 1_500_000  # with those
    per_s: float = 1_000.0  # after them; 0: as fast as they are taken
    database: str = SQLITE
    sample_every_s: float = 1.0
    trouble_every_s: float = 5.0
    minutes: float = 60.0  # then it is given up


def soak(
    plan: Plan, url: str, folder: Path, *, tell: Callable[[str], None] = lambda text: None
) -> Soaked:
    """Run it on the empty database at `url`, and return what became of it. Raises Ended."""
    store = open_store(url, SystemClock())
    store.upgrade()
    store.close()
    with ExitStack() as stack:
        eye = Eye(url, every=_LOOK_EVERY)
        stack.callback(eye.close)
        sandbox = Sandbox(
            visibility_s=_VISIBILITY_S,
            invisible_s=_VISIBILITY_S,
            token_lifetime_s=_TOKEN_S,
            history=10_000,
        )
        stack.enter_context(sandbox)
        sandbox.on_ack = lambda event: eye.see(event.body)
        place = Place()
        stack.callback(place.close)
        proxy = None if plan.database == SQLITE else stack.enter_context(_proxy(url))
        pusher = Pusher(place.port, eye.see)
        stack.callback(pusher.close)
        flow = Flow(sandbox, QUEUES, TOPICS, pusher)
        daemon = Daemon(folder, config(sandbox, _through(url, proxy), place.port), place.port)
        stack.callback(daemon.stop)
        run = _Run(plan, url, sandbox, daemon, flow, pusher, eye, proxy, tell)
        run.warm_up()
        run.go_on()
        return run.end()


class Ended(Exception):
    """The daemon is gone, or the time was up: there is nothing to compare."""


class _Run:
    """One soak, step by step."""

    def __init__(
        self,
        plan: Plan,
        url: str,
        sandbox: Sandbox,
        daemon: Daemon,
        flow: Flow,
        pusher: Pusher,
        eye: Eye,
        proxy: ChaosProxy | None,
        tell: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._url = url
        self._sandbox = sandbox
        self._daemon = daemon
        self._flow = flow
        self._pusher = pusher
        self._eye = eye
        self._tell = tell
        self._database = proxy.port if proxy else make_url(url).database or ""
        self._broker = urlsplit(sandbox.url).port or 0
        self._pools = pools(plan.database)
        self._stopped = threading.Event()
        if proxy is None:
            befall = soak_faults.of_sqlite(url, daemon.pid, ended=self._stopped)
        else:
            befall = soak_faults.of_server(proxy, ended=self._stopped)
        self._troubles = soak_faults.Troubles(sandbox, befall)
        self._began_at = time.monotonic()
        self._samples: list[Sample] = []
        self._quiet: list[Sample] = []
        self._complaints: list[str] = []
        self._looks = Counter[str]()

    def warm_up(self) -> None:
        """Wait for the daemon, and let it meet everything once."""
        self._await(lambda: self._sandbox.polls_waiting() >= POLLS, "long polls at the start")
        self._send(range(self._plan.warm_up))
        self._quiet.append(self._sample())
        self._tell(f"warm: {self._quiet[0]}")

    def go_on(self) -> None:
        """Send the rest, and look at the daemon all the while."""
        self._samples.clear()
        self._send(range(self._plan.warm_up, self._plan.messages), self._plan.per_s)
        first = self._quiet[0]
        self._until(lambda: not leaks(first, self._sample(), self._pools), _LET_GO_WITHIN_S)
        self._quiet.append(self._sample())
        self._tell(f"done: {self._quiet[1]}")

    def end(self) -> Soaked:
        """Stop the daemon and compare."""
        took_s = time.monotonic() - self._began_at
        self._pusher.close()
        if (code := self._daemon.stop()) != 0:
            self._complaints.append(f"exit {code} after SIGTERM")
        self._complaints += [
            f"{self._daemon.events[bug]} times {bug}" for bug in BUGS if self._daemon.events[bug]
        ]
        grown = leaks(self._quiet[0], self._quiet[1], self._pools)
        self._complaints += [f"leak: {text}" for text in grown]
        trend = memory(self._samples) if len(self._samples) >= 4 else None
        if trend is not None and trend.judgement in (Judgement.LEAK, Judgement.TOO_STEEP):
            self._complaints.append(f"memory: {trend.judgement}")
        return Soaked(
            database=self._plan.database,
            verdict=self._verdict(),
            messages=self._plan.messages,
            took_s=took_s,
            looked=self._eye.looked,
            quiet=self._quiet,
            memory=trend,
            struck=self._troubles.counts
            + Counter({"requests to the broker": self._counted("faults_struck")}),
            looks=self._looks,
            events=self._daemon.events,
            complaints=self._complaints,
            tail=list(self._daemon.tail),
        )

    def _send(self, numbers: range, per_s: float = 0) -> None:
        """Send, under all faults; return when all is stored, and nothing goes on."""
        for fault in soak_faults.broker_faults(self._plan.messages):
            self._sandbox.set_fault(fault)
        with ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
            feed = pool.submit(self._flow.send, numbers, self._stopped, per_s)
            try:
                with self._troubles.every(self._plan.trouble_every_s):
                    while not feed.done():
                        self._insist()
                        self._look()
                        wait([feed], self._plan.sample_every_s)
            finally:
                self._stopped.set()
        feed.result()
        self._stopped.clear()
        self._sandbox.clear_faults()
        self._await(lambda: self._flow.left() == 0, "an empty broker")
        self._await(lambda: self._sandbox.polls_waiting() >= POLLS, "long polls")
        self._daemon.fill_pools()  # of what a fault has emptied

    def _look(self) -> None:
        """Take a sample, and ask its HTTP as a monitoring does."""
        self._samples.append(self._sample())
        figures = self._daemon.figures()
        self._looks["scrapes"] += 1
        self._looks["scrapes without an answer"] += not figures
        self._looks["database seen away"] += figures.get("receiptd_database_up") == 0
        self._looks["not ready"] += self._daemon.get("/readyz")[0] != 200
        if len(self._samples) % 10 == 0:
            self._daemon.get("/v1/receipts?limit=200")
            self._daemon.get("/")
            self._tell(str(self._samples[-1]))

    def _sample(self) -> Sample:
        at_s = time.monotonic() - self._began_at
        return sample(self._daemon.pid, at_s, self._eye.acked, self._database, self._broker)

    def _counted(self, what: str) -> int:
        """Return a count of the broker's."""
        return int(str(self._sandbox.state[what]))

    def _verdict(self) -> Verdict:
        return judge(
            self._url,
            self._plan.messages,
            handed_out=self._counted("deliveries") + self._pusher.handed_out,
            poisoned=self._flow.poisoned,
            answered=self._flow.answered,
            early=self._eye.early,
            retried=self._plan.database != SQLITE,  # where the answer to a COMMIT gets lost
        )

    def _insist(self) -> None:
        """Raise Ended if the daemon is gone or the time is up."""
        if not self._daemon.is_running:
            raise Ended("\n".join(["the daemon ended by itself", *self._daemon.tail]))
        if time.monotonic() - self._began_at > self._plan.minutes * 60:
            raise Ended("the time was up before all was sent")

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        if not self._until(condition, _QUIET_WITHIN_S):
            self._complaints.append(f"not within {_QUIET_WITHIN_S:g} s: {what}")

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        until = time.monotonic() + seconds
        pause = threading.Event()
        while time.monotonic() < until:
            self._insist()
            if condition():
                return True
            pause.wait(_LOOK_S)
        return False


@contextmanager
def _proxy(url: str) -> Iterator[ChaosProxy]:
    server = make_url(url)
    with ChaosProxy((server.host or "127.0.0.1", server.port or 0)) as proxy:
        yield proxy


def _through(url: str, proxy: ChaosProxy | None) -> str:
    if proxy is None:
        return url
    address = make_url(url).set(host="127.0.0.1", port=proxy.port)
    return address.render_as_string(hide_password=False)
