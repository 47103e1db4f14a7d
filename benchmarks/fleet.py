"""The processes of one run: a broker on one core, a client on the other."""

import multiprocessing
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from benchmarks import broker, machine
from benchmarks.clients import Client
from benchmarks.machine import Cores
from benchmarks.mailbox import Counts

_LOOK_S = 0.02
_GIVE_UP_S = 180.0
_STOP_S = 20.0


class Failed(Exception):
    """A run that gives no figure: the text says why."""


class Broker:
    """The broker's process, as its parent sees it."""

    def __init__(self, core: int | None, round_trip_s: float = 0.0) -> None:
        # Spawned: a fork would take along what the parent has open.
        context = multiprocessing.get_context("spawn")
        self._control, theirs = context.Pipe()
        self._process = context.Process(
            target=broker.serve, args=(theirs, core, round_trip_s), daemon=True
        )
        self._process.start()
        theirs.close()
        self.url = f"http://127.0.0.1:{self._control.recv()}"

    def __enter__(self) -> "Broker":
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError, EOFError):
            self._ask("stop")
        self._process.join()
        self._control.close()

    @property
    def pid(self) -> int:
        """The process, to read its CPU time."""
        assert self._process.pid is not None
        return self._process.pid

    def prepare(self, count: int, bad_every: int = 0) -> None:
        """Render `count` receipts, for the next `begin`; each `bad_every`th cannot be read."""
        self._ask("prepare", count, bad_every)

    def begin(self) -> None:
        """Put what was prepared into the queue, and count from zero."""
        self._ask("begin")

    def flow(self, per_s: float, count: int, seed: int, bad_every: int = 0) -> None:
        """Let `count` receipts arrive, `per_s` a second on average; count from zero. Each
        `bad_every`th cannot be read."""
        self._ask("flow", per_s, count, seed, bad_every)

    def counts(self) -> Counts:
        """Return what it has seen so far."""
        found = self._ask("counts")
        assert isinstance(found, Counts)
        return found

    def lags_s(self) -> list[float]:
        """Return the seconds from arrival to delete, of each receipt of `flow`."""
        found = self._ask("lags_s")
        assert isinstance(found, list)
        return found

    def _ask(self, command: str, *arguments: object) -> object:
        self._control.send((command, arguments))
        return self._control.recv()


class Running:
    """A client's process. `pid` is the one that does the work, behind a tracer if there is one."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process to read CPU time and memory of, and to signal."""
        own = self.process.pid
        if self.process.poll() is not None or os.path.basename(_program(own)) != "strace":
            return own
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return int(children[0]) if children else own

    def wait(
        self,
        condition: Callable[[], bool],
        what: str,
        *,
        look_s: float = _LOOK_S,
        give_up_s: float = _GIVE_UP_S,
    ) -> None:
        """Return once `condition` holds. Raises Failed if the client dies or it takes too long."""
        until = time.monotonic() + give_up_s
        while True:
            if self.process.poll() is not None:
                raise Failed(f"the client ended while waiting for {what}: {self._last_words()}")
            if condition():
                return
            if time.monotonic() > until:
                raise Failed(f"gave up waiting for {what}: {self._last_words()}")
            time.sleep(look_s)

    def stop(self) -> None:
        """End it in an orderly way, or else by force."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                # Not the tracer, which would leave behind what it traces.
                with suppress(ProcessLookupError):
                    os.kill(self.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_S)
                return

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


@contextmanager
def running(
    client: Client,
    database: str,
    broker_url: str,
    core: int | None,
    *,
    sync_delay_us: int = 0,
) -> Iterator[Running]:
    """The client's process on `core`, from before its first line to after its last."""
    with tempfile.TemporaryDirectory(prefix="receiptd-bench-") as folder:
        command = client.command(database, broker_url, Path(folder))
        if sync_delay_us:
            command = machine.slow_sync(command, sync_delay_us)
        environ = {key: value for key, value in os.environ.items() if "RECEIPTD" not in key}
        log = Path(folder) / "log"
        with log.open("wb") as stderr, machine.pinned(core):
            process = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr
            )
        found = Running(process, log)
        try:
            yield found
        finally:
            found.stop()


@contextmanager
def started(
    client: Client,
    database: str,
    *,
    cores: Cores,
    round_trip_s: float = 0.0,
    prepared: int = 0,
    sync_delay_us: int = 0,
    copies: int = 1,
) -> Iterator[tuple[Broker, list[Running]]]:
    """A broker with an empty queue, and the client, or some of them, waiting at it."""
    with Broker(cores.broker, round_trip_s) as own_broker, ExitStack() as stack:
        own_broker.prepare(prepared)
        processes: list[Running] = []
        for _ in range(copies):
            # One after the other: the first makes the tables.
            process = stack.enter_context(
                running(client, database, own_broker.url, cores.client, sync_delay_us=sync_delay_us)
            )
            processes.append(process)
            polls = client.polls * len(processes)
            process.wait(partial(_polled, own_broker, polls), "its polls")
        yield own_broker, processes


def _program(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:  # it has ended
        return ""


def _polled(broker: Broker, polls: int) -> bool:
    return broker.counts().waiting >= polls
