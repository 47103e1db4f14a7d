"""The two calls that MNS and RocketMQ over HTTP share: receive a batch, delete handles."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias
from xml.sax.saxutils import escape

import msgspec

from receiptd.clock import Clock, SystemClock
from receiptd.errors import SourceError, SourceUnavailable
from receiptd.model import Committed, Credentials, CredentialsSource
from receiptd.pullers.base import AckResult
from receiptd.pullers.checks import Endpoint
from receiptd.pullers.connection import CONNECT_TIMEOUT_S, Connection
from receiptd.pullers.failures import CURES
from receiptd.pullers.http1 import Answer, serialize
from receiptd.pullers.refusals import (
    EXPIRED_HANDLE,
    NOTHING_THERE,
    is_about_credentials,
    to_error,
)
from receiptd.pullers.xml import Message, Refusal, read_messages, read_refusal

MAX_BATCH = 16  # both brokers, for receiving and for deleting
MAX_WAIT_S = 30  # both brokers' longest long poll
_NO_HANDLE = "receiptd-check"
_SIGNED_FOR_S = 1.0  # what a date in a header resolves; the brokers take 15 minutes
_monotonic = SystemClock().monotonic

# Signs one request (method, target, body, credentials) with an SDK and returns its headers. Raises
# ValueError for keys that cannot be signed with.
Sign: TypeAlias = Callable[[str, str, bytes, Credentials], Mapping[str, str]]


class Limits(msgspec.Struct, frozen=True):
    """How long a call may take, in seconds. Parameters, so that tests need not wait."""

    pull_spare_s: float = 10.0  # beyond the wait: connecting, a slow answer, fresh credentials
    ack_s: float = 10.0  # a third of the shortest visibility timeout seen (30 s)
    connect_s: float = CONNECT_TIMEOUT_S


DEFAULT_LIMITS = Limits()


class Broker:
    """One signed call at a time over one connection, its outcomes told apart by our table.

    `target` is the path of the messages, with what of the query is the same in every call.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        target: str,
        sign: Sign,
        credentials: CredentialsSource,
        clock: Clock,
        *,
        namespace: str,
        limits: Limits,
    ) -> None:
        self._connection = Connection(
            endpoint.host,
            endpoint.port,
            https=endpoint.https,
            monotonic=clock.monotonic,
            connect_timeout_s=limits.connect_s,
        )
        self._target = target
        self._sign = sign
        self._credentials = credentials
        self._clock = clock
        self._namespace = namespace
        self._limits = limits
        # The last receive that was signed.
        self._last_wanted: tuple[str, str, bytes, Credentials] | None = None
        self._last_signed_at = 0.0
        self._last_request = b""

    def receive(
        self, batch_size: int, wait_s: float, *, more: str = ""
    ) -> tuple[Answer, list[Message]]:
        """Return the answer and its messages, none if the broker says that nothing is there.

        `more` is appended to the query. Raises SourceUnavailable, SourceRefused or
        SourceCancelled. Whatever is not clearly a list of messages or that one error is never
        taken for an empty queue.
        """
        count = min(max(batch_size, 1), MAX_BATCH)
        wait = int(min(max(wait_s, 0), MAX_WAIT_S))
        seconds = wait + self._limits.pull_spare_s
        return self._messages(f"numOfMessages={count}&waitseconds={wait}{more}", seconds)

    def peek(self) -> tuple[Answer, list[Message]]:
        """As `receive` without a wait, but the messages stay visible and have no handle (MNS)."""
        query = f"peekonly=true&numOfMessages={MAX_BATCH}"
        return self._messages(query, self._limits.pull_spare_s)

    def touch(self) -> None:
        """Delete a handle that nobody was given: signature, rights and names are judged as for
        any other, and nothing happens. Raises as `receive`."""
        self._delete_group([_NO_HANDLE], interruptible=True)

    def _messages(self, query: str, seconds: float) -> tuple[Answer, list[Message]]:
        mark = "&" if "?" in self._target else "?"
        target = f"{self._target}{mark}{query}"
        answer, refusal = self._call("GET", target, b"", seconds, interruptible=True)
        if answer.status == 200 and (messages := read_messages(answer.body)) is not None:
            return answer, messages
        if answer.status == 404 and refusal is not None and refusal.code == NOTHING_THERE:
            return answer, []
        raise self._error(answer, refusal)

    def delete(self, committed: Sequence[Committed]) -> AckResult:
        """Delete what has a handle, 16 at a time. Raises SourceUnavailable or SourceRefused."""
        handles = [entry.envelope.handle for entry in committed if entry.envelope.handle]
        acked = expired = failed = 0
        for start in range(0, len(handles), MAX_BATCH):
            result = self._delete_group(handles[start : start + MAX_BATCH])
            acked += result.acked
            expired += result.expired
            failed += result.failed
        return AckResult(acked, expired, failed)

    def cancel(self) -> None:
        """End a running receive at once and refuse later ones. Safe from any thread."""
        self._connection.cancel()

    def close(self) -> None:
        """Release the connection."""
        self._connection.close()

    def _delete_group(self, handles: list[str], *, interruptible: bool = False) -> AckResult:
        body = self._handles_document(handles)
        answer, refusal = self._call(
            "DELETE", self._target, body, self._limits.ack_s, interruptible=interruptible
        )
        if answer.status == 204:  # documented: 204 only if every handle was deleted
            return AckResult(acked=len(handles))
        if refusal is not None and 400 <= answer.status < 500:
            if refusal.handles:
                return _count(handles, refusal.handles)
            if refusal.code in EXPIRED_HANDLE:
                return AckResult(expired=len(handles))
        raise self._error(answer, refusal)

    def _handles_document(self, handles: list[str]) -> bytes:
        items = "</ReceiptHandle><ReceiptHandle>".join(map(escape, handles))
        return (
            '<?xml version="1.0" encoding="utf-8"?>'
            f'<ReceiptHandles xmlns="{self._namespace}">'
            f"<ReceiptHandle>{items}</ReceiptHandle></ReceiptHandles>"
        ).encode()

    def _call(
        self, method: str, target: str, body: bytes, seconds: float, *, interruptible: bool
    ) -> tuple[Answer, Refusal | None]:
        """Make one call, and once more within the same time if fresh credentials were fetched."""
        deadline = _monotonic() + seconds
        answer, refusal, used = self._attempt(method, target, body, deadline, interruptible)
        if is_about_credentials(answer, refusal) and self._credentials.refused(used):
            answer, refusal, _ = self._attempt(method, target, body, deadline, interruptible)
        return answer, refusal

    def _attempt(
        self, method: str, target: str, body: bytes, deadline: float, interruptible: bool
    ) -> tuple[Answer, Refusal | None, Credentials]:
        used = self._credentials.current()
        now = _monotonic()
        request = self._signed(method, target, body, used, now)
        left = deadline - now
        answer = self._connection.exchange(request, left, interruptible=interruptible)
        succeeded = answer.status == (200 if method == "GET" else 204)
        return answer, None if succeeded else read_refusal(answer.body), used

    def _signed(
        self, method: str, target: str, body: bytes, credentials: Credentials, now: float
    ) -> bytes:
        """Return the request's bytes. Equal ones within a second are signed once: a signature is of
        the second, and has no nonce. Saves a tenth of what an exchange costs under load."""
        wanted = (method, target, body, credentials)
        if wanted == self._last_wanted and now < self._last_signed_at + _SIGNED_FOR_S:
            return self._last_request
        try:
            request = serialize(method, target, body, self._sign(method, target, body, credentials))
        except ValueError:  # its text may quote
            request = None
        if request is None:
            raise SourceUnavailable("unsendable", cure=CURES["unsendable"])
        if not body:  # a delete never comes again
            self._last_wanted, self._last_signed_at, self._last_request = wanted, now, request
        return request

    def _error(self, answer: Answer, refusal: Refusal | None) -> SourceError:
        if answer.status == 200:
            refusal = refusal or read_refusal(answer.body)
        error = to_error(answer, refusal, self._clock.now())
        if error.code == "bad_answer":
            self._connection.close()  # who knows who is at the other end
        return error


def _count(handles: list[str], failures: Sequence[tuple[str, str]]) -> AckResult:
    """Handles that are not listed were deleted. A failure without a known handle counts too, so
    that never more are taken for acked than were."""
    codes = dict(failures)
    unknown = len([handle for handle, _ in failures if handle not in handles])
    known = [codes[handle] for handle in handles if handle in codes]
    expired = sum(code in EXPIRED_HANDLE for code in known)
    failed = min(len(known) - expired + unknown, len(handles) - expired)
    return AckResult(len(handles) - expired - failed, expired, failed)
