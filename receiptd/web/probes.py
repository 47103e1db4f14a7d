"""`/livez`, `/readyz` and `/metrics`."""

import asyncio

from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiptd.errors import StoreError
from receiptd.metrics import CONTENT_TYPE
from receiptd.store.gauges import gauges
from receiptd.web import answers
from receiptd.web.parts import Parts
from receiptd.web.work import Busy, Pool

# How long an answer of the database counts, because probes come in from several sides; and how
# long it is waited for.
_FRESH_S = 2.0
_LIMIT_S = 2.0
# The figures that only the database has are asked for this often at most, and for a twentieth of
# the time at most: with a million open sends they take it a second.
_FIGURES_EVERY_S = 15.0
_FIGURES_SHARE = 0.05


def routes(parts: Parts) -> list[Route]:
    """Return the routes."""
    database = DatabaseProbe(parts)
    # One of its own: the figures are wanted most when the database hangs.
    scribe = Pool(threads=1, most_waiting=4)
    figures = FigureReader(parts)

    async def livez(request: Request) -> Response:
        stuck = parts.health.stuck()
        return answers.json({"live": not stuck, "stuck": stuck}, 503 if stuck else 200)

    async def readyz(request: Request) -> Response:
        refusal = await database.refusal() if parts.health.is_serving else ""
        report = parts.health.report(refusal)
        return answers.json(report, 200 if report.ready else 503)

    async def metrics(request: Request) -> Response:
        if parts.health.is_serving:
            figures.renew()
        # The figures are minutes old if it hangs, and say nothing of it: it is asked, as /readyz
        # does, and waited for two seconds at most.
        refusal = await database.refusal() if parts.health.is_serving else ""
        parts.metrics.saw_database(parts.health.is_database_up(refusal))
        # A millisecond or two of work, in a thread: the loop has others to serve.
        return Response(
            await scribe.run(parts.metrics.text), headers={"content-type": CONTENT_TYPE}
        )

    return [
        Route("/livez", livez, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]


class DatabaseProbe:
    """Asks the database whether it answers, one question at a time, in a thread of its own: what
    the API waits for must not make the daemon look ill. Belongs to the event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pool = Pool(threads=1, most_waiting=0, time_limit_s=_LIMIT_S)
        self._running: asyncio.Future[str] | None = None
        self._known = ""
        self._known_at: float | None = None

    async def refusal(self) -> str:
        """Return why the database cannot be read, "" if it can."""
        now = self._parts.clock.monotonic()
        if self._known_at is not None and now - self._known_at < _FRESH_S:
            return self._known
        if self._running is None:
            self._running = asyncio.ensure_future(self._ask())
        # Shielded: a caller that leaves must not end what others wait for.
        return await asyncio.shield(self._running)

    async def _ask(self) -> str:
        try:
            await self._pool.run(self._select)
            self._known = ""
        except Busy:
            self._known = "it does not answer in time"
        except StoreError:
            self._known = "it cannot be read"
        finally:
            self._running = None
        self._known_at = self._parts.clock.monotonic()
        return self._known

    def _select(self) -> None:
        with self._parts.store.reading() as connection:
            connection.execute(text("SELECT 1"))


class FigureReader:
    """Renews the figures that only the database has, behind the back of whoever asks for them:
    a scrape is given the last ones. Belongs to the event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._task: asyncio.Task[None] | None = None
        self._next_at = 0.0

    def renew(self) -> None:
        """Begin to read them, if that is due and not going on."""
        now = self._parts.clock.monotonic()
        if (self._task is None or self._task.done()) and now >= self._next_at:
            self._next_at = now + _FIGURES_EVERY_S
            self._task = asyncio.ensure_future(self._read(now))

    async def _read(self, began_at: float) -> None:
        try:
            await self._parts.pool.run(self._select)
        except (Busy, StoreError):
            return  # the last ones stand; `receiptd_database_up` and /readyz tell of the database
        took_s = self._parts.clock.monotonic() - began_at
        self._next_at = began_at + max(_FIGURES_EVERY_S, took_s / _FIGURES_SHARE)

    def _select(self) -> None:
        with self._parts.store.reading() as connection:
            self._parts.metrics.learned(gauges(connection, self._parts.clock.now()))
