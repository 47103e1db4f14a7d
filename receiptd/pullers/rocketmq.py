"""The RocketMQ-over-HTTP puller: the official SDK signs; connection and decoding are ours."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from mq_http_sdk.mq_client import MQClient
from mq_http_sdk.mq_http import RequestInternal

from receiptd.clock import Clock
from receiptd.config import AccountSettings, SourceSettings
from receiptd.errors import Problem
from receiptd.model import Committed, Credentials, CredentialsSource, Envelope, Reason
from receiptd.pullers.base import AckResult, Seen
from receiptd.pullers.broker import DEFAULT_LIMITS, LANES, Broker, Limits, lanes_of
from receiptd.pullers.checks import (
    endpoint_problem,
    missing_problems,
    name_problems,
    parse_endpoint,
)
from receiptd.pullers.envelopes import digest_differs, to_envelope
from receiptd.pullers.http1 import Answer
from receiptd.pullers.xml import Message

_NAMESPACE = "http://mq.aliyuncs.com/doc/v1/"
_MAX_TAG_CHARS = 64  # the broker's limit
_MOST_CONNECTIONS = 100  # with more, the broker answers a long poll at once (wire-formats: C R4)


class RocketMqPuller:
    """Pulls one topic as one consumer group. Bodies are plain text."""

    def __init__(
        self,
        source: str,
        endpoint: str,
        topic: str,
        group: str,
        credentials: CredentialsSource,
        clock: Clock,
        *,
        instance_id: str = "",
        tag: str = "",
        limits: Limits = DEFAULT_LIMITS,
        lanes: int = LANES,
    ) -> None:
        where = parse_endpoint(endpoint)
        self._source = source
        self._tag = f"&tag={quote(tag, safe='')}" if tag else ""
        target = f"/topics/{topic}/messages?consumer={group}"
        if instance_id:  # an instance without a namespace is asked without `ns`
            target += f"&ns={instance_id}"
        # Always http to the SDK: its https connection cannot even be constructed on Python 3
        # (`strict=`). The signature does not cover the scheme.
        self._client = MQClient(f"http://{where.netloc}", "", "", "")
        self._broker = Broker(
            where,
            target,
            self._sign,
            credentials,
            clock,
            namespace=_NAMESPACE,
            limits=limits,
            lanes=lanes,
        )

    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        received = self._broker.receive(batch_size, wait_s, more=self._tag)
        return [self._envelope(one, answer) for answer, messages in received for one in messages]

    def ack(self, committed: Sequence[Committed]) -> AckResult:
        return self._broker.delete(committed)

    def probe(self) -> Seen:
        """Ack a handle that does not exist: there is no peek, and a consume hides what it reads."""
        self._broker.touch()
        return Seen(unasked="a consume would hide messages for 5 minutes, so none was made")

    def cancel(self) -> None:
        self._broker.cancel()

    def close(self) -> None:
        self._broker.close()

    def _sign(
        self, method: str, target: str, body: bytes, credentials: Credentials
    ) -> Mapping[str, str]:
        self._client.access_id = credentials.access_key_id
        self._client.access_key = credentials.access_key_secret
        self._client.security_token = credentials.security_token
        # "" and not b"": the SDK compares with "" to see whether there is a body to sign.
        request = RequestInternal(method, target, data=body or "")
        self._client.build_header(None, request)
        headers: Mapping[str, str] = request.header
        return headers

    def _envelope(self, message: Message, answer: Answer) -> Envelope:
        body = message.body.encode()
        if not body and message.damaged is None:
            return to_envelope(self._source, message, answer, b"", Reason.NO_BODY)
        differs = message.damaged is None and digest_differs(message, body)
        return to_envelope(self._source, message, answer, body, None, digest_differs=differs)


class RocketMqKind:
    """`puller = "rocketmq"`."""

    def problems(
        self, name: str, source: SourceSettings, account: AccountSettings
    ) -> list[Problem]:
        found = list(missing_problems(name, source, "endpoint", "topic", "group"))
        found += name_problems(name, source, "topic", "group", "instance_id")
        if source.endpoint:
            problem = endpoint_problem(f"sources.{name}.endpoint", source.endpoint)
            found += [problem] if problem else []
        if source.credentials == "token":
            rule = "token is for mns queues only"
            found.append(
                Problem(f"sources.{name}.credentials", rule, "'token'", 'use "access_key"')
            )
        if len(source.tag) > _MAX_TAG_CHARS or not source.tag.isprintable():
            rule = f"may hold up to {_MAX_TAG_CHARS} printable characters"
            found.append(Problem(f"sources.{name}.tag", rule, repr(source.tag), "shorten it"))
        return found

    def open(
        self,
        name: str,
        source: SourceSettings,
        account: AccountSettings,
        credentials: CredentialsSource,
        clock: Clock,
    ) -> RocketMqPuller:
        """Build a puller for settings without `problems`; connects lazily."""
        return RocketMqPuller(
            name,
            source.endpoint,
            source.topic,
            source.group,
            credentials,
            clock,
            instance_id=source.instance_id,
            tag=source.tag,
            lanes=lanes_of(source.threads, _MOST_CONNECTIONS),
        )

    def endpoint(self, source: SourceSettings, account: AccountSettings) -> str:
        """Return where the instance is."""
        return source.endpoint


KIND = RocketMqKind()
