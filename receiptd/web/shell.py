"""The outermost layer of every request: limits first, then who asks, then the handler; whatever it
does, there is an answer, with the headers that all have, and the daemon goes on."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiptd.errors import StoreError, StoreRejected
from receiptd.log import get_logger
from receiptd.web.access import Access
from receiptd.web.answers import SECURITY, Failure, as_failure, busy, failure
from receiptd.web.rates import Rates
from receiptd.web.work import Busy

BODY_LIMIT = 1 << 20  # bytes; a push of 1,000 receipts has 300 KB
BODY_S = 10.0  # from the head to the last byte of the body
_LONGEST_TARGET = 4096  # path and query

PROBES = ("/livez", "/readyz")
PUSH = "/push/"

_log = get_logger()


class ErrorPage(Protocol):
    def __call__(self, scope: Scope, status: int, message: str, cure: str) -> Response | None:
        """Return an error as a page for a person; None for a caller that wants none."""
        ...


class Shell:
    """See the module."""

    def __init__(self, app: ASGIApp, access: Access, rates: Rates, error_page: ErrorPage) -> None:
        self._app = app
        self._access = access
        self._rates = rates
        self._error_page = error_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = _Answer(send)
        scope["app"] = self  # so that the router raises what it does not find
        try:
            self._admit(scope)
            await self._app(scope, _Body(scope, receive), answer)
            return
        except HTTPException as exc:
            refusal = as_failure(exc)
        except Busy as exc:
            refusal = busy(str(exc))
        except StoreRejected:
            refusal = Failure(400, "bad_request", "the database refuses a value", "correct it")
        except StoreError:
            refusal = busy("the database is away")
        except ClientDisconnect:
            return  # in the middle of its body: nobody is left to be answered
        except Exception:
            _log.error("http.failed", method=scope["method"], exc_info=True)
            refusal = Failure(500, "bug", "receiptd failed at this", "its log says where")
        if answer.began:
            raise _HalfAnswer  # the connection is closed, so that it is not taken for a whole one
        await self._refusal(scope, refusal)(scope, receive, answer)

    def _refusal(self, scope: Scope, refusal: Failure) -> Response:
        page = self._error_page(scope, refusal.status_code, refusal.message, refusal.cure)
        if page is None:
            return failure(refusal)
        page.headers.update(refusal.headers or {})
        return page

    def _admit(self, scope: Scope) -> None:
        """Look at a request before anything of it is done. Raises Failure."""
        headers = Headers(scope=scope)
        if len(scope["raw_path"]) + len(scope["query_string"]) > _LONGEST_TARGET:
            raise Failure(414, "too_long", "the address is too long", "shorten the query")
        path, method = scope["path"], scope["method"]
        state = scope.setdefault("state", {})
        state["trusted"] = self._access.shows_token(method, headers.get("authorization", ""))
        if path in PROBES or path.startswith(PUSH):
            return  # the push has its own secret, and a probe has no secrets
        if not self._access.is_meant(headers):
            cure = "ask for http://127.0.0.1 and the port, or configure http.token"
            raise Failure(421, "misdirected", "this address is not known here", cure)
        remote = scope["client"][0] if scope.get("client") else ""
        if self._access.needs_token and not state["trusted"]:
            self._refuse(remote, path, "authorization" in headers)
        if not self._rates.admit(remote):
            told = {"retry-after": "1"}
            raise Failure(429, "too_many", "more requests than allowed", "wait", headers=told)

    def _refuse(self, remote: str, path: str, was_given: bool) -> None:
        if was_given and self._rates.tell_refusal():
            _log.warning("http.refused", remote=remote, subject="token")
        if was_given and not self._rates.admit_failure(remote):
            told = {"retry-after": "60"}
            raise Failure(429, "too_many", "too many wrong tokens", "wait", headers=told)
        # A browser asks its user for a password where a page is; a program wants to be told.
        scheme = "Bearer" if path.startswith("/v1/") or path == "/metrics" else "Basic"
        told = {"www-authenticate": f'{scheme} realm="receiptd"'}
        cure = "send Authorization: Bearer … with the token of http.token"
        raise Failure(401, "no_token", "the token is missing or wrong", cure, headers=told)


class _HalfAnswer(Exception):
    """An answer that began, and cannot be finished."""


class _Answer:
    """Sends an answer with the headers that all have."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.began = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
            has = {name for name, _ in headers}
            headers += [(k, v) for k, v in _ENCODED if k not in has]
            message = {**message, "headers": headers}
        await self._send(message)


class _Body:
    """Receives a body that is bounded in size and time."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._left = BODY_LIMIT
        self._until = asyncio.get_running_loop().time() + BODY_S
        self._is_whole = False
        length = Headers(scope=scope).get("content-length", "")
        if length.isdigit() and int(length) > BODY_LIMIT:
            raise _too_large()

    async def __call__(self) -> Message:
        if self._is_whole:  # whether the caller is still there may be asked at any time
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            told = {"connection": "close"}
            raise Failure(408, "too_slow", "the body did not come in time", headers=told) from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _too_large()
        self._is_whole = not message.get("more_body", False)
        return message


def _too_large() -> Failure:
    told = {"connection": "close"}
    cure = f"send at most {BODY_LIMIT} bytes at once"
    return Failure(413, "too_large", "the body is too large", cure, headers=told)


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]


_ENCODED = _encoded(SECURITY.items())
