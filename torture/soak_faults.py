"""The faults of the soak: of a hundred requests to the broker one fails, in each way there is; and
every few seconds something befalls the database, the tokens or the connections."""

import itertools
import resource
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from sqlalchemy import make_url

from receiptd.sandbox import Sandbox
from receiptd.sandbox.faults import Fault
from tests.chaos_proxy import ChaosProxy
from tests.chaos_proxy import Fault as Network

_SHARE = 0.01  # of the requests of each kind
_TOKEN_SHARE = 0.2  # there are few
_LOCK_S = 0.4
_LONG_LOCK_S = 6.0  # beyond the 5 s that SQLite waits
_LONG_LOCK_EVERY = 25  # troubles; each holds up everything for its time
_FULL_S = 0.3
_DOWN_S = 0.3
# A token that is refused before its end is replaced once in 60 s: until then nothing is pulled.
_TOKENS_EVERY_S = 75.0
_HANG_ONLY_FROM = 100_000  # messages: one holds a worker for 12 s

_RECEIVE = ("receive", "consume")
_ACK = ("delete", "ack")


def broker_faults(messages: int) -> list[Fault]:
    """Return the faults of the broker: together they strike one request in a hundred."""
    hang = ["hang"] if messages >= _HANG_ONLY_FROM else []
    receiving = [
        *(_plain(kind, _RECEIVE) for kind in (
            "empty", "entity_bomb", "external_entity", "deep_xml", "reset", "drop",
            "reset_mid_body", "truncate", "cut_xml", "header_case", "no_request_id",
            "close_after", "reset_after", *hang,
        )),
        Fault.html(502, _RECEIVE),
        Fault.portal(_RECEIVE),
        Fault.error("InternalServerError", _RECEIVE),
        Fault.error("QpsLimitExceeded", _RECEIVE),
        Fault.build("reset", _RECEIVE, when="after"),
        Fault.build("drop", _RECEIVE, when="after"),
        Fault.build("delay", _RECEIVE, seconds=0.5),
        Fault.build("slow_body", _RECEIVE, seconds=0.0),
        Fault.build("huge", _RECEIVE, mib=5),
    ]  # fmt: skip
    acking = [
        *(_plain(kind, _ACK) for kind in (
            "partial", "refuse_handles", "reset", "drop", "truncate", "reset_after", *hang,
        )),
        Fault.html(503, _ACK),
        Fault.error("InternalServerError", _ACK),
        Fault.build("reset", _ACK, when="after"),
        Fault.build("delay", _ACK, seconds=0.5),
    ]  # fmt: skip
    token = [Fault.error("InternalError", "token"), Fault.html(502, "token")]
    return [
        *_shared(receiving, _SHARE), *_shared(acking, _SHARE), *_shared(token, _TOKEN_SHARE)
    ]  # fmt: skip


def _plain(kind: str, operation: tuple[str, ...]) -> Fault:
    return Fault.build(kind, operation)


def _shared(faults: Sequence[Fault], share: float) -> Iterator[Fault]:
    for fault in faults:
        yield fault.model_copy(update={"share": share / len(faults)})


class Troubles:
    """What befalls the database, the tokens and the connections, one after the other, in a thread
    of its own."""

    def __init__(self, sandbox: Sandbox, befall: Sequence[Callable[[], str]]) -> None:
        """`befall`: each is one trouble, which is over when it returns its name, "" if there was
        none."""
        self._kinds = itertools.cycle([*befall, _expire(sandbox), _cut(sandbox)])
        self._ended = threading.Event()
        self.counts: Counter[str] = Counter()

    @contextmanager
    def every(self, seconds: float) -> Iterator[None]:
        """Let one befall every so many seconds, within the block."""
        self._ended.clear()
        thread = threading.Thread(target=self._run, args=(seconds,), name="troubles")
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _run(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            if name := next(self._kinds)():
                self.counts[name] += 1


def of_sqlite(url: str, pid: int, *, ended: threading.Event) -> list[Callable[[], str]]:
    """Return what can befall a file: a second writer, and a disk without room."""
    file = make_url(url).database or ""
    rounds = itertools.count(1)

    def lock() -> str:
        is_long = next(rounds) % _LONG_LOCK_EVERY == 0
        with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            ended.wait(_LONG_LOCK_S if is_long else _LOCK_S)
            other.execute("ROLLBACK")
        return "a second writer for 6 s" if is_long else "a second writer"

    def fill() -> str:
        # Every write of that process fails as on a full disk, the commit's among them.
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
        ended.wait(_FULL_S)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        return "no room on the disk"

    return [lock, fill]


def of_server(proxy: ChaosProxy, *, ended: threading.Event) -> list[Callable[[], str]]:
    """Return what can befall the way to a server."""

    def reset() -> str:
        proxy.reset()
        return "connections to the database reset"

    def lose_commit() -> str:
        proxy.when(b"COMMIT", Network.CUT_REPLY)
        return "the answer to a COMMIT lost"

    def down() -> str:
        proxy.down()
        ended.wait(_DOWN_S)
        proxy.up()
        return "the database down"

    return [reset, lose_commit, down]


def _expire(sandbox: Sandbox) -> Callable[[], str]:
    next_at = 0.0

    def expire() -> str:
        nonlocal next_at
        if time.monotonic() < next_at:
            return ""
        next_at = time.monotonic() + _TOKENS_EVERY_S
        sandbox.expire_tokens()
        return "all tokens ended"

    return expire


def _cut(sandbox: Sandbox) -> Callable[[], str]:
    def cut() -> str:
        sandbox.close_connections()
        return "connections to the broker cut"

    return cut
