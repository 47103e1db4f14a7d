"""The answers of a broker that misbehaves: made instead of executing, or by spoiling a good one."""

from collections.abc import Sequence
from dataclasses import replace

from receiptd.sandbox.application import NAMESPACES, Application, Route
from receiptd.sandbox.documents import document, element, errors_document, read_handles
from receiptd.sandbox.exchange import Answer, Request, ServiceError, refusal, status_of
from receiptd.sandbox.faults import Fault
from receiptd.sandbox.mns import NAMESPACE

_BOMB = (
    '<?xml version="1.0"?>\n<!DOCTYPE Messages [\n<!ENTITY l0 "lol">\n'
    + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">\n' for n in range(1, 10))
    + "]>\n<Messages><Message><MessageBody>&l9;</MessageBody></Message></Messages>"
).encode()

_EXTERNAL = (
    b'<?xml version="1.0"?>\n<!DOCTYPE Messages [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n'
    b"<Messages><Message><MessageBody>&x;</MessageBody></Message></Messages>"
)


async def answer(
    app: Application, request: Request, route: Route, faults: Sequence[Fault]
) -> Answer:
    """Execute the request, or what a fault puts in its place, and spoil the answer."""
    result: Answer | None = None
    for fault in faults:
        if result is None and fault.answers_instead:
            result = _instead(app, request, route, fault)
        elif result is None and fault.kind == "refuse_handles":
            result = _refuse_handles(app, request, route, fault)
        elif result is None and fault.kind == "partial":
            result = await _partially(app, request, route, fault)
    if result is None:
        result = await app.execute(request, route)
    for fault in faults:
        result = _spoiled(result, fault)
    return result


def _instead(app: Application, request: Request, route: Route, fault: Fault) -> Answer:
    match fault.kind:
        case "status":
            headers = tuple(fault.headers.items())
            return Answer(fault.status, fault.body.encode(), fault.content_type, headers)
        case "error":
            status = status_of(fault.code, fault.status)
            if "status" in fault.model_fields_set:
                status = fault.status
            error = ServiceError(status, fault.code, fault.message or refusal(fault.code).message)
            return app.refused(error, request, route)
        case "empty":
            return app.refused(refusal("MessageNotExist"), request, route)
        case "huge":
            # One whole well-formed answer: only its size is wrong.
            padding = b"A" * (fault.mib << 20)
            return app.labelled(Answer(200, document("Messages", NAMESPACE, padding)), route)
        case "entity_bomb":
            return app.labelled(Answer(200, _BOMB), route)
        case "external_entity":
            return app.labelled(Answer(200, _EXTERNAL), route)
        case "deep_xml":
            body = b"<a>" * fault.depth + b"</a>" * fault.depth
            return app.labelled(Answer(200, body), route)
    body = document(
        "Messages", NAMESPACE, b"<Message><MessageBody>\xff\xfe</MessageBody></Message>"
    )
    return app.labelled(Answer(200, body), route)


def _handles(request: Request) -> list[str]:
    single = request.query.get("ReceiptHandle") or request.query.get("receiptHandle")
    return [single] if single else read_handles(request.body)


def _errors(
    app: Application, route: Route, fault: Fault, handles: list[str], status: int
) -> Answer:
    failed = [(handle, fault.handle_code, refusal(fault.handle_code).message) for handle in handles]
    namespace = NAMESPACES.get(route.protocol, NAMESPACE)
    return app.labelled(Answer(status, errors_document(namespace, failed)), route)


def _refuse_handles(app: Application, request: Request, route: Route, fault: Fault) -> Answer:
    status = fault.status if "status" in fault.model_fields_set else 404
    return _errors(app, route, fault, _handles(request), status)


async def _partially(app: Application, request: Request, route: Route, fault: Fault) -> Answer:
    handles = _handles(request)
    failed, rest = handles[: fault.handles], handles[fault.handles :]
    if rest:
        body = document("ReceiptHandles", NAMESPACE, *(element("ReceiptHandle", h) for h in rest))
        done = await app.execute(replace(request, body=body), route, intact=False)
        if done.status not in (204, 404):
            return done
    status = fault.status if "status" in fault.model_fields_set else 404
    return _errors(app, route, fault, failed, status)


def _spoiled(result: Answer, fault: Fault) -> Answer:
    match fault.kind:
        case "cut_xml":
            return replace(result, body=result.body[: len(result.body) // 2])
        case "header_case":
            headers = tuple(
                (name.title() if name.endswith("-request-id") else name, value)
                for name, value in result.headers
            )
            return replace(result, headers=headers)
        case "no_request_id":
            kept = tuple(pair for pair in result.headers if not pair[0].endswith("-request-id"))
            return replace(result, headers=kept)
    return result
