"""`GET /v1/receipts`, `/v1/receipts/{biz_id}` and `/v1/uplinks`."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Table
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiptd.ledger_import import moment
from receiptd.model import Status
from receiptd.phone import to_e164
from receiptd.store import listing
from receiptd.store.listing import Found, Wanted
from receiptd.web import answers, shapes
from receiptd.web.answers import Failure
from receiptd.web.parts import Parts

MOST_ROWS = 500
DEFAULT_ROWS = 100
LONGEST_VALUE = 256
RECEIPT_FILTERS = ("biz_id", "phone", "out_id", "status", "account", "provider")
UPLINK_FILTERS = ("phone", "sequence_id", "account", "provider", "biz_id")
PAGING = ("since", "until", "cursor", "limit")
# How long one request seeks; then its page ends, and the cursor goes on from there.
_SEEK_S = 0.5

# Ids of one's own, that a caller cannot mistake for anything.
_CURSOR = re.compile(r"c([0-9a-f]{1,15})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def routes(parts: Parts) -> list[Route]:
    """Return the routes."""

    async def receipts(request: Request) -> Response:
        found = await _page(request, listing.RECEIPTS, RECEIPT_FILTERS)
        return _receipts(request, found)

    async def receipts_of(request: Request) -> Response:
        query = _Query(request.query_params, ("phone", "account", "provider"), ("cursor", "limit"))
        biz_id = request.path_params["biz_id"]
        if _CONTROL.search(biz_id) or len(biz_id) > LONGEST_VALUE:
            raise _unknown()
        values = {"biz_id": biz_id, **query.values}
        found = await parts.pool.run(
            _read_one, parts, Wanted(values=values), query.before, query.limit
        )
        if not found.rows and query.before is None:
            raise _unknown()
        return _receipts(request, found)

    async def uplinks(request: Request) -> Response:
        found = await _page(request, listing.UPLINKS, UPLINK_FILTERS)
        trusted = request.state.trusted
        rows = [shapes.uplink(row, trusted=trusted) for row in found.rows]
        return answers.json(shapes.Uplinks(rows, _cursor(found)))

    async def _page(request: Request, table: Table, filters: Sequence[str]) -> Found:
        query = _Query(request.query_params, filters, PAGING)
        if table is listing.RECEIPTS and "biz_id" in query.values:
            return await parts.pool.run(_read_one, parts, query.wanted, query.before, query.limit)
        return await parts.pool.run(_seek, parts, table, query.wanted, query.before, query.limit)

    return [
        Route("/v1/receipts", receipts, methods=["GET"]),
        Route("/v1/receipts/{biz_id}", receipts_of, methods=["GET"]),
        Route("/v1/uplinks", uplinks, methods=["GET"]),
    ]


class _Query:
    """The query string, checked: what is not understood is refused, because a filter that is passed
    over would answer with what was not asked for."""

    def __init__(self, given: QueryParams, filters: Sequence[str], others: Sequence[str]) -> None:
        """Raises Failure."""
        known = (*filters, *others)
        for name, value in given.multi_items():
            if name not in known:
                raise _bad("one of the parameters is unknown", f"known: {', '.join(known)}")
            if len(given.getlist(name)) > 1:
                raise _bad(f"{name} is given more than once", "give it once")
            if not value or len(value) > LONGEST_VALUE or _CONTROL.search(value):
                raise _bad(f"{name} is empty, too long, or no text", "correct it, or leave it out")
        self.values = {name: given[name] for name in filters if name in given}
        if "phone" in self.values:
            self.values["phone"] = to_e164(self.values["phone"])
        if self.values.get("status", Status.LOST) not in set(Status):
            raise _bad("status is none", f"one of: {', '.join(Status)}")
        self.limit = _limit(given.get("limit"))
        self.before = _before(given.get("cursor"))
        self.wanted = Wanted(
            values=self.values,
            since=_moment("since", given.get("since")),
            until=_moment("until", given.get("until")),
        )


def _read_one(parts: Parts, wanted: Wanted, before: int | None, limit: int) -> Found:
    with parts.store.reading() as connection:
        return listing.receipts_of(connection, wanted, before, limit)


def _seek(parts: Parts, table: Table, wanted: Wanted, before: int | None, limit: int) -> Found:
    """Read windows, a short transaction each, until the page is full or the time is over."""
    until = parts.clock.monotonic() + _SEEK_S
    with parts.store.reading() as connection:
        bottom = listing.bottom(connection, table, wanted.since)
        if before is None:
            before = listing.top(connection, table, wanted.until)
    rows: list[dict[str, Any]] = []
    while before is not None and len(rows) < limit:
        with parts.store.reading() as connection:
            found = listing.window(connection, table, wanted, before, bottom, limit - len(rows))
        rows += found.rows
        before = found.before
        if parts.clock.monotonic() > until:
            break
    return Found(rows, before)


def _receipts(request: Request, found: Found) -> Response:
    trusted = request.state.trusted
    rows = [shapes.receipt(row, trusted=trusted) for row in found.rows]
    return answers.json(shapes.Receipts(rows, _cursor(found)))


def _cursor(found: Found) -> str | None:
    return None if found.before is None else f"c{found.before:x}"


def _before(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise _bad("cursor is none", "take it from the page before, as it is")
    return int(match[1], 16)


def _limit(value: str | None) -> int:
    if value is None:
        return DEFAULT_ROWS
    if not (value.isascii() and value.isdigit() and len(value) < 5 and 0 < int(value) <= MOST_ROWS):
        raise _bad("limit is no number that is allowed", f"1 to {MOST_ROWS}")
    return int(value)


def _moment(name: str, value: str | None) -> datetime | None:
    if value is None:
        return None
    found = moment(value)
    if found is None:
        raise _bad(f"{name} is no time, or has no zone", "write 2024-05-06T15:08:09+08:00")
    return found


def _bad(message: str, cure: str) -> Failure:
    return Failure(400, "bad_request", message, cure)


def _unknown() -> Failure:
    return Failure(404, "unknown", "nothing was sent or heard under this id", "look for a typo")
