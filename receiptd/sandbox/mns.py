"""The MNS protocol, version 2015-06-06: queues and their messages."""

from collections.abc import Mapping

from receiptd.sandbox.credentials import Identity
from receiptd.sandbox.documents import (
    PROLOG,
    body_md5,
    document,
    element,
    errors_document,
    failures,
    fields,
    filled,
    local_name,
    milliseconds,
    parse,
    read_handles,
    whole_number,
)
from receiptd.sandbox.exchange import Answer, Request, refusal
from receiptd.sandbox.mailbox import Delivery, Held, Refused
from receiptd.sandbox.service import Service
from receiptd.sandbox.world import Queue

NAMESPACE = "http://mns.aliyuncs.com/doc/v1"
MAX_BATCH = 16
MAX_WAIT_S = 30
MAX_VISIBILITY_S = 43200

# Attribute: lowest and highest value (help.aliyun.com document 116238).
ATTRIBUTE_RANGES = {
    "VisibilityTimeout": (1, MAX_VISIBILITY_S),
    "MaximumMessageSize": (1024, 65536),
    "MessageRetentionPeriod": (60, 604_800),
    "DelaySeconds": (0, 604_800),
    "PollingWaitSeconds": (0, MAX_WAIT_S),
}


def operation(request: Request) -> str:
    """Name what a request to `/queues…` wants."""
    if not request.path.rstrip("/").endswith("/messages"):
        return "manage_queue"
    if request.method == "GET":
        return "peek" if request.query.get("peekonly") == "true" else "receive"
    return {"DELETE": "delete", "PUT": "change_visibility", "POST": "send_message"}.get(
        request.method, "unknown"
    )


async def handle(service: Service, request: Request) -> Answer:
    """Answer one authenticated-or-not request; refusals are raised as ServiceError."""
    identity = service.keyring.check(request, "MNS")
    parts = request.path.strip("/").split("/")
    if parts == ["queues"]:
        return _list_queues(service, request)
    if len(parts) == 2:
        return _manage_queue(service, request, identity, parts[1])
    if len(parts) != 3 or parts[2] != "messages":
        raise refusal("InvalidRequestURL", "Http request URL invalid.")
    _check_access(service, identity, parts[1])
    queue = service.world.queue(parts[1])
    match operation(request):
        case "receive":
            return await _receive(service, request, queue)
        case "peek":
            return _peek(service, request, queue)
        case "delete":
            return _delete(service, request, queue)
        case "change_visibility":
            return _change_visibility(service, request, queue)
        case "send_message":
            return _send(service, request, queue)
    raise refusal("InvalidRequestURL", "The method is not supported on messages.")


def _check_access(service: Service, identity: Identity, queue: str) -> None:
    if identity.token is not None:
        if not queue.endswith(f"-{identity.token.message_type}"):
            raise refusal("AccessDenied")
    elif service.tokens_only and queue.startswith(service.queue_prefix):
        raise refusal("AccessDenied")


def _receipt_handle(query: Mapping[str, str]) -> str:
    handle = query.get("ReceiptHandle") or query.get("receiptHandle")
    if not handle:
        raise refusal("MissingReceiptHandle", "ReceiptHandle is required.")
    return handle


async def _receive(service: Service, request: Request, queue: Queue) -> Answer:
    batch = request.query.get("numOfMessages")
    limit = 1 if batch is None else whole_number(batch, "numOfMessages", 1, MAX_BATCH)
    wait = request.query.get("waitseconds")
    if wait is None:
        wait_s = int(queue.attributes["PollingWaitSeconds"])
    else:
        wait_s = whole_number(wait, "waitseconds", 0, MAX_WAIT_S)
    hidden_s = service.world.hidden_s(queue)
    deliveries = await service.receive(queue.mailbox, limit, wait_s, hidden_s)
    if not deliveries:
        raise refusal("MessageNotExist")
    return _messages_answer([_delivered(one) for one in deliveries], batched=batch is not None)


def _peek(service: Service, request: Request, queue: Queue) -> Answer:
    batch = request.query.get("numOfMessages")
    limit = 1 if batch is None else whole_number(batch, "numOfMessages", 1, MAX_BATCH)
    held = service.world.peek(queue.mailbox, limit)
    if not held:
        raise refusal("MessageNotExist")
    return _messages_answer([_peeked(one) for one in held], batched=batch is not None)


def _messages_answer(messages: list[bytes], *, batched: bool) -> Answer:
    if batched:
        return Answer(200, document("Messages", NAMESPACE, *messages))
    # A single message is the root element itself and carries the namespace.
    root = f'<Message xmlns="{NAMESPACE}">'.encode()
    body = messages[0].replace(b"<Message>", root, 1)
    return Answer(200, PROLOG + body)


def _delivered(delivery: Delivery) -> bytes:
    message = delivery.message
    if message.raw is not None:
        return filled(message.raw, delivery)
    return (
        "<Message>"
        + element("MessageId", message.message_id)
        + element("ReceiptHandle", delivery.handle)
        + element("MessageBodyMD5", body_md5(message))
        + element("MessageBody", message.wire)
        + element("EnqueueTime", milliseconds(message.enqueued_at))
        + element("NextVisibleTime", milliseconds(delivery.next_visible_at))
        + element("FirstDequeueTime", milliseconds(delivery.first_at))
        + element("DequeueCount", delivery.count)
        + element("Priority", message.priority)
        + "</Message>"
    ).encode()


def _peeked(held: Held) -> bytes:
    message = held.message
    if message.raw is not None:
        return message.raw
    return (
        "<Message>"
        + element("MessageId", message.message_id)
        + element("MessageBodyMD5", body_md5(message))
        + element("MessageBody", message.wire)
        + element("EnqueueTime", milliseconds(message.enqueued_at))
        + element("FirstDequeueTime", milliseconds(held.first_at))
        + element("DequeueCount", held.count)
        + element("Priority", message.priority)
        + "</Message>"
    ).encode()


def _delete(service: Service, request: Request, queue: Queue) -> Answer:
    single = request.query.get("ReceiptHandle") or request.query.get("receiptHandle")
    handles = [single] if single else read_handles(request.body)
    refused = service.world.acknowledge(queue.name, queue.mailbox, handles)
    if not refused:
        return Answer(204)
    if single:
        raise refusal(refused[0][1].value)
    return Answer(404, errors_document(NAMESPACE, failures(refused)))


def _change_visibility(service: Service, request: Request, queue: Queue) -> Answer:
    handle = _receipt_handle(request.query)
    text = request.query.get("VisibilityTimeout") or request.query.get("visibilityTimeout") or ""
    timeout_s = whole_number(text, "VisibilityTimeout", 0, MAX_VISIBILITY_S)
    changed = service.world.change_visibility(queue.mailbox, handle, timeout_s)
    if isinstance(changed, Refused):
        raise refusal(changed.value)
    body = document(
        "ChangeVisibility",
        NAMESPACE,
        element("ReceiptHandle", changed.handle),
        element("NextVisibleTime", milliseconds(changed.next_visible_at)),
    )
    return Answer(200, body)


def _send(service: Service, request: Request, queue: Queue) -> Answer:
    root = parse(request.body)
    if local_name(root) == "Message":
        return Answer(201, document("Message", NAMESPACE, *_stored(service, queue, fields(root))))
    if local_name(root) != "Messages" or not 1 <= len(root) <= MAX_BATCH:
        raise refusal("MalformedXML", "1 to 16 Message elements are expected.")
    entries = [
        f"<Message>{''.join(_stored(service, queue, fields(child)))}</Message>" for child in root
    ]
    return Answer(201, document("Messages", NAMESPACE, *entries))


def _stored(service: Service, queue: Queue, sent: Mapping[str, str]) -> list[str]:
    wire = sent.get("MessageBody", "")
    if not wire:
        raise refusal("InvalidArgument", "MessageBody is required.")
    if len(wire.encode()) > int(queue.attributes["MaximumMessageSize"]):
        raise refusal("InvalidArgument", "The message body is too long.")
    message = service.world.send(
        queue.name,
        wire.encode(),
        wire=wire,
        delay_s=whole_number(sent.get("DelaySeconds", "0"), "DelaySeconds", 0, 604_800),
        priority=whole_number(sent.get("Priority", "8"), "Priority", 1, 16),
    )
    return [
        element("MessageId", message.message_id),
        element("MessageBodyMD5", body_md5(message)),
    ]


def _manage_queue(service: Service, request: Request, identity: Identity, name: str) -> Answer:
    if identity.token is not None:
        raise refusal("AccessDenied")
    if len(name) > 256 or not name.replace("-", "").isalnum() or not name.isascii():
        raise refusal("QueueNameLengthError", "1 to 256 letters, digits and hyphens.")
    match request.method:
        case "GET":
            return Answer(200, document("Queue", NAMESPACE, *_attributes(service, name)))
        case "DELETE":
            service.world.delete_queue(name)
            return Answer(204)
        case "PUT" if request.query.get("metaoverride") == "true":
            service.world.set_queue_attributes(name, _read_attributes(request.body))
            return Answer(204)
        case "PUT":
            existed = any(queue.name == name for queue in service.world.queues())
            service.world.create_queue(name, **_read_attributes(request.body))
            location = ("Location", f"{service.base_url()}/queues/{name}")
            return Answer(204 if existed else 201, headers=(location,))
    raise refusal("InvalidRequestURL", "The method is not supported on queues.")


def _read_attributes(body: bytes) -> dict[str, int | bool]:
    attributes: dict[str, int | bool] = {}
    if not body.strip():
        return attributes
    for name, text in fields(parse(body)).items():
        if name == "LoggingEnabled":
            attributes[name] = text.lower() == "true"
        elif name in ATTRIBUTE_RANGES:
            attributes[name] = whole_number(text, name, *ATTRIBUTE_RANGES[name])
    return attributes


def _attributes(service: Service, name: str) -> list[str]:
    queue = service.world.queue(name)
    active, inactive, delayed = service.world.queue_counts(queue)
    values: dict[str, object] = {
        "QueueName": queue.name,
        "CreateTime": int(queue.created_at),
        "LastModifyTime": int(queue.modified_at),
        **queue.attributes,
        "ActiveMessages": active,
        "InactiveMessages": inactive,
        "DelayMessages": delayed,
    }
    return [element(key, value) for key, value in values.items()]


def _list_queues(service: Service, request: Request) -> Answer:
    if request.method != "GET":
        raise refusal("InvalidRequestURL", "The method is not supported on queues.")
    prefix = request.headers.get("x-mns-prefix", "")
    marker = request.headers.get("x-mns-marker", "")
    limit = whole_number(request.headers.get("x-mns-ret-number", "1000"), "ret-number", 1, 1000)
    with_meta = request.headers.get("x-mns-with-meta", "").lower() == "true"
    names = [
        q.name for q in service.world.queues() if q.name.startswith(prefix) and q.name > marker
    ]
    children: list[str] = []
    for name in names[:limit]:
        url = element("QueueURL", f"{service.base_url()}/queues/{name}")
        meta = "".join(_attributes(service, name)) if with_meta else ""
        children.append(f"<Queue>{url}{meta}</Queue>")
    if len(names) > limit:
        children.append(element("NextMarker", names[limit - 1]))
    return Answer(200, document("Queues", NAMESPACE, *children))
