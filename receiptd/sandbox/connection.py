"""One TCP connection: bytes to requests, answers to bytes, and what faults do to the wire."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import cast

import h11

from receiptd.sandbox import misbehaviour
from receiptd.sandbox.application import Application
from receiptd.sandbox.clock import Clock
from receiptd.sandbox.credentials import http_date
from receiptd.sandbox.exchange import Answer, Request
from receiptd.sandbox.faults import Fault, Faults
from receiptd.sandbox.journal import Journal, RequestEvent

_MAX_HEADERS = 256 * 1024  # a SendSms to 1,000 numbers by GET has them all in the request line
_RST_ON_CLOSE = struct.pack("ii", 1, 0)
_CHUNK = 64 * 1024


class Hub:
    """What all connections of one sandbox share."""

    def __init__(self, app: Application, faults: Faults, journal: Journal, clock: Clock) -> None:
        self.app = app
        self.faults = faults
        self.journal = journal
        self.clock = clock
        self.wall: Callable[[], float] = clock.now
        self.broke: Callable[[BaseException], None] = lambda error: None
        self.open: set[Connection] = set()

    def abort_all(self) -> None:
        """Cut every open connection; only in the loop's thread."""
        for connection in list(self.open):
            connection.abort()


class Connection(asyncio.Protocol):
    """Serves one client until it goes away, or a fault sends it away."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEADERS)
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._peer = ""
        self._number = 0

    # --- called by the event loop -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start serving."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else "127.0.0.1"
        self._hub.journal.connections += 1
        self._number = self._hub.journal.connections
        self._hub.open.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Take in bytes."""
        with contextlib.suppress(h11.RemoteProtocolError):
            self._h11.receive_data(data)
        self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the work for a client that is gone: a long poll must not hand messages to nobody."""
        self._hub.open.discard(self)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable.set()

    # --- the life of a connection -----------------------------------------------------------------

    def abort(self) -> None:
        """Close without ceremony."""
        if self._transport is not None:
            self._transport.abort()

    async def _serve(self) -> None:
        try:
            while (request := await self._next_request()) is not None:
                if not await self._exchange(request):
                    break
                if self._h11.our_state is h11.MUST_CLOSE:
                    break
                self._h11.start_next_cycle()
        except h11.RemoteProtocolError:
            self._write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        except asyncio.CancelledError:
            pass
        except Exception as error:
            # A bug of the sandbox must not look like a broker that misbehaves.
            self._hub.broke(error)
            self._write(b"HTTP/1.1 500 Bug\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        finally:
            if self._transport is not None:
                self._transport.close()

    async def _next_request(self) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            self._arrived.clear()
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                if self._h11.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(
                        status_code=100, headers=[], reason="Continue"
                    )
                    self._write(self._h11.send(go_on))
                await self._arrived.wait()
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return Request.from_target(
                    head.method.decode("ascii"),
                    head.target.decode("latin-1"),
                    {
                        name.decode("latin-1"): value.decode("latin-1")
                        for name, value in head.headers
                    },
                    bytes(body),
                    self._peer,
                    self._number,
                )
            else:
                return None

    async def _exchange(self, request: Request) -> bool:
        """Serve one request; returns whether the connection may live on."""
        hub = self._hub
        route = hub.app.route(request)
        faults: Sequence[Fault] = ()
        if route.protocol != "control":
            faults = hub.faults.striking(route.operation, request.asked)
        noted = False

        def note(status: int) -> None:
            # Before the client can know the outcome: who has an answer finds the request recorded.
            nonlocal noted
            if noted or route.protocol == "control":
                return
            noted = True
            hub.journal.add(
                RequestEvent(
                    operation=route.operation,
                    method=request.method,
                    path=request.target,
                    status=status,
                    at=hub.clock.now(),
                    connection=self._number,
                    faults=tuple(fault.kind for fault in faults),
                )
            )

        try:
            if not await self._interfere(faults, "before", note):
                return False
            answer = await misbehaviour.answer(hub.app, request, route, faults)
            if not await self._interfere(faults, "after", note):
                return False
            note(answer.status)
            return await self._send(answer, faults)
        finally:
            note(0)

    async def _interfere(
        self, faults: Sequence[Fault], when: str, note: Callable[[int], None]
    ) -> bool:
        for fault in faults:
            if fault.when != when:
                continue
            match fault.kind:
                case "delay":
                    await asyncio.sleep(fault.seconds)
                case "hang":
                    note(0)
                    await asyncio.get_running_loop().create_future()  # until the client goes away
                case "reset":
                    note(0)
                    self._reset()
                    return False
                case "drop":
                    note(0)
                    return False
        return True

    async def _send(self, answer: Answer, faults: Sequence[Fault]) -> bool:
        head, body = self._serialized(answer)
        kinds = {fault.kind: fault for fault in faults}
        if "truncate" in kinds or "reset_mid_body" in kinds:
            part = body[: len(body) // 2] if body else b""
            await self._write_all((head if body else head[: len(head) // 2]) + part)
            if "reset_mid_body" in kinds:
                self._reset()
            return False
        if "slow_headers" in kinds:
            await self._trickle(head + body, kinds["slow_headers"].seconds)
        elif "slow_body" in kinds:
            await self._write_all(head)
            await self._trickle(body, kinds["slow_body"].seconds)
        else:
            await self._write_all(head + body)
        if "reset_after" in kinds:
            await asyncio.sleep(kinds["reset_after"].seconds)
            self._reset()
        return "close_after" not in kinds and "reset_after" not in kinds

    def _serialized(self, answer: Answer) -> tuple[bytes, bytes]:
        headers = [("Date", http_date(self._hub.wall())), ("Server", "AliyunMQS"), *answer.headers]
        if answer.status not in (204, 304):
            headers += [
                ("Content-Length", str(len(answer.body))),
                ("Content-Type", answer.content_type),
            ]
        response = h11.Response(status_code=answer.status, headers=headers, reason=_reason(answer))
        head = self._h11.send(response) or b""
        body = b""
        if answer.status not in (204, 304) and answer.body:
            body = self._h11.send(h11.Data(data=answer.body)) or b""
        self._h11.send(h11.EndOfMessage())
        return head, body

    async def _trickle(self, data: bytes, seconds: float) -> None:
        for place in range(len(data)):
            await self._write_all(data[place : place + 1])
            await asyncio.sleep(seconds)

    async def _write_all(self, data: bytes) -> None:
        for start in range(0, len(data), _CHUNK):
            self._write(data[start : start + _CHUNK])
            await self._writable.wait()

    def _write(self, data: bytes | None) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _reset(self) -> None:
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        self._transport.abort()


def _reason(answer: Answer) -> str:
    try:
        return HTTPStatus(answer.status).phrase
    except ValueError:
        return "Unknown"
