"""uvicorn in a thread of its own, with limits on what a connection may cost."""

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from receiptd.errors import ConfigError, Problem
from receiptd.log import get_logger

MOST_CONNECTIONS = 256
MOST_REQUESTS = 128  # at once; more are answered with 503
HEAD_S = 10.0  # from the connection, or the last answer, to the end of a request's head
KEEP_ALIVE_S = 5
REQUEST_S = 30.0  # from the head to the end of the answer, however slowly it is read
HEAD_LIMIT = 16_384  # bytes
# A push that is being stored is answered before we leave: it has 0.65 s.
_GRACE_S = 0.7
STOP_S = 1.0
_PLACE = "http.listen"

_log = get_logger()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises ConfigError if the address cannot be had."""
    shown = f"{host}:{port}"
    try:
        [family, kind, protocol, _, address] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except OSError:
        cure = "write an address of this machine, or a port of its own"
        raise ConfigError([Problem(_PLACE, "is no address of this machine", shown, cure)]) from None
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(MOST_CONNECTIONS)
    except OSError as exc:
        taken.close()
        rules = {errno.EADDRINUSE: "is taken by another program"}
        rule = rules.get(exc.errno or 0, f"cannot be had: {os.strerror(exc.errno or 0)}")
        cure = 'stop that program, or set another port, or listen = "" for none'
        raise ConfigError([Problem(_PLACE, rule, shown, cure)]) from None
    return taken


class Server:
    """One listening socket and its thread."""

    def __init__(self, app: ASGIApp, taken: socket.socket) -> None:
        self._socket = taken
        name = taken.getsockname()
        self.address = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
        # Its words hold addresses and whole exceptions; ours are in the shell.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MOST_REQUESTS,
                timeout_keep_alive=KEEP_ALIVE_S,
                h11_max_incomplete_event_size=HEAD_LIMIT,
                timeout_graceful_shutdown=_GRACE_S,  # type: ignore[arg-type]  # any number will do
            )
        )
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        _log.info("http.started", listen=self.address)

    def begin_stop(self) -> None:
        """Take no more connections, finish what is being answered; returns at once."""
        self._server.stop()

    def wait_stopped(self) -> bool:
        """Wait up to a second for the end; return whether it came."""
        self._thread.join(STOP_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


class _Uvicorn(uvicorn.Server):
    """Stops at once when told, and ends connections that take too long."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping: asyncio.Event | None = None
        self._wake: Callable[[], object] = lambda: None

    def stop(self) -> None:
        """Begin to stop; from any thread, and as often as one likes."""
        if not self.should_exit:
            self.should_exit = True
            self._wake()

    async def main_loop(self) -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._wake = lambda: loop.call_soon_threadsafe(stopping.set)
        ticks = 0
        while not await self.on_tick(ticks):
            self._end_slow_connections(loop.time())
            ticks += 10  # it counts tenths of a second
            try:
                async with asyncio.timeout(1):
                    await stopping.wait()
            except TimeoutError:
                continue

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Where asyncio has accepted a connection and not made it known when its server closes, it
        # loses it, open (python/cpython issue 109564): so first no more, and those made known.
        loop = asyncio.get_running_loop()
        for listening in (one for server in self.servers for one in server.sockets):
            loop.remove_reader(listening)
        await asyncio.sleep(0)  # a transport for each
        await asyncio.sleep(0)  # and its protocol
        await super().shutdown(sockets)

    def _end_slow_connections(self, now: float) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Connection):
                connection.end_if_slow(now)


class _Connection(H11Protocol):
    """A connection that may take only so long for each of its phases."""

    _phase: object = None
    _phase_began_at: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()

    def end_if_slow(self, now: float) -> None:
        """Close the connection if its phase is over time: a head that is not whole, or a request
        that is not answered, or an answer that is not read."""
        cycle = self.cycle
        answering = cycle is not None and not cycle.response_complete
        phase = (cycle, answering)
        if self._phase_began_at is None or phase != self._phase:
            self._phase, self._phase_began_at = phase, now
        elif now - self._phase_began_at > (REQUEST_S if answering else HEAD_S):
            self.transport.abort()
