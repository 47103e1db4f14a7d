"""A few threads for what blocks, with a limit on how much of it may wait and for how long.

Not concurrent.futures: the interpreter waits for its threads at the exit, and a database that
fell silent must not hold up the daemon.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from receiptd.errors import ReceiptdError

THREADS = 4
# Beyond it a request is refused at once: by the time of its turn its caller would be gone.
MOST_WAITING = 32
TIME_LIMIT_S = 10.0
_STOP_S = 0.3

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Busy(ReceiptdError):
    """There is more to do than can be done in time: ask again later."""


class Pool:
    """See the module. Its threads are started when they are first needed. Thread-safe."""

    def __init__(
        self,
        *,
        threads: int = THREADS,
        most_waiting: int = MOST_WAITING,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self._size = threads
        self._most = threads + most_waiting
        self._time_limit_s = time_limit_s
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._taken = 0  # jobs that wait or run, also those that nobody waits for any more

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call `function` in one of the threads and return its result, or raise its error.

        Raises Busy if too much waits already, or if it takes longer than the limit; it then goes
        on, and its result is nobody's.
        """
        future: Future[_T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except Exception as exc:
                future.set_exception(exc)

        self._put(job)
        future.add_done_callback(self._ended)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._time_limit_s)
        except TimeoutError:
            raise Busy("the database did not answer in time") from None

    def stop(self) -> None:
        """End the threads, and wait a moment for those that still have something to do."""
        with self._lock:
            threads, self._size = self._threads, 0
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join(_STOP_S / len(threads))

    def _put(self, job: Callable[[], None]) -> None:
        with self._lock:
            if self._taken >= self._most or not self._size:
                raise Busy("too many requests at once")
            self._taken += 1
            if len(self._threads) < min(self._size, self._taken):
                name = f"http/{len(self._threads) + 1}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _ended(self, future: Future[_T]) -> None:
        with self._lock:
            self._taken -= 1
