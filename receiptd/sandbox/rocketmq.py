"""The RocketMQ-over-HTTP protocol: publish, consume by group, acknowledge."""

from collections.abc import Callable

from receiptd.sandbox.documents import (
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
from receiptd.sandbox.mailbox import Delivery, Message
from receiptd.sandbox.mns import MAX_BATCH, MAX_WAIT_S
from receiptd.sandbox.service import Service

NAMESPACE = "http://mq.aliyuncs.com/doc/v1"
MAX_TARGET = 1024  # characters of the request line's target (help.aliyun.com document 142407)


def operation(request: Request) -> str:
    """Name what a request to `/topics…` wants."""
    return {"GET": "consume", "DELETE": "ack", "POST": "publish"}.get(request.method, "unknown")


async def handle(service: Service, request: Request) -> Answer:
    """Answer one request; refusals are raised as ServiceError."""
    identity = service.keyring.check(request, "MQ")
    if identity.token is not None:
        raise refusal("AccessDenied")
    parts = request.path.strip("/").split("/")
    if len(parts) != 3 or parts[2] != "messages" or len(request.target) > MAX_TARGET:
        raise refusal("InvalidRequestURL", "Http request URL invalid.")
    topic = parts[1]
    match request.method:
        case "GET":
            return await _consume(service, request, topic)
        case "DELETE":
            return _acknowledge(service, request, topic)
        case "POST":
            return _publish(service, request, topic)
    raise refusal("InvalidRequestURL", "The method is not supported on topics.")


async def _consume(service: Service, request: Request, topic: str) -> Answer:
    query = request.query
    limit = whole_number(query.get("numOfMessages", "1"), "numOfMessages", 1, MAX_BATCH)
    wait_s = whole_number(query.get("waitseconds", "0"), "waitseconds", 0, MAX_WAIT_S)
    group = service.world.group(topic, _group(request))
    deliveries = await service.receive(
        group, limit, wait_s, service.world.invisible_s, _tag_filter(query.get("tag", ""))
    )
    if not deliveries:
        raise refusal("MessageNotExist")
    return Answer(200, document("Messages", NAMESPACE, *map(_delivered, deliveries)))


def _group(request: Request) -> str:
    group = request.query.get("consumer", "")
    if not group:
        raise refusal("InvalidArgument", "The consumer should not be empty.")
    return group


def _tag_filter(expression: str) -> Callable[[Message], bool] | None:
    tags = {tag.strip() for tag in expression.split("||")}
    if "|" in expression and "||" not in expression:
        tags = {tag.strip() for tag in expression.split("|")}
    if tags & {"", "*"}:
        return None
    return lambda message: message.tag in tags


def _delivered(delivery: Delivery) -> bytes:
    message = delivery.message
    if message.raw is not None:
        return filled(message.raw, delivery)
    tag = element("MessageTag", message.tag) if message.tag else ""
    properties = element("Properties", message.properties) if message.properties else ""
    return (
        "<Message>"
        + element("MessageId", message.message_id)
        + element("MessageBodyMD5", body_md5(message))
        + element("MessageBody", message.wire)
        + element("ReceiptHandle", delivery.handle)
        + element("PublishTime", milliseconds(message.enqueued_at))
        + element("FirstConsumeTime", milliseconds(delivery.first_at))
        + element("NextConsumeTime", milliseconds(delivery.next_visible_at))
        + element("ConsumedTimes", delivery.count)
        + tag
        + properties
        + "</Message>"
    ).encode("utf-8", "surrogatepass")


def _acknowledge(service: Service, request: Request, topic: str) -> Answer:
    mailbox = service.world.group(topic, _group(request))
    refused = service.world.acknowledge(topic, mailbox, read_handles(request.body))
    if not refused:
        return Answer(204)
    return Answer(404, errors_document(NAMESPACE, failures(refused)))


def _publish(service: Service, request: Request, topic: str) -> Answer:
    root = parse(request.body)
    sent = fields(root)
    if local_name(root) != "Message" or not sent.get("MessageBody"):
        raise refusal("MalformedXML", "A Message with a MessageBody is expected.")
    message = service.world.publish(
        topic,
        sent["MessageBody"].encode(),
        tag=sent.get("MessageTag", ""),
        properties=sent.get("Properties", ""),
    )
    body = document(
        "Message",
        NAMESPACE,
        element("MessageId", message.message_id),
        element("MessageBodyMD5", body_md5(message)),
    )
    return Answer(201, body)
