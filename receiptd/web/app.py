"""The application: all routes behind the shell."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Scope

from receiptd.web import answers, api_reads, api_sends, dashboard, openapi, probes, push
from receiptd.web.parts import Parts
from receiptd.web.rates import Rates
from receiptd.web.shell import Shell


def application(parts: Parts) -> ASGIApp:
    """Return the whole application."""
    rates = Rates(parts.clock)
    asking = (*api_sends.routes(parts), *api_reads.routes(parts), *dashboard.routes(parts))
    routes = [
        *probes.routes(parts),
        *push.routes(parts, rates),
        *openapi.routes(parts),
        *(_guarded(parts, route) for route in asking),
    ]

    def error_page(scope: Scope, status: int, message: str, cure: str) -> Response | None:
        return dashboard.error_page(parts, scope, status, message, cure)

    # A bare router: the errors that it and the handlers raise are the shell's to answer.
    return Shell(Router(routes, redirect_slashes=False), parts.access, rates, error_page)


def _guarded(parts: Parts, route: Route) -> Route:
    """Keep a route from the database until its schema is known to be right."""

    async def handler(request: Request) -> Response:
        if not parts.health.is_serving:
            raise answers.busy("the daemon waits for the database")
        answer: Response = await route.endpoint(request)
        return answer

    return Route(route.path, handler, methods=sorted(route.methods or ()))
