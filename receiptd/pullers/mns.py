"""The MNS puller: the official SDK signs; connection and decoding are ours."""

import binascii
from collections.abc import Mapping, Sequence

from mns.auth import Credentials as SdkCredentials
from mns.mns_client import MNSClient
from mns.mns_http import RequestInternal
from mns.mns_request import RequestBase

from receiptd.clock import Clock
from receiptd.config import AccountSettings, SourceSettings
from receiptd.errors import Problem, SourceRefused
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

# All queues that QueryTokenForMnsQueue gives out live here (the vendor's demo, token 2017-05-25).
TOKEN_ENDPOINT = "https://1943695596114318.mns.cn-hangzhou.aliyuncs.com"
_NAMESPACE = "http://mns.aliyuncs.com/doc/v1/"
_MOST_CONNECTIONS = 256  # a limit of ours: MNS documents none, and descriptors have one


class MnsPuller:
    """Pulls one MNS queue. Bodies are expected in base64, as the Alicom queues send them."""

    def __init__(
        self,
        source: str,
        endpoint: str,
        queue: str,
        credentials: CredentialsSource,
        clock: Clock,
        *,
        limits: Limits = DEFAULT_LIMITS,
        lanes: int = LANES,
    ) -> None:
        where = parse_endpoint(endpoint)
        self._source = source
        self._signing = _Signing()
        # Always http to the SDK: for https it would load the roots for a connection that is never
        # used. The signature does not cover the scheme.
        self._client = MNSClient(f"http://{where.netloc}", credentials_provider=self._signing)
        self._broker = Broker(
            where,
            f"/queues/{queue}/messages",
            self._sign,
            credentials,
            clock,
            namespace=_NAMESPACE,
            limits=limits,
            lanes=lanes,
        )

    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        received = self._broker.receive(batch_size, wait_s)
        return [self._envelope(one, answer) for answer, messages in received for one in messages]

    def ack(self, committed: Sequence[Committed]) -> AckResult:
        return self._broker.delete(committed)

    def probe(self) -> Seen:
        """Peek at up to 16 messages, which hides none."""
        try:
            answer, messages = self._broker.peek()
        except SourceRefused as exc:
            if exc.code != "AccessDenied":
                raise
            # Whether a token may peek is documented nowhere; that it may delete, is.
            self._broker.touch()
            return Seen(unasked="the key may read but not peek, so no message was looked at")
        return Seen(tuple(self._envelope(message, answer) for message in messages))

    def cancel(self) -> None:
        self._broker.cancel()

    def close(self) -> None:
        self._broker.close()

    def _sign(
        self, method: str, target: str, body: bytes, credentials: Credentials
    ) -> Mapping[str, str]:
        self._signing.use(credentials)
        # "" and not b"": the SDK compares with "" to see whether there is a body to sign.
        request = RequestInternal(method, target, data=body or "")
        self._client.build_header(_ANONYMOUS, request)
        headers: Mapping[str, str] = request.header
        return headers

    def _envelope(self, message: Message, answer: Answer) -> Envelope:
        if message.damaged is not None:
            return to_envelope(self._source, message, answer, b"", None)
        text = message.body.strip()
        if not text:
            return to_envelope(self._source, message, answer, b"", Reason.NO_BODY)
        raw = text.encode()
        try:
            # Strict: lenient decoding turns a quarter of all plain JSON bodies into garbage.
            body = binascii.a2b_base64(raw, strict_mode=True)
        except binascii.Error:
            return to_envelope(self._source, message, answer, raw, Reason.NOT_BASE64)
        differs = digest_differs(message, raw, body)
        return to_envelope(self._source, message, answer, body, None, digest_differs=differs)


class _Signing:
    """The SDK's credentials provider: what the current call signs with."""

    def __init__(self) -> None:
        self._credentials = SdkCredentials("", "", "")

    def use(self, credentials: Credentials) -> None:
        self._credentials = SdkCredentials(
            credentials.access_key_id,
            credentials.access_key_secret,
            credentials.security_token,
        )

    def get_credentials(self) -> SdkCredentials:
        return self._credentials


_ANONYMOUS = RequestBase()  # carries a request id for the SDK's logs, which we do not have


class MnsKind:
    """`puller = "mns"`."""

    def problems(
        self, name: str, source: SourceSettings, account: AccountSettings
    ) -> list[Problem]:
        found = list(missing_problems(name, source, "queue"))
        if source.credentials == "token":  # the token API asks for it
            found += missing_problems(name, source, "message_type")
        found += name_problems(name, source, "queue", "message_type")
        place = f"sources.{name}.endpoint"
        if endpoint := self.endpoint(source, account):
            problem = endpoint_problem(place, endpoint)
            found += [problem] if problem else []
        else:
            cure = (
                f"set it, or accounts.{source.account}.endpoints.mns;"
                ' for a queue named Alicom-Queue-… set credentials = "token"'
            )
            found.append(Problem(place, "is required for a queue of your own", "", cure))
        return found

    def open(
        self,
        name: str,
        source: SourceSettings,
        account: AccountSettings,
        credentials: CredentialsSource,
        clock: Clock,
    ) -> MnsPuller:
        """Build a puller for settings without `problems`; connects lazily."""
        endpoint = self.endpoint(source, account)
        lanes = lanes_of(source.threads, _MOST_CONNECTIONS)
        return MnsPuller(name, endpoint, source.queue, credentials, clock, lanes=lanes)

    def endpoint(self, source: SourceSettings, account: AccountSettings) -> str:
        """Return where the queue is; "" if nobody says so."""
        default = TOKEN_ENDPOINT if source.credentials == "token" else ""
        return source.endpoint or account.endpoints.get("mns") or default


KIND = MnsKind()
