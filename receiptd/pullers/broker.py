"""The two calls that MNS and RocketMQ over HTTP share: receive a batch, delete handles."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias
from xml.sax.saxutils import escape

from receiptd.clock import Clock, SystemClock
from receiptd.errors import SourceError
from receiptd.model import Committed, Credentials, CredentialsSource
from receiptd.pullers.base import AckResult
from receiptd.pullers.connection import Connection
from receiptd.pullers.http1 import Answer
from receiptd.pullers.refusals import (
    EXPIRED_HANDLE,
    NOTHING_THERE,
    is_about_credentials,
    to_error,
)
from receiptd.pullers.xml import Message, Refusal, read_messages, read_refusal

MAX_BATCH = 16  # both brokers, for receiving and for deleting
MAX_WAIT_S = 30  # both brokers' longest long poll
PULL_SPARE_S = 10.0  # beyond the wait: connecting, a slow answer, one round with fresh credentials
ACK_SECONDS = 10.0  # a third of the shortest visibility timeout seen (30 s)
_monotonic = SystemClock().monotonic

# Builds, signs and sends one request (method, target, body, credentials) with an SDK.
Send: TypeAlias = Callable[[str, str, bytes, Credentials], None]


class Broker:
    """One signed call at a time over one connection, its outcomes told apart by our table."""

    def __init__(
        self,
        connection: Connection,
        send: Send,
        credentials: CredentialsSource,
        clock: Clock,
        *,
        namespace: str,
        pull_spare_s: float,
        ack_s: float,
    ) -> None:
        self._connection = connection
        self._send = send
        self._credentials = credentials
        self._clock = clock
        self._namespace = namespace
        self._pull_spare_s = pull_spare_s
        self._ack_s = ack_s

    def receive(self, target: str, wait_s: float) -> tuple[Answer, list[Message]]:
        """Return the answer and its messages, none if the broker says that nothing is there.

        Raises SourceUnavailable, SourceRefused or SourceCancelled. Whatever is not clearly a list
        of messages or that one error is never taken for an empty queue.
        """
        seconds = wait_s + self._pull_spare_s
        answer, refusal = self._call("GET", target, b"", seconds, interruptible=True)
        if answer.status == 200 and (messages := read_messages(answer.body)) is not None:
            return answer, messages
        if answer.status == 404 and refusal is not None and refusal.code == NOTHING_THERE:
            return answer, []
        raise self._error(answer, refusal)

    def delete(self, target: str, committed: Sequence[Committed]) -> AckResult:
        """Delete what has a handle, 16 at a time. Raises SourceUnavailable or SourceRefused."""
        handles = [entry.envelope.handle for entry in committed if entry.envelope.handle]
        acked = expired = failed = 0
        for start in range(0, len(handles), MAX_BATCH):
            result = self._delete_group(target, handles[start : start + MAX_BATCH])
            acked += result.acked
            expired += result.expired
            failed += result.failed
        return AckResult(acked, expired, failed)

    def _delete_group(self, target: str, handles: list[str]) -> AckResult:
        body = self._handles_document(handles)
        answer, refusal = self._call("DELETE", target, body, self._ack_s, interruptible=False)
        if answer.status == 204:  # documented: 204 only if every handle was deleted
            return AckResult(acked=len(handles))
        if refusal is not None and 400 <= answer.status < 500:
            if refusal.handles:
                return _count(handles, refusal.handles)
            if refusal.code in EXPIRED_HANDLE:
                return AckResult(expired=len(handles))
        raise self._error(answer, refusal)

    def _handles_document(self, handles: list[str]) -> bytes:
        items = "".join(f"<ReceiptHandle>{escape(handle)}</ReceiptHandle>" for handle in handles)
        return (
            '<?xml version="1.0" encoding="utf-8"?>'
            f'<ReceiptHandles xmlns="{self._namespace}">{items}</ReceiptHandles>'
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
        answer = self._connection.exchange(
            partial(self._send, method, target, body, used),
            deadline - _monotonic(),
            interruptible=interruptible,
        )
        succeeded = answer.status == (200 if method == "GET" else 204)
        return answer, None if succeeded else read_refusal(answer.body), used

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
