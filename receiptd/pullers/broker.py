"""The two calls that MNS and RocketMQ over HTTP share: receive a batch, delete handles."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
# Connections side by side: two cost 65 % of one's CPU per receipt, four 53 %, eight 48 %.
LANES = 4
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
    """Signed calls, their outcomes told apart by our table. Used by one thread.

    `target` is the path of the messages, with what of the query is the same in every call. What
    takes several calls is asked side by side, on as many connections as there are `lanes`: the
    other answers come while the first is waited for, which halves the CPU of an exchange, and of
    several round trips makes one.
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
        lanes: int = 1,
    ) -> None:
        self._lanes = [
            Connection(
                endpoint.host,
                endpoint.port,
                https=endpoint.https,
                monotonic=clock.monotonic,
                connect_timeout_s=limits.connect_s,
            )
            for _ in range(lanes)
        ]
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
    ) -> list[tuple[Answer, list[Message]]]:
        """Return the answers and their messages, none if the broker says that nothing is there.

        `more` is appended to the query. Raises SourceUnavailable, SourceRefused or
        SourceCancelled, if no message came. Whatever is not clearly a list of messages or that one
        error is never taken for an empty queue.
        """
        calls, count = max(-(-batch_size // MAX_BATCH), 1), min(max(batch_size, 1), MAX_BATCH)
        wait = int(min(max(wait_s, 0), MAX_WAIT_S))
        seconds = wait + self._limits.pull_spare_s
        query = f"numOfMessages={count}&waitseconds={wait}{more}"
        found, error = [], None
        for one in self._get(query, calls, seconds):
            if isinstance(one, SourceError):
                error = error or one
            elif one[1]:
                found.append(one)
        if error is not None and not found:
            raise error
        return found

    def peek(self) -> tuple[Answer, list[Message]]:
        """As `receive` without a wait, but the messages stay visible and have no handle (MNS)."""
        query = f"peekonly=true&numOfMessages={MAX_BATCH}"
        (found,) = self._get(query, 1, self._limits.pull_spare_s)
        if isinstance(found, SourceError):
            raise found
        return found

    def touch(self) -> None:
        """Delete a handle that nobody was given: signature, rights and names are judged as for
        any other, and nothing happens. Raises as `receive`."""
        self._delete([[_NO_HANDLE]], interruptible=True)

    def delete(self, committed: Sequence[Committed]) -> AckResult:
        """Delete what has a handle, 16 in a call. Raises SourceUnavailable or SourceRefused if no
        call was understood."""
        handles = [entry.envelope.handle for entry in committed if entry.envelope.handle]
        groups = [handles[at : at + MAX_BATCH] for at in range(0, len(handles), MAX_BATCH)]
        return self._delete(groups, interruptible=False)

    def cancel(self) -> None:
        """End a running receive at once and refuse later ones. Safe from any thread."""
        for lane in self._lanes:
            lane.cancel()

    def close(self) -> None:
        """Release the connections."""
        for lane in self._lanes:
            lane.close()

    def _get(
        self, query: str, calls: int, seconds: float
    ) -> Iterator[tuple[Answer, list[Message]] | SourceError]:
        target = f"{self._target}{'&' if '?' in self._target else '?'}{query}"
        for found in self._calls("GET", target, [b""] * calls, seconds, interruptible=True):
            if isinstance(found, SourceError):
                yield found
                continue
            answer, refusal = found
            if answer.status == 200 and (messages := read_messages(answer.body)) is not None:
                yield answer, messages
            elif answer.status == 404 and refusal and refusal.code == NOTHING_THERE:
                yield answer, []
            else:
                yield self._error(answer, refusal)

    def _delete(self, groups: list[list[str]], *, interruptible: bool) -> AckResult:
        bodies = list(map(self._handles_document, groups))
        outcomes = self._calls(
            "DELETE", self._target, bodies, self._limits.ack_s, interruptible=interruptible
        )
        acked = expired = failed = 0
        error = None
        for handles, found in zip(groups, outcomes, strict=True):
            result = found if isinstance(found, SourceError) else self._judge(handles, *found)
            if isinstance(result, SourceError):
                error = error or result
                failed += len(handles)
            else:
                acked += result.acked
                expired += result.expired
                failed += result.failed
        if error is not None and failed == sum(map(len, groups)):
            raise error
        return AckResult(acked, expired, failed, error)

    def _judge(
        self, handles: list[str], answer: Answer, refusal: Refusal | None
    ) -> AckResult | SourceError:
        if answer.status == 204:  # documented: 204 only if every handle was deleted
            return AckResult(acked=len(handles))
        if refusal is not None and 400 <= answer.status < 500:
            if refusal.handles:
                return _count(handles, refusal.handles)
            if refusal.code in EXPIRED_HANDLE:
                return AckResult(expired=len(handles))
        return self._error(answer, refusal)

    def _handles_document(self, handles: list[str]) -> bytes:
        items = "</ReceiptHandle><ReceiptHandle>".join(map(escape, handles))
        return (
            '<?xml version="1.0" encoding="utf-8"?>'
            f'<ReceiptHandles xmlns="{self._namespace}">'
            f"<ReceiptHandle>{items}</ReceiptHandle></ReceiptHandles>"
        ).encode()

    def _calls(
        self, method: str, target: str, bodies: list[bytes], seconds: float, *, interruptible: bool
    ) -> list[tuple[Answer, Refusal | None] | SourceError]:
        """Make a call for each body, as many at a time as there are lanes, and return what became
        of each; in `seconds` altogether. Each once more if fresh credentials were fetched."""
        deadline = _monotonic() + seconds
        outcomes: list[tuple[Answer, Refusal | None] | SourceError] = []
        for start in range(0, len(bodies), len(self._lanes)):
            calls = [
                _Call(lane, method, target, body, deadline, interruptible)
                for lane, body in zip(self._lanes, bodies[start:], strict=False)
            ]
            # All are begun before the first is waited for; all that were begun are finished.
            begun = [self._begin(call) for call in calls]
            outcomes += map(self._finish, calls, begun)
        return outcomes

    def _begin(self, call: "_Call") -> Credentials | SourceError:
        """Send a call; return what it was signed with."""
        try:
            used = self._credentials.current()
            now = _monotonic()
            request = self._signed(call.method, call.target, call.body, used, now)
            call.lane.begin(request, call.deadline - now, interruptible=call.interruptible)
        except SourceError as exc:
            return exc
        return used

    def _finish(
        self, call: "_Call", used: Credentials | SourceError, *, again: bool = True
    ) -> tuple[Answer, Refusal | None] | SourceError:
        """Return what became of a call that `_begin` has sent."""
        if isinstance(used, SourceError):
            return used
        try:
            answer = call.lane.finish()
            succeeded = answer.status == (200 if call.method == "GET" else 204)
            refusal = None if succeeded else read_refusal(answer.body)
            if again and is_about_credentials(answer, refusal) and self._credentials.refused(used):
                return self._finish(call, self._begin(call), again=False)
        except SourceError as exc:
            return exc
        return answer, refusal

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
            self.close()  # who knows who is at the other end
        return error


class _Call(msgspec.Struct, frozen=True):
    """One request, and the connection that carries it."""

    lane: Connection
    method: str
    target: str
    body: bytes
    deadline: float
    interruptible: bool


def lanes_of(threads: int, most_connections: int) -> int:
    """Return how many lanes each of a source's threads may have, so that the source has at most so
    many connections, or one per thread."""
    return max(1, min(LANES, most_connections // threads))


def _count(handles: list[str], failures: Sequence[tuple[str, str]]) -> AckResult:
    """Handles that are not listed were deleted. A failure without a known handle counts too, so
    that never more are taken for acked than were."""
    codes = dict(failures)
    unknown = len([handle for handle, _ in failures if handle not in handles])
    known = [codes[handle] for handle in handles if handle in codes]
    expired = sum(code in EXPIRED_HANDLE for code in known)
    failed = min(len(known) - expired + unknown, len(handles) - expired)
    return AckResult(len(handles) - expired - failed, expired, failed)
