"""Who may ask: main access keys, and the temporary ones that QueryTokenForMnsQueue hands out."""

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from receiptd.sandbox.clock import Clock
from receiptd.sandbox.exchange import Request, refusal
from receiptd.sandbox.signature import sign_queue_request

MAX_SKEW_S = 15 * 60
_TOKENS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Token:
    """A temporary credential for the queue of one message type."""

    key_id: str
    secret: str
    security_token: str
    message_type: str
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed a request."""

    key_id: str
    token: Token | None  # None: a main access key


class Keyring:
    """The main access keys and every token issued."""

    def __init__(self, access_keys: Mapping[str, str], clock: Clock, lifetime_s: float) -> None:
        self.access_keys = dict(access_keys)
        self.lifetime_s = lifetime_s
        self.expired_code = "AccessDenied"  # no document says which one the service uses
        self.wall: Callable[[], float] = lambda: datetime.now(UTC).timestamp()
        self._clock = clock
        self._tokens: dict[str, Token] = {}
        self._lock = threading.Lock()

    @property
    def issued(self) -> int:
        """How many tokens are remembered."""
        return len(self._tokens)

    def issue(self, message_type: str) -> Token:
        """Make a token for the queue of `message_type`."""
        now = self._clock.now()
        token = Token(
            key_id="STS." + secrets.token_hex(10),
            secret=secrets.token_hex(20),
            security_token="CAIS" + secrets.token_urlsafe(60),
            message_type=message_type,
            created_at=now,
            expires_at=now + self.lifetime_s,
        )
        with self._lock:
            while len(self._tokens) >= _TOKENS_KEPT:
                del self._tokens[next(iter(self._tokens))]
            self._tokens[token.key_id] = token
        return token

    def expire_all(self) -> None:
        """Let every token issued so far be expired from now on."""
        with self._lock:
            for key_id, token in self._tokens.items():
                self._tokens[key_id] = replace(token, expires_at=0.0)

    def check(self, request: Request, scheme: str) -> Identity:
        """Verify a queue request signed as `MNS` or `MQ`, or refuse it as the service does."""
        header_prefix = f"x-{scheme.lower()}-"
        kind, _, rest = request.headers.get("authorization", "").partition(" ")
        if not kind:
            raise refusal("MissingAuthorizationHeader", "Authorization header is required.")
        key_id, colon, signature = rest.strip().partition(":")
        if kind != scheme or not colon:
            raise refusal("InvalidAuthorizationHeader", f"Expected `{scheme} id:signature`.")
        if header_prefix + "version" not in request.headers:
            raise refusal("MissingVersionHeader", f"{header_prefix}version header is required.")
        self._check_date(request.headers.get("date", ""))
        token = self._tokens.get(key_id)
        secret = token.secret if token else self.access_keys.get(key_id)
        if secret is None:
            raise refusal("InvalidAccessKeyId")
        expected = sign_queue_request(
            secret, request.method, request.target, request.headers, header_prefix
        )
        if not secrets.compare_digest(expected.encode(), signature.encode()):
            raise refusal("SignatureDoesNotMatch")
        if token is not None:
            if request.headers.get("security-token") != token.security_token:
                raise refusal(
                    "InvalidAccessKeyId", "The security token does not belong to the key."
                )
            if token.expires_at <= self._clock.now():
                raise refusal(self.expired_code, "The security token has expired.")
        return Identity(key_id, token)

    def _check_date(self, date: str) -> None:
        # Against the wall, not the world's clock: clients sign with real time even where the
        # world's days pass at once.
        if not date:
            raise refusal("MissingDateHeader", "Date header is required.")
        try:
            at = parsedate_to_datetime(date)
        except ValueError:
            raise refusal("InvalidDateHeader", "Date header is not an RFC 1123 date.") from None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        if abs(at.timestamp() - self.wall()) > MAX_SKEW_S:
            raise refusal("TimeExpired")


def http_date(at: float) -> str:
    """Return `at` as HTTP headers write it."""
    return format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)
