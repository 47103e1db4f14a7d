"""Which protocol a request speaks, and the answer to it, errors included; no sockets, no faults."""

import base64
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from receiptd.sandbox import gateway, mns, polyv, rocketmq, top
from receiptd.sandbox.control import Control
from receiptd.sandbox.documents import error_document
from receiptd.sandbox.exchange import Answer, Request, ServiceError, refusal
from receiptd.sandbox.gateway import Gateway
from receiptd.sandbox.polyv import PolyvGateway
from receiptd.sandbox.service import Service, new_request_id
from receiptd.sandbox.top import TopGateway

Protocol = Literal["mns", "mq", "rpc", "top", "polyv", "control", "none"]
NAMESPACES = {"mns": mns.NAMESPACE, "mq": rocketmq.NAMESPACE}
_QUEUE_HANDLERS: dict[str, Callable[[Service, Request], Coroutine[Any, Any, Answer]]] = {
    "mns": mns.handle,
    "mq": rocketmq.handle,
}


@dataclass(frozen=True, slots=True)
class Route:
    """What a request speaks and wants."""

    protocol: Protocol
    operation: str  # a key of faults.OPERATIONS


class Application:
    """All protocols behind one port."""

    def __init__(
        self,
        service: Service,
        control: Control,
        *,
        rpc: Gateway,
        top: TopGateway,
        polyv: PolyvGateway,
    ) -> None:
        self._service = service
        self._rpc = rpc
        self._top = top
        self._polyv = polyv
        self._control = control

    def route(self, request: Request) -> Route:
        """Tell what a request speaks by its path alone: faults strike before any check."""
        path = request.path
        if path == "/queues" or path.startswith("/queues/"):
            return Route("mns", mns.operation(request))
        if path.startswith("/topics/"):
            return Route("mq", rocketmq.operation(request))
        if path.startswith("/_sandbox/"):
            return Route("control", "unknown")
        if path == "/":
            return Route("rpc", gateway.operation(request))
        if path == top.PATH:
            return Route("top", self._top.operation(request))
        if path == polyv.PATH:
            return Route("polyv", "polyv_send")
        return Route("none", "unknown")

    async def execute(self, request: Request, route: Route, *, intact: bool = True) -> Answer:
        """Do what is asked and return the answer; not `intact`: a fault has changed the body."""
        try:
            if route.protocol in _QUEUE_HANDLERS:
                if intact:
                    check_digest(request)
                answer = await _QUEUE_HANDLERS[route.protocol](self._service, request)
                return self.labelled(answer, route)
            if route.protocol == "rpc":
                return self._rpc.handle(request)
            if route.protocol == "top":
                return self._top.handle(request)
            if route.protocol == "polyv":
                return self._polyv.handle(request)
            if route.protocol == "control":
                return self._control.handle(request)
            raise ServiceError(404, "InvalidRequestURL", "Nothing is served at this path.")
        except ServiceError as error:
            return self.refused(error, request, route)

    def refused(self, error: ServiceError, request: Request, route: Route) -> Answer:
        """Return an error in the form of the protocol that was asked."""
        if route.protocol == "rpc":
            return self._rpc.error_answer(error, request)
        if route.protocol == "top":
            return self._top.error_answer(error, request)
        if route.protocol == "polyv":
            return self._polyv.error_answer(error)
        if route.protocol == "control":
            return Answer(error.status, f"{error.message}\n".encode(), "text/plain;charset=utf-8")
        request_id = new_request_id()
        namespace = NAMESPACES.get(route.protocol, mns.NAMESPACE)
        body = error_document(namespace, error, request_id, self._service.base_url())
        return self.labelled(Answer(error.status, body), route, request_id)

    def labelled(self, answer: Answer, route: Route, request_id: str = "") -> Answer:
        """Add the queue services' headers; the names are lower case, as the SDKs need them."""
        protocol = "mq" if route.protocol == "mq" else "mns"
        labels = (
            (f"x-{protocol}-request-id", request_id or new_request_id()),
            (f"x-{protocol}-version", "2015-06-06"),
        )
        return Answer(answer.status, answer.body, answer.content_type, answer.headers + labels)


def check_digest(request: Request) -> None:
    """Refuse a body that is not the one its Content-MD5 is of."""
    given = request.headers.get("content-md5")
    if not given:
        return
    digest = hashlib.md5(request.body, usedforsecurity=False)
    # The standard says the raw digest; the Python and Go SDKs encode its hexadecimal text.
    known = {
        base64.b64encode(text).decode() for text in (digest.digest(), digest.hexdigest().encode())
    }
    if given not in known:
        raise refusal("InvalidDegist", "The Content-MD5 you specified is not valid.")
