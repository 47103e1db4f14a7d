"""What all answers have in common: JSON, one shape of errors, headers."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

_JSON = "application/json"
# What every answer carries unless its handler knows better.
SECURITY = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


class Failure(HTTPException):
    """An answer that is an error: a word for programs, a sentence, and what to do."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        cure: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        details: object = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code = code
        self.message = message
        self.cure = cure
        self.details = details


def json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer of any msgspec type."""
    return Response(msgspec.json.encode(value), status, headers, media_type=_JSON)


def failure(error: Failure) -> Response:
    """Return an error in the one shape that all have."""
    told: dict[str, Any] = {"code": error.code, "message": error.message, "cure": error.cure}
    if error.details is not None:
        told["details"] = error.details
    return json({"error": told}, error.status_code, error.headers)


def as_failure(exc: HTTPException) -> Failure:
    """Return what a handler, or the router, refused to do."""
    if isinstance(exc, Failure):
        return exc
    code, message, cure = _ROUTER.get(exc.status_code, ("refused", "this cannot be done", ""))
    return Failure(exc.status_code, code, message, cure, headers=exc.headers)


def busy(message: str) -> Failure:
    """Return what is said while something is away or overloaded."""
    return Failure(503, "unavailable", message, "try again", headers={"retry-after": "5"})


_ROUTER = {
    404: ("not_found", "there is nothing here", "the paths are in /openapi.json"),
    405: ("method_not_allowed", "this path has other methods", "the Allow header names them"),
}
