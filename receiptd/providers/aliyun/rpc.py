"""Aliyun's RPC gateway: signature version 1.0, POST with all parameters in the form body.

In the body, because a URL ends in logs and errors, and these parameters hold the access key and a
phone number (pitfalls 2.2). Texts of errors hold the service's own Code and request id, nothing
else of the answer.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from urllib.parse import quote

import msgspec

from receiptd.clock import Clock
from receiptd.errors import InvalidEnvelope, SourceError, SourceRefused, SourceUnavailable
from receiptd.model import Credentials
from receiptd.providers.answers import bad_answer, clock_skew, shown_code, shown_request_id
from receiptd.providers.decode import parse_object
from receiptd.providers.http import Answer, HttpClient


class RpcAnswer(msgspec.Struct, frozen=True):
    """A good answer: its JSON object, and the gateway's clock (UTC) if it told."""

    data: Mapping[str, object]
    server_time: datetime | None

    def __repr__(self) -> str:
        return "RpcAnswer(hidden)"


class RpcClient:
    """One product of one account at Aliyun's gateway. Thread-safe.

    `endpoint` is a URL or a host, which then means https; `version` is the product's, as
    `2017-05-25`. `http` is owned: `close` closes it. `nonce` must never return a value twice.
    """

    def __init__(
        self,
        endpoint: str,
        version: str,
        credentials: Credentials,
        clock: Clock,
        *,
        http: HttpClient | None = None,
        region: str = "cn-hangzhou",
        nonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        base = endpoint if "://" in endpoint else f"https://{endpoint}"
        self._url = base.rstrip("/") + "/"
        self._version = version
        self._credentials = credentials
        self._clock = clock
        self._http = http or HttpClient(clock)
        self._region = region
        self._nonce = nonce

    def call(self, action: str, parameters: Mapping[str, str]) -> RpcAnswer:
        """Call `action` and return its answer: HTTP 200, a JSON object, `Code` is `OK`.

        Never repeats a call by itself. Raises SourceUnavailable, SourceRefused, or
        SourceCancelled after `cancel`.
        """
        answer, data, hidden = self._exchange(action, parameters)
        if answer.status == 200 and data.get("Code") == "OK":
            return RpcAnswer(data, answer.date)
        raise self._error(answer, data, hidden)

    def ask(self, action: str, parameters: Mapping[str, str]) -> Mapping[str, object]:
        """Call `action` and return its answer, a refusal too: a JSON object with a `Code`.

        For what must not be done twice: an error here means that nobody knows whether it was done,
        and so does an answer with a status of 500 or more. Raises as `call`.
        """
        answer, data, hidden = self._exchange(action, parameters)
        code = shown_code(data.get("Code"), hidden)
        understood = answer.status == 200 if code == "OK" else answer.status < 500
        if code and understood:
            return data
        raise self._error(answer, data, hidden)

    def cancel(self) -> None:
        """End running calls at once and refuse later ones. Safe from any thread."""
        self._http.cancel()

    def close(self) -> None:
        """Release the connections. Nothing may be called afterwards."""
        self._http.close()

    def _secrets(self) -> tuple[str, str, str]:
        key = self._credentials
        return key.access_key_id, key.access_key_secret, key.security_token

    def _signed(self, action: str, parameters: Mapping[str, str]) -> dict[str, str]:
        common = {
            "Action": action,
            "Version": self._version,
            "Format": "JSON",
            "AccessKeyId": self._credentials.access_key_id,
            "SignatureMethod": "HMAC-SHA1",
            "SignatureVersion": "1.0",
            "SignatureNonce": self._nonce(),
            "Timestamp": self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "RegionId": self._region,
        }
        if self._credentials.security_token:
            common["SecurityToken"] = self._credentials.security_token
        signed = {**parameters, **common}
        signed["Signature"] = signature("POST", signed, self._credentials.access_key_secret)
        return signed

    def _exchange(
        self, action: str, parameters: Mapping[str, str]
    ) -> tuple[Answer, dict[str, object], list[str]]:
        signed = self._signed(action, parameters)
        form = "&".join(f"{percent_encode(k)}={percent_encode(v)}" for k, v in signed.items())
        answer = self._http.post(self._url, form.encode("ascii"))
        data = parse_object(answer.body)
        if isinstance(data, InvalidEnvelope):
            raise bad_answer(answer.status)
        return answer, data, [*parameters.values(), *self._secrets(), signed["Signature"]]

    def _error(
        self, answer: Answer, data: Mapping[str, object], hidden: Collection[str]
    ) -> SourceError:
        code = shown_code(data.get("Code"), hidden)
        if not code or code == "OK":
            return bad_answer(answer.status)
        kind, cure = _meaning(code, answer.status)
        if code.startswith("InvalidTimeStamp"):
            cure += clock_skew(answer, self._clock.now())
        request_id = shown_request_id(data.get("RequestId"), hidden)
        return kind(code, http_status=answer.status, request_id=request_id, cure=cure)


def signature(method: str, parameters: Mapping[str, str], secret: str) -> str:
    """Return the value of the parameter Signature, for all others (wire-formats 8.4: M2)."""
    query = "&".join(
        f"{percent_encode(name)}={percent_encode(parameters[name])}" for name in sorted(parameters)
    )
    text = f"{method}&%2F&{percent_encode(query)}"
    digest = hmac.digest(f"{secret}&".encode(), text.encode(), hashlib.sha1)
    return base64.b64encode(digest).decode("ascii")


def percent_encode(text: str) -> str:
    """Return `text` encoded after RFC 3986: space %20, * %2A, ~ kept."""
    return quote(text, safe="")


# Begin of Code -> what to do and how to mend it; the first row that fits counts. From wire-formats
# 8.3; rows marked + are general codes of the gateway that no page of this API lists.
_KEY_CURE = "check access_key_id and access_key_secret"
_RIGHTS_CURE = "grant the RAM user this product's permission"
_ACCOUNT_CURE = "look at the account in the console: arrears, product not activated, or suspended"
_CODES: tuple[tuple[str, type[SourceError], str], ...] = (
    ("Throttling", SourceUnavailable, "the gateway's rate limit"),
    ("isv.BUSINESS_LIMIT_CONTROL", SourceUnavailable, "the business rate limit"),
    ("isp.SYSTEM_ERROR", SourceUnavailable, ""),
    ("ServiceUnavailable", SourceUnavailable, ""),  # +
    ("InternalError", SourceUnavailable, ""),  # +
    # Only a repeated request can cause it, and the next call is signed afresh.
    ("SignatureNonceUsed", SourceUnavailable, ""),
    # Also for a clock that is more than 15 minutes off.
    ("InvalidTimeStamp", SourceRefused, "set the host's clock"),
    ("SignatureDoesNotMatch", SourceRefused, _KEY_CURE),
    ("IncompleteSignature", SourceRefused, _KEY_CURE),  # +
    ("InvalidAccessKeyId", SourceRefused, _KEY_CURE),
    ("InvalidSecurityToken", SourceRefused, _KEY_CURE),  # +
    ("Forbidden", SourceRefused, _RIGHTS_CURE),  # +
    ("NoPermission", SourceRefused, _RIGHTS_CURE),  # +
    ("isp.RAM_PERMISSION_DENY", SourceRefused, _RIGHTS_CURE),
    ("isv.ACCOUNT_NOT_EXISTS", SourceRefused, _ACCOUNT_CURE),
    ("isv.ACCOUNT_ABNORMAL", SourceRefused, _ACCOUNT_CURE),
    ("isv.PRODUCT_UN_SUBSCRIPT", SourceRefused, _ACCOUNT_CURE),
    ("isv.OUT_OF_SERVICE", SourceRefused, _ACCOUNT_CURE),
    ("InvalidVersion", SourceRefused, "check the endpoint: it is another product's"),
    ("InvalidAction", SourceRefused, "check the endpoint: it is another product's"),
    ("isp.", SourceUnavailable, ""),  # the provider's own side
    ("isv.", SourceRefused, "the request itself was refused"),
)


def _meaning(code: str, status: int) -> tuple[type[SourceError], str]:
    for prefix, kind, cure in _CODES:
        if code.startswith(prefix):
            return kind, cure
    # An unknown code: 429 and 5xx pass by themselves, anything else wants a person.
    return (SourceUnavailable, "") if status == 429 or status >= 500 else (SourceRefused, "")
