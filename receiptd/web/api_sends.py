"""`POST /v1/sends`: what was sent, into the ledger."""

from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiptd.errors import InvalidEnvelope
from receiptd.ledger import COLUMNS, OWN, UnreadableSend
from receiptd.ledger_import import Imported, Importer, Line
from receiptd.providers.decode import Part, decode
from receiptd.web import answers, shapes
from receiptd.web.answers import Failure
from receiptd.web.parts import Parts

MOST_SENDS = 500
# A file may hold numbers here, and is told nothing; a program can send what it means.
_TEXTS = ("api", *COLUMNS)
_CURE = "send a JSON object, or an array of at most 500"


def routes(parts: Parts) -> list[Route]:
    """Return the routes."""

    async def sends(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        # Asked for, because a web page elsewhere cannot send it without being asked back.
        if kind != "application/json":
            cure = "send Content-Type: application/json"
            raise Failure(415, "not_json", "the body is not declared as JSON", cure)
        lines = _read(await request.body())
        bad: list[shapes.BadSend] = []
        imported = await parts.pool.run(_record, parts, lines, bad)
        if bad:
            message = f"{len(bad)} of {len(lines)} sends were refused; the rest is recorded"
            raise Failure(
                422, "refused", message, "correct them; what is recorded stays", details=_told(bad)
            )
        return answers.json(_recorded(imported))

    return [Route("/v1/sends", sends, methods=["POST"])]


def _read(body: bytes) -> list[Line]:
    """Return the sends of a body with their places. Raises Failure if it is no JSON of sends.

    `decode` keeps every digit of what a provider said; but it also saves what can be saved of a
    receipt that was cut off, and whoever sends this can send it again.
    """
    try:
        given = msgspec.json.decode(body)
        found = decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise Failure(400, "not_json", "the body is no JSON", _CURE) from None
    except InvalidEnvelope as exc:
        raise Failure(400, str(exc), "the body holds no sends", _CURE) from None
    if len(found) > MOST_SENDS:
        raise Failure(422, "too_many_sends", "too many sends at once", _CURE)
    givens = given if isinstance(given, list) else [given]
    return [(part.index, _line(part, one)) for part, one in zip(found, givens, strict=True)]


def _line(part: Part, given: object) -> Mapping[str, object] | UnreadableSend:
    if isinstance(part.data, InvalidEnvelope) or not isinstance(given, dict):
        return UnreadableSend("is no JSON object", "give a JSON object")
    wrong = [name for name in _TEXTS if not isinstance(given.get(name), str | None)]
    if wrong:
        return UnreadableSend(f"{wrong[0]} is no text", "write it in quotes")
    return part.data


def _record(parts: Parts, lines: list[Line], bad: list[shapes.BadSend]) -> Imported:
    accounts = parts.settings.accounts
    importer = Importer(
        parts.ledger,
        account=next(iter(accounts)) if len(accounts) == 1 else "",
        api=OWN,
        submitted_at=parts.clock.now(),
        on_bad=lambda index, rule, cure: bad.append(shapes.BadSend(index, rule, cure)),
    )
    return importer.run(iter(lines))


def _told(bad: list[shapes.BadSend]) -> object:
    return msgspec.to_builtins(bad)


def _recorded(imported: Imported) -> shapes.Recorded:
    told = imported.recorded
    return shapes.Recorded(
        sends=imported.lines,
        rows=told.rows,
        accepted=told.accepted,
        refused=told.refused,
        unanswered=told.unanswered,
        changed=told.changed,
    )
