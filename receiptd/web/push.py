"""`POST /push/{source}/{secret}`: Aliyun's HTTP batch push (wire-formats 3).

`{"code":0}` is answered only once every receipt of the body is durable. The provider waits 0.7 s;
whatever is not durable by then is answered with an error, so that it sends it again, and merges.
"""

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiptd.log import get_logger
from receiptd.pullers.push import Delivery, Inbox, InboxFull
from receiptd.web import answers
from receiptd.web.access import same
from receiptd.web.answers import Failure
from receiptd.web.parts import Parts
from receiptd.web.rates import Rates

# The provider's limit is 0.7 s, and the answer has a way to go.
ANSWER_S = 0.65

_log = get_logger()


def routes(parts: Parts, rates: Rates) -> list[Route]:
    """Return the routes."""
    secrets = {
        name: source.push_secret.get_secret_value()
        for name, source in parts.settings.sources.items()
    }

    def inbox_of(request: Request) -> Inbox:
        name = request.path_params["source"]
        # Compared for a source that is not there, too: its time must not tell.
        right = same(request.path_params["secret"], secrets.get(name) or "-")
        inbox = parts.inboxes.get(name)
        if inbox is None or not right:
            if rates.tell_refusal():
                remote = request.client.host if request.client else ""
                _log.warning("http.refused", remote=remote, subject="push_secret")
            raise Failure(404, "not_found", "there is nothing here")
        return inbox

    async def check(request: Request) -> Response:
        inbox_of(request)
        return _answer(200, 0, "成功")

    async def push(request: Request) -> Response:
        inbox = inbox_of(request)
        if parts.health.is_stopping or not parts.health.is_serving:
            return _answer(503, 1, "not ready, push again")
        until = asyncio.get_running_loop().time() + ANSWER_S
        body = await request.body()
        try:
            delivery = inbox.put(body)
        except InboxFull:
            return _answer(503, 1, "busy, push again")
        if not await _durable(inbox, delivery, until):
            return _answer(503, 1, "not stored in time, push again")
        return _answer(200, 0, "成功")

    path = "/push/{source}/{secret}"
    return [Route(path, check, methods=["GET"]), Route(path, push, methods=["POST"])]


async def _durable(inbox: Inbox, delivery: Delivery, until: float) -> bool:
    try:
        async with asyncio.timeout_at(until):
            await asyncio.wrap_future(delivery.done)
    except TimeoutError:
        return False
    finally:
        inbox.give_up(delivery)  # nothing is left to give up if it is durable
    return True


def _answer(status: int, code: int, message: str) -> Response:
    return answers.json({"code": code, "msg": message}, status)
