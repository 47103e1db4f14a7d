"""The daemon: builds everything from the configuration, starts in order, stops in reverse."""

import os
import platform
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta

from receiptd import __version__, assembly, log, memory
from receiptd.assembly import SourcePlan
from receiptd.batch_size import BatchSize
from receiptd.chores import chores
from receiptd.client import accounts
from receiptd.clock import Clock, SystemClock
from receiptd.config import Settings
from receiptd.errors import ConfigError, Problem
from receiptd.gate import Gate
from receiptd.insist import insist
from receiptd.metrics import Metrics
from receiptd.pipeline import Pipeline
from receiptd.pullers.push import KIND as PUSH
from receiptd.pulse import Pulse
from receiptd.signals import stop_signals
from receiptd.store import Store, open_store
from receiptd.systemd import Notifier
from receiptd.tally import Tally
from receiptd.trial import ReadAs, Trial
from receiptd.turns import Turns
from receiptd.unacked import Unacked
from receiptd.watchdog import Watchdog
from receiptd.web.guest import Http
from receiptd.web.health import SourceView
from receiptd.worker import Pace, Worker, no_trace

# Below docker's 10 s and the unit's TimeoutStopSec=10: past it something is wedged, and it is
# better to leave with a record of what than to be killed without one. Leaving is safe: what is
# not committed is not acked.
DRAIN_S = 8.0
EXIT_OK = 0
EXIT_TRY_AGAIN = 75
# How often the main thread looks at the pulses and renews the status line.
_LOOK_S = 5.0

_log = log.get_logger()


def run(
    settings: Settings,
    *,
    environ: Mapping[str, str] = os.environ,
    trace: Callable[[str], None] = no_trace,
) -> int:
    """Run until SIGTERM or SIGINT; return the exit code.

    The first signal drains (at most 8 s), a second leaves at once. Raises ConfigError if it
    cannot start as configured, StoreUnavailable never: a database that is away at the start is
    waited for.
    """
    stopping = threading.Event()
    with stop_signals(stopping):
        code = Daemon(settings, stopping=stopping, environ=environ, trace=trace).run()
        if code == EXIT_TRY_AGAIN:
            # A thread hangs in a call that does not end. Nobody waits for it any longer, not even
            # the closing of what it holds or the interpreter's own exit.
            os._exit(code)
        return code


class Daemon:
    """One run. Everything is built in `run`, in the order in which it is needed."""

    def __init__(
        self,
        settings: Settings,
        *,
        stopping: threading.Event,
        environ: Mapping[str, str] = os.environ,
        trace: Callable[[str], None] = no_trace,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._trace = trace
        self._systemd = Notifier(environ)
        self._stopping = stopping
        self._store_gate = Gate(self._clock)
        self._plans: list[SourcePlan] = []
        self._instance = f"{platform.node()}:{os.getpid()}"
        self._cancels: list[Callable[[], None]] = []
        self._threads: list[threading.Thread] = []
        self._hung: list[str] = []
        self._pulses: list[Pulse] = []
        self._tallies: list[Tally] = []
        self._gates: dict[str, Gate] = {}
        window = timedelta(days=settings.reconcile.window_days)
        self._metrics = Metrics(self._clock, window=window)
        self._sources: list[SourceView] = []
        self._http: Http | None = None

    def run(self) -> int:
        """Start, wait, stop; return the exit code."""
        self._plans = assembly.plan(self._settings, self._clock)
        if not self._plans:
            raise ConfigError(
                [Problem("sources", "at least one source is needed", cure="see config.toml")]
            )
        store = open_store(
            self._settings.database.url.get_secret_value(),
            self._clock,
            trace=self._trace,
            on_commit=self._metrics.committed,
        )
        try:
            self._open_http(store)
            if not self._await_database(store):
                return EXIT_OK
            for source in self._plans:
                self._hire(source, store)
                self._cancels.append(source.credentials.cancel)
            self._take_on_chores(store)
            memory.keep_for_good()
            for thread in self._threads:
                thread.start()
            if self._http is not None:
                self._http.serve(self._sources)
            _log.info(
                "daemon.started", version=__version__, sources=len(self._plans), pid=os.getpid()
            )
            self._systemd.notify("READY=1", f"STATUS={self._status()}")
            self._watch()
            return self._drain()
        finally:
            if self._http is not None:
                self._http.begin_stop()
                self._http.wait_stopped()
            if not self._hung:
                store.close()

    def _open_http(self, store: Store) -> None:
        """Answer probes from here on, so that a database that is away is seen; the rest later."""
        if not self._settings.http.listen:
            return
        self._http = Http(
            settings=self._settings,
            accounts=accounts(self._settings),
            store=store,
            metrics=self._metrics,
            inboxes={
                source.name: PUSH.inbox(source.name, self._clock)
                for source in self._plans
                if source.kind is PUSH
            },
            store_gate=self._store_gate,
            pulses=self._pulses,
            clock=self._clock,
        )

    def _await_database(self, store: Store) -> bool:
        """Bring the schema up to date or refuse to start; wait while the database is away. Returns
        False if told to stop meanwhile."""
        self._systemd.notify("STATUS=waiting for the database")
        insist(lambda: self._prepare(store), self._store_gate, self._stopping, _log)
        return not self._stopping.is_set()

    def _prepare(self, store: Store) -> None:
        upgrade = self._settings.database.upgrade_on_start
        if upgrade if upgrade is not None else store.is_local:
            applied = store.upgrade()
            if applied:
                _log.info("migration.applied", revision=store.revision())
        problems = store.problems()
        if problems:
            raise ConfigError(problems)

    def _hire(self, source: SourcePlan, store: Store) -> None:
        tally = Tally(
            instance=self._instance,
            source=source.name,
            store=store,
            clock=self._clock,
        )
        gate = Gate(self._clock)
        pipeline = Pipeline(
            context=source.context,
            normalize=source.normalize,
            store=store,
            clock=self._clock,
        )
        batch_size = BatchSize(source.name, source.settings.batch_size)
        turns = Turns(source.settings.threads, self._clock)
        unacked = Unacked(self._clock)
        trial = Trial(
            ReadAs(
                provider=source.account.provider,
                message_type=source.settings.message_type,
                account=source.settings.account,
                origin=source.context.origin,
            ),
            self._clock,
        )
        self._tallies.append(tally)
        self._gates[source.name] = gate
        self._sources.append(
            SourceView(
                name=source.name,
                puller=source.settings.puller,
                account=source.settings.account,
                wait_s=source.settings.wait_s,
                tally=tally,
                gate=gate,
                expires_at=lambda: getattr(source.credentials, "expires_at", None),
            )
        )
        for number in range(1, source.settings.threads + 1):
            name = f"{source.name}/{number}"
            pulse = Pulse(name, self._clock)
            worker = Worker(
                source=source.name,
                open_puller=lambda source=source: source.kind.open(  # type: ignore[misc]
                    source.name, source.settings, source.account, source.credentials, self._clock
                ),
                pipeline=pipeline,
                pace=Pace(
                    batch_size=source.settings.batch_size,
                    wait_s=source.settings.wait_s,
                    pace_s=source.settings.pace_ms / 1000,
                ),
                source_gate=gate,
                store_gate=self._store_gate,
                tally=tally,
                pulse=pulse,
                stopping=self._stopping,
                clock=self._clock,
                trace=self._trace,
                batch_size=batch_size,
                turns=turns,
                unacked=unacked,
                sift=trial.sift,
            )
            self._pulses.append(pulse)
            self._cancels.append(worker.cancel)
            self._add_thread(name, worker.run)

    def _take_on_chores(self, store: Store) -> None:
        for chore in chores(
            self._settings,
            store,
            instance=self._instance,
            store_gate=self._store_gate,
            stopping=self._stopping,
            clock=self._clock,
            metrics=self._metrics,
        ):
            self._pulses.append(chore.pulse)
            self._cancels.append(chore.cancel)
            self._add_thread(chore.pulse.name, chore.run)

    def _add_thread(self, name: str, target: Callable[[], None]) -> None:
        # Daemon threads: one that hangs must not keep the process after the drain's time is up.
        self._threads.append(threading.Thread(target=target, name=name, daemon=True))

    def _watch(self) -> None:
        """Feed the watchdog from the workers' progress until told to stop."""
        watchdog = Watchdog(self._pulses, self._systemd, self._status)
        interval_s = min(self._systemd.watchdog_interval_s or _LOOK_S, _LOOK_S)
        give_back_at = 0.0
        while not self._stopping.wait(interval_s):
            watchdog.look()
            if self._clock.monotonic() >= give_back_at:
                memory.give_back()
                give_back_at = self._clock.monotonic() + memory.GIVE_BACK_EVERY_S

    def _drain(self) -> int:
        self._systemd.notify("STOPPING=1")
        _log.info("daemon.stopping")
        if self._http is not None:
            self._http.begin_stop()
        for cancel in self._cancels:
            cancel()
        until = self._clock.monotonic() + DRAIN_S
        for thread in self._threads:
            thread.join(max(0.0, until - self._clock.monotonic()))
        # In a thread of its own: a database that fell silent must not outlast the drain either.
        self._add_thread("progress", self._publish_last)
        self._threads[-1].start()
        self._threads[-1].join(max(0.0, until - self._clock.monotonic()))
        self._hung = [thread.name for thread in self._threads if thread.is_alive()]
        if self._hung:
            _log.error("shutdown.timed_out", threads=self._hung, after_s=DRAIN_S)
            return EXIT_TRY_AGAIN
        _log.info("daemon.stopped")
        return EXIT_OK

    def _publish_last(self) -> None:
        # All or up to the first that the database does not take: each costs its whole timeout.
        if self._store_gate.is_open:
            all(tally.publish(now=True) for tally in self._tallies)

    def _status(self) -> str:
        lost = [name for name, gate in self._gates.items() if not gate.is_open]
        changed = sum(tally.counts().changed for tally in self._tallies)
        parts = [f"{len(self._gates) - len(lost)} of {len(self._gates)} sources well"]
        if lost:
            parts.append("away: " + ", ".join(lost))
        if not self._store_gate.is_open:
            parts.append("database away")
        parts.append(f"{changed} rows written")
        return "; ".join(parts)
