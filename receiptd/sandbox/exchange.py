"""One HTTP request and its answer as the protocol modules see them, free of sockets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request."""

    method: str
    target: str  # path?query exactly as sent: that is what the signatures cover
    path: str  # unquoted, without the query
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    peer: str
    connection: int  # which TCP connection of this sandbox, counted from 1

    @property
    def form(self) -> str:
        """The body if it is a form, still encoded."""
        if "form-urlencoded" not in self.headers.get("content-type", ""):
            return ""
        return self.body.decode("utf-8", "replace")

    @property
    def asked(self) -> str:
        """All that the target and a form say, for faults that look for something in it."""
        return f"{self.target}&{form}" if (form := self.form) else self.target

    @classmethod
    def from_target(
        cls,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        peer: str = "127.0.0.1",
        connection: int = 0,
    ) -> "Request":
        """Build a request from its target, in origin form or in absolute form."""
        if "://" in target.split("?", 1)[0]:
            # Proxies and some SDKs send `GET http://host/path`; the signature covers `/path` only.
            after = target.split("://", 1)[1]
            target = "/" + after.partition("/")[2] if "/" in after else "/"
        parts = urlsplit("//sandbox" + target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return cls(method, target, unquote(parts.path), query, headers, body, peer, connection)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back; Content-Length and Date are added on the way out."""

    status: int
    body: bytes = b""
    content_type: str = "text/xml;charset=utf-8"
    headers: tuple[tuple[str, str], ...] = field(default=())


class ServiceError(Exception):
    """The service refuses; each protocol writes it down in its own way."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


# The queue services' codes and their statuses (MNS error table, help.aliyun.com document 27501).
STATUS_OF_CODE = {
    "AccessDenied": 403,
    "InvalidAccessKeyId": 403,
    "SignatureDoesNotMatch": 403,
    "InternalError": 500,
    "InternalServerError": 500,
    "InvalidArgument": 400,
    "InvalidAuthorizationHeader": 400,
    "InvalidDateHeader": 400,
    "InvalidDegist": 400,  # the service spells it so
    "InvalidDigest": 400,
    "InvalidQueryString": 400,
    "InvalidRequestURL": 400,
    "MalformedXML": 400,
    "MessageNotExist": 404,
    "MissingAuthorizationHeader": 400,
    "MissingDateHeader": 400,
    "MissingReceiptHandle": 400,
    "MissingVersionHeader": 400,
    "QpsLimitExceeded": 400,  # not 429
    "QueueAlreadyExist": 409,
    "QueueNameLengthError": 400,
    "QueueNotExist": 404,
    "ReceiptHandleError": 400,
    "ServiceUnavailable": 503,
    "Throttling": 400,  # the RPC gateway's, this one and the next
    "Throttling.User": 400,
    "TimeExpired": 408,
    "TopicNotExist": 404,
}

TEXT_OF_CODE = {
    "AccessDenied": "The OwnerId that your Access Key Id associated to is forbidden.",
    "InternalError": "Internal error.",
    "InvalidAccessKeyId": "The access key id you provided does not exist.",
    "MessageNotExist": "Message not exist.",
    "QpsLimitExceeded": "The qps limit is exceeded.",
    "QueueNotExist": "The queue name you provided is not exist.",
    "ReceiptHandleError": "The receipt handle you provided is not valid.",
    "SignatureDoesNotMatch": "The signature we calculated does not match the one you provided.",
    "Throttling.User": "Request was denied due to user flow control.",
    "TimeExpired": "The http request you sent is expired.",
    "TopicNotExist": "The topic name you provided is not exist.",
}


def refusal(code: str, message: str = "") -> ServiceError:
    """Return the error of the queue services with this code, at its documented status."""
    return ServiceError(status_of(code, 400), code, message or TEXT_OF_CODE.get(code, code))


def status_of(code: str, default: int) -> int:
    """Return the HTTP status at which a code comes; business codes come at 200."""
    if code.startswith(("isv.", "isp.")):
        return 200
    return STATUS_OF_CODE.get(code, default)
