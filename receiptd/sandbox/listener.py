"""The sandbox's event loop: in a thread of its own, or in the foreground until a signal."""

import asyncio
import contextlib
import signal
import socket
import ssl
import threading
from collections.abc import Callable

from receiptd.sandbox.connection import Connection, Hub
from receiptd.sandbox.polling import Polls

_BACKLOG = 512
_START_TIMEOUT_S = 10
_STOP_TIMEOUT_S = 10


class Listener:
    """Accepts connections on one listening socket."""

    def __init__(
        self, hub: Hub, polls: Polls, host: str, port: int, tls: ssl.SSLContext | None
    ) -> None:
        self._hub = hub
        self._polls = polls
        self._tls = tls
        # Bound here, so that a port in use is the caller's error and `port` is known at once.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve in a thread; returns when connections are accepted."""
        ready = threading.Event()
        thread = threading.Thread(
            target=lambda: asyncio.run(self.run(ready.set)), name="receiptd-sandbox", daemon=True
        )
        self._thread = thread
        thread.start()
        if not ready.wait(_START_TIMEOUT_S):
            raise RuntimeError("the sandbox did not start")

    def stop(self) -> None:
        """End the thread; every connection is closed."""
        if self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop may just have ended
                self.in_loop(self._stop.set)
        if self._thread is not None:
            self._thread.join(_STOP_TIMEOUT_S)
        self._socket.close()

    def in_loop(self, act: Callable[[], object]) -> None:
        """Do something in the loop's thread, soon."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(act)

    async def run(self, ready: Callable[[], object], *, on_signals: bool = False) -> None:
        """Serve until `stop`, or until SIGINT or SIGTERM if `on_signals`."""
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._polls.open(self._loop)
        if on_signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.add_signal_handler(number, self._stop.set)
        server = await self._loop.create_server(
            lambda: Connection(self._hub), sock=self._socket, ssl=self._tls, backlog=_BACKLOG
        )
        ready()
        try:
            await self._stop.wait()
        finally:
            server.close()
            self._hub.abort_all()
            # One more turn of the loop lets the transports close their sockets before it ends.
            while self._hub.open:
                await asyncio.sleep(0)
