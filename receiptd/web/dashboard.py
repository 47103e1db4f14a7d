"""The dashboard: one read-only page for whoever keeps watch, and a search that leads to an SMS's
timeline.

Everything comes from this machine: no script, one stylesheet, charts drawn by the server. The
templates and what fills them are loaded with the first view, because most daemons are looked at by
programs only.
"""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from receiptd.errors import StoreError
from receiptd.web.parts import Parts
from receiptd.web.work import Busy

if TYPE_CHECKING:
    from receiptd.web.pages import View

# Of a search through tables without an index for it; what was found by then is shown, and said.
SEARCH_S = 4.0
_LONGEST_QUESTION = 256
_KEPT = ("lang", "period", "account", "refresh")
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "vary": "accept-language, authorization",
}


def routes(parts: Parts) -> list[Route]:
    """Return the dashboard's own paths."""
    page = Dashboard(parts)
    return [
        Route("/", page.overview),
        Route("/search", page.search),
        Route("/dashboard.css", page.style),
        Route("/dashboard.svg", page.icon),
    ]


class Dashboard:
    """The handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def overview(self, request: Request) -> Response:
        """Answer with the overview, or with a page that says why there is none."""
        return await self._page(request, self._overview)

    async def search(self, request: Request) -> Response:
        """Answer with all that is known of one SMS."""
        return await self._page(request, self._search)

    async def style(self, request: Request) -> Response:
        """Answer with the stylesheet."""
        from receiptd.web import pages

        return _asset(request, pages.stylesheet(), "text/css")

    async def icon(self, request: Request) -> Response:
        """Answer with the icon."""
        from receiptd.web import pages

        return _asset(request, pages.icon(), "image/svg+xml")

    async def _page(self, request: Request, make: Callable[[Request], Response]) -> Response:
        pool = self._parts.pool
        try:
            return await pool.run(make, request)
        except (StoreError, Busy) as exc:
            detail = str(exc)
        return _problem(request, self._parts, "error_unavailable", 503, detail)

    def _overview(self, request: Request) -> Response:
        from receiptd.web import overview, pages

        period = overview.PERIODS.get(request.query_params.get("period") or "24h")
        if period is None:
            return _problem(request, self._parts, "error_period", 400)
        parts, settings = self._parts, self._parts.settings
        known = overview.Known(
            accounts=list(settings.accounts),
            waits={name: source.wait_s for name, source in settings.sources.items()},
            window=timedelta(days=settings.reconcile.window_days),
        )
        account = request.query_params.get("account") or None
        now = parts.clock.now()
        seen = overview.overview(parts.store, known, now, period, account)
        report = parts.health.report()
        return _html(pages.overview_page(_view(request), seen, report.reason))

    def _search(self, request: Request) -> Response:
        from receiptd.explain import Explainer, Unsearchable, shown
        from receiptd.plugins import Installed
        from receiptd.web import pages

        parts, asked = self._parts, _asked(request)
        trusted = bool(request.state.trusted)
        explainer = Explainer(parts.store, parts.settings, Installed(), parts.clock)
        found, refused = None, ""
        try:
            explanation = explainer.explain(asked, budget_s=SEARCH_S)
            found = shown.plain(explanation, show_phones=trusted)
        except Unsearchable as exc:
            refused = str(exc)
        now = parts.clock.now()
        return _html(pages.search_page(_view(request), now, found, refused, trusted=trusted))


def error_page(parts: Parts, scope: Scope, status: int, message: str, cure: str) -> Response | None:
    """Return an error of any path as a page in the dashboard's look, if the caller would rather
    have that than JSON; else None."""
    headers = Headers(scope=scope)
    if "text/html" not in headers.get("accept", "") or scope["path"].startswith("/v1/"):
        return None
    from receiptd.web import pages

    view = _view_of(QueryParams(scope["query_string"]), headers)
    page = pages.problem_page(view, parts.clock.now(), f"{status} · {message}", cure)
    return _html(page, status)


def _problem(request: Request, parts: Parts, word: str, status: int, detail: str = "") -> Response:
    from receiptd.web import pages

    view = _view(request)
    title, text = view.language(word), view.language(f"{word}_text")
    page = pages.problem_page(view, parts.clock.now(), title, text, detail)
    return _html(page, status)


def _view(request: Request) -> "View":
    return _view_of(request.query_params, request.headers)


def _view_of(query: QueryParams, headers: Headers) -> "View":
    from receiptd.web import pages, words

    language = query.get("lang", "")
    if language not in words.LANGUAGES:
        language = words.preferred(headers.get("accept-language", ""))
    kept = {name: query[name] for name in _KEPT if query.get(name)}
    asked = query.get("q", "")[:_LONGEST_QUESTION]
    return pages.View(language=words.Language(language), kept=kept, asked=asked.strip())


def _asked(request: Request) -> str:
    return request.query_params.get("q", "")[:_LONGEST_QUESTION].strip()


def _html(text: str, status: int = 200) -> Response:
    return Response(text, status, _HEADERS, media_type="text/html")


def _asset(request: Request, text: str, media_type: str) -> Response:
    tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:16]}"'
    told = {"etag": tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=told)
    return Response(text, headers=told, media_type=media_type)
