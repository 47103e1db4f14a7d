"""`/openapi.json`: the API in its own words, made from the types that it answers with."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiptd import __version__
from receiptd.model import Status
from receiptd.web import answers, api_reads, api_sends, shapes
from receiptd.web.parts import Parts

_Object = dict[str, Any]
_TEMPLATE = "#/components/schemas/{name}"
_TEXT: _Object = {
    "type": "string",
    "minLength": 1,
    "maxLength": api_reads.LONGEST_VALUE,
    "pattern": "^[^\\x00-\\x1f\\x7f]+$",
}
_TIME: _Object = {
    "type": "string",
    "format": "date-time",
    "pattern": "^20[0-9]{2}-",
    "description": "when receiptd first heard of it, with its zone",
}
# Looser than what is asked for: the providers' own format is read too, and "" is no time.
_SUBMITTED: _Object = {
    "type": ["string", "null"],
    "description": "when it was called: 2024-05-06T15:08:09+08:00; by default now",
}


def routes(parts: Parts) -> list[Route]:
    """Return the route."""

    async def document(request: Request) -> Response:
        return answers.json(openapi(parts))

    return [Route("/openapi.json", document, methods=["GET"])]


def openapi(parts: Parts) -> _Object:
    """Return the document for this daemon: with its accounts, and its token if it has one."""
    kinds = (shapes.Receipts, shapes.Uplinks, shapes.Recorded, shapes.Errors, shapes.BadSend)
    _, components = msgspec.json.schema_components(kinds, ref_template=_TEMPLATE)
    accounts = sorted(parts.settings.accounts)
    apis = sorted(
        {api for name in accounts for api in parts.ledger.books(name).provider.send_readers}
    )
    document: _Object = {
        "openapi": "3.1.0",
        "info": {"title": "receiptd", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": {
            "/v1/sends": {"post": _sends()},
            "/v1/receipts": {"get": _listing("Receipts", api_reads.RECEIPT_FILTERS, accounts)},
            "/v1/receipts/{biz_id}": {"get": _receipts_of(accounts)},
            "/v1/uplinks": {"get": _listing("Uplinks", api_reads.UPLINK_FILTERS, accounts)},
        },
        "components": {
            "schemas": {**components, "Pair": _pair(accounts, apis), "Own": _own(accounts)}
        },
    }
    if parts.access.needs_token:
        scheme = {"type": "http", "scheme": "bearer"}
        document["components"]["securitySchemes"] = {"token": scheme}
        document["security"] = [{"token": []}]
    return document


def _ref(name: str) -> _Object:
    return {"$ref": _TEMPLATE.format(name=name)}


def _answers(name: str, *refusals: int) -> _Object:
    def content(schema: str, text: str) -> _Object:
        return {"description": text, "content": {"application/json": {"schema": _ref(schema)}}}

    texts = {
        400: "not understood", 401: "no token, or a wrong one", 404: "nothing is known",
        408: "the body came too slowly", 413: "too large", 415: "not declared as JSON",
        421: "asked by an unknown name", 422: "some sends were refused; the rest is recorded",
        429: "more requests than allowed", 503: "the database is away: try again",
    }  # fmt: skip
    always = (401, 421, 429, 503)
    return {
        "200": content(name, "done"),
        **{str(code): content("Errors", texts[code]) for code in sorted({*refusals, *always})},
    }


def _parameter(name: str, schema: _Object) -> _Object:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _filters(names: tuple[str, ...], accounts: list[str]) -> list[_Object]:
    special: _Object = {
        "status": {"type": "string", "enum": [status.value for status in Status]},
        "account": {**_TEXT, "examples": accounts},
    }
    return [_parameter(name, special.get(name, _TEXT)) for name in names]


def _paging(*, times: bool) -> list[_Object]:
    cursor = {"type": "string", "pattern": "^c[0-9a-f]{1,15}$"}
    limit = {
        "type": "integer", "minimum": 1, "maximum": api_reads.MOST_ROWS,
        "default": api_reads.DEFAULT_ROWS,
    }  # fmt: skip
    found = [_parameter("cursor", cursor), _parameter("limit", limit)]
    if times:
        found += [_parameter("since", _TIME), _parameter("until", _TIME)]
    return found


def _listing(name: str, filters: tuple[str, ...], accounts: list[str]) -> _Object:
    return {
        "operationId": f"list{name}",
        "summary": f"{name} in pages, the newest first",
        "description": "A page may hold fewer than `limit`, or none, and still have a cursor: only "
        "biz_id has an index, and a request seeks for half a second.",
        "parameters": [*_filters(filters, accounts), *_paging(times=True)],
        "responses": _answers(name, 400),
    }


def _receipts_of(accounts: list[str]) -> _Object:
    path = {"name": "biz_id", "in": "path", "required": True, "schema": _TEXT}
    filters = _filters(("phone", "account", "provider"), accounts)
    return {
        "operationId": "receiptsOf",
        "summary": "What became of one send, number by number",
        "parameters": [path, *filters, *_paging(times=False)],
        "responses": _answers("Receipts", 400, 404),
    }


def _sends() -> _Object:
    one = {"anyOf": [_ref("Pair"), _ref("Own")]}
    many = {"type": "array", "items": one, "minItems": 1, "maxItems": api_sends.MOST_SENDS}
    schema = {"anyOf": [*one["anyOf"], many]}
    return {
        "operationId": "recordSends",
        "summary": "Record what was sent, one or many; again changes nothing",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": _answers("Recorded", 400, 408, 413, 415, 422),
    }


def _pair(accounts: list[str], apis: list[str]) -> _Object:
    return {
        "type": "object",
        "description": "A call of a send API: its parameters, and its answer ({} if none came)",
        "required": ["api", "request", "response"],
        "properties": {
            "api": {"type": "string", "enum": apis},
            "account": {"type": "string", "enum": accounts},
            "request": {"type": "object"},
            "response": {"type": "object"},
            "submitted_at": _SUBMITTED,
        },
    }


def _own(accounts: list[str]) -> _Object:
    text = {"type": ["string", "null"], "description": "passed over where it is too long"}
    return {
        "type": "object",
        "description": "One number that a send API accepted",
        "required": ["biz_id", "phone"],
        "properties": {
            "account": {"type": "string", "enum": accounts},
            "biz_id": {"type": "string", "minLength": 1, "maxLength": 128},
            "phone": {"type": "string", "pattern": "^[+0-9][0-9* ()-]{2,63}$"},
            "out_id": {"type": ["string", "null"], "maxLength": 256},
            "sign_name": text,
            "template_code": text,
            "send_api": text,
            "submitted_at": _SUBMITTED,
        },
    }
