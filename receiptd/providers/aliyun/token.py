"""Credentials for the queues that Aliyun keeps for its customers: QueryTokenForMnsQueue."""

import random
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.errors import SourceError, SourceUnavailable
from receiptd.model import Credentials
from receiptd.providers.aliyun.rpc import RpcAnswer, RpcClient
from receiptd.providers.fields import china_time
from receiptd.providers.http import HttpClient

ACTION = "QueryTokenForMnsQueue"

# Region -> endpoint and API version. The international site has its own: wire-formats 1.5 (D10).
_SITE = ("https://dybaseapi.aliyuncs.com", "2017-05-25")
_SITES = {"ap-southeast-1": ("https://dybaseapi.ap-southeast-1.aliyuncs.com", "2018-05-01")}

# Every official client refreshes two minutes early (wire-formats 4: B1, M3, N1). The jitter keeps
# replicas and sources that started together from asking together for ever.
_MARGIN_S = 120.0
_JITTER_S = 30.0

# If no time can be read: what the official Node SDK assumes (N1).
_ASSUMED_LIFETIME_S = 600.0
_LIFETIME_MAX_S = 36 * 3600.0

# A refused token may be a wrong queue name or a missing right: then no token helps.
_FORCED_EVERY_S = 60.0

_RETRY_FIRST_S = 1.0
# Below the 30 s within which an outage's end must be noticed.
_RETRY_MAX_S = 20.0


class Gateway(Protocol):
    """What is needed of `RpcClient`."""

    def call(self, action: str, parameters: Mapping[str, str]) -> RpcAnswer:
        """Return the answer, or raise a SourceError; bounded in time."""
        ...

    def cancel(self) -> None:
        """End running calls at once and refuse later ones."""
        ...


class TokenCredentials:
    """A queue token, fetched once for all threads and renewed before it ends. Thread-safe.

    Its lifetime is measured from the gateway's own clock to ExpireTime (Shanghai time) and counted
    down on the monotonic one, so that neither the host's clock nor its zone matters. While the
    API is away the old token is handed out until the broker refuses it. `jitter` returns numbers
    from 0 to 1.
    """

    def __init__(
        self,
        gateway: Gateway,
        message_type: str,
        clock: Clock,
        *,
        queue: str = "",
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._gateway = gateway
        self._parameters = {"MessageType": message_type}
        if queue:
            self._parameters["QueueName"] = queue
        self._clock = clock
        self._jitter = jitter
        self._refreshing = threading.Lock()  # held while the API is called
        # All below change only under that lock; readers see one consistent object each.
        self._token: _Token | None = None
        self._attempts = 0
        self._failure: SourceError | None = None
        self._failures_in_row = 0
        self._retry_at = 0.0
        self._forced_at: float | None = None

    def cancel(self) -> None:
        """End a running call of the API at once and refuse later ones."""
        self._gateway.cancel()

    @property
    def expires_at(self) -> datetime | None:
        """When the token in use ends, on the host's clock (UTC), for metrics; None without one."""
        token = self._token
        if token is None:
            return None
        return self._clock.now() + timedelta(seconds=token.ends_at - self._clock.monotonic())

    def current(self) -> Credentials:
        """Return a token; blocks for one call of the API only if there is none to use meanwhile.

        Raises what the API raised, if there is no token or the broker has refused the last one.
        """
        attempts = self._attempts  # before the token, as _refresh changes them the other way round
        token = self._token
        if token is not None and not token.dead:
            now = self._clock.monotonic()
            if now < max(token.renew_at, self._retry_at):
                return token.credentials
            # One thread renews, the others go on with what they have while it is good.
            if not self._refreshing.acquire(blocking=now >= token.ends_at):
                return token.credentials
        else:
            self._refreshing.acquire()
        try:
            if self._attempts == attempts and self._clock.monotonic() >= self._retry_at:
                self._refresh()
            return self._usable()
        finally:
            self._refreshing.release()

    def refused(self, used: Credentials) -> bool:
        """Report a 401 or 403 to `used`; return whether a fresher token is there to try at once.

        Asks for a new token at most once in 60 s, whatever is reported, and once for all threads.
        """
        with self._refreshing:
            token = self._token
            if token is None:
                return False
            if token.credentials != used:
                return not token.dead
            now = self._clock.monotonic()
            if self._forced_at is not None and now - self._forced_at < _FORCED_EVERY_S:
                return False
            self._forced_at = now
            self._refresh()
            if self._token is not token:
                return True
            # The API is away and the old token is no good: from here on there is none to use.
            token.dead = True
            return False

    def _usable(self) -> Credentials:
        token = self._token
        if token is not None and not token.dead:
            return token.credentials
        failure = self._failure or SourceUnavailable("no_token")
        # A copy: an exception that several threads raise would collect all their tracebacks.
        raise type(failure)(
            failure.code,
            http_status=failure.http_status,
            request_id=failure.request_id,
            cure=failure.cure,
        )

    def _refresh(self) -> None:
        asked_at = self._clock.monotonic()
        try:
            credentials, lifetime_s = read_token(self._gateway.call(ACTION, self._parameters))
        except SourceError as error:
            self._failed(error)
        else:
            margin_s = min(_MARGIN_S + self._jitter() * _JITTER_S, lifetime_s / 2)
            ends_at = asked_at + lifetime_s
            self._token = _Token(credentials, renew_at=ends_at - margin_s, ends_at=ends_at)
            self._failure = None
            self._failures_in_row = 0
            self._retry_at = 0.0
        self._attempts += 1

    def _failed(self, error: SourceError) -> None:
        self._failure = error.with_traceback(None)
        pause_s = min(_RETRY_FIRST_S * 2**self._failures_in_row, _RETRY_MAX_S)
        self._failures_in_row = min(self._failures_in_row + 1, 10)
        # Half of the pause at least, so that bad luck is no hot loop.
        self._retry_at = self._clock.monotonic() + pause_s * (0.5 + 0.5 * self._jitter())


class _Token:
    """A token and its times on the monotonic clock; `dead` once refused with none to follow."""

    __slots__ = ("credentials", "dead", "ends_at", "renew_at")

    def __init__(self, credentials: Credentials, *, renew_at: float, ends_at: float) -> None:
        self.credentials = credentials
        self.renew_at = renew_at
        self.ends_at = ends_at
        self.dead = False


def open_token(account: AccountSettings, message_type: str, clock: Clock) -> TokenCredentials:
    """Return the token source of an account's queue of `message_type`; no I/O."""
    endpoint, version = site(account)
    gateway = RpcClient(
        endpoint,
        version,
        Credentials(account.access_key_id, account.access_key_secret.get_secret_value()),
        clock,
        region=account.region,
        # One call in eight minutes: no connection to keep.
        http=HttpClient(clock, keep_alive=False),
    )
    return TokenCredentials(gateway, message_type, clock)


def site(account: AccountSettings) -> tuple[str, str]:
    """Return where the tokens of an account come from, and the API's version there."""
    endpoint, version = _SITES.get(account.region, _SITE)
    return account.endpoints.get("dybase") or endpoint, version


def read_token(answer: RpcAnswer) -> tuple[Credentials, float]:
    """Return the token in an answer and how many seconds it lives (wire-formats 4: M3, N1, B1).

    Pure. Raises SourceUnavailable(`bad_answer`) if a part of it is missing.
    """
    token = answer.data.get("MessageTokenDTO")
    if not isinstance(token, dict):
        raise SourceUnavailable("bad_answer", cure="the answer holds no token")
    parts = [token.get(key) for key in ("AccessKeyId", "AccessKeySecret", "SecurityToken")]
    found = [part for part in parts if isinstance(part, str) and _fits_a_header(part)]
    if len(found) != len(parts):
        raise SourceUnavailable("bad_answer", cure="the answer holds no whole token")
    return Credentials(*found), _lifetime_s(token, answer.server_time)


def _fits_a_header(value: str) -> bool:
    return value != "" and value.isascii() and value.isprintable() and " " not in value


def _lifetime_s(token: Mapping[str, object], server_time: datetime | None) -> float:
    expires_at = china_time(token, "ExpireTime")
    if expires_at is None:
        return _ASSUMED_LIFETIME_S
    # The gateway may hand out a token that it made earlier, so its Date says more than CreateTime;
    # a Date that makes no sense (a proxy's) gives way.
    for start in (server_time, china_time(token, "CreateTime")):
        if start is not None:
            seconds = (expires_at - start).total_seconds()
            if 0 < seconds <= _LIFETIME_MAX_S:
                return seconds
    return _ASSUMED_LIFETIME_S
