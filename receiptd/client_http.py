"""Recording a send over HTTP: through a daemon beside the application, without its database."""

from collections.abc import Mapping
from datetime import datetime
from typing import NoReturn

import msgspec

from receiptd.clock import Clock
from receiptd.errors import ConfigError, Problem, SourceError, StoreUnavailable
from receiptd.ledger import Recorded, UnreadableSend
from receiptd.providers.http import JSON, Answer, HttpClient

_PATH = "/v1/sends"
# The application waits for this, after its SMS was sent: it is not to wait long.
_TIMEOUT_S = 5.0


class _Refusal(msgspec.Struct):
    message: str = ""
    cure: str = ""


class _Error(msgspec.Struct):
    message: str = ""
    cure: str = ""
    details: list[_Refusal] = []


class _Failed(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


class Sidecar:
    """`POST /v1/sends` of one daemon. Thread-safe; connects lazily."""

    def __init__(self, url: str, token: str, clock: Clock) -> None:
        """`url` is where the daemon listens: http://127.0.0.1:8650."""
        self._url = url.rstrip("/") + _PATH
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = HttpClient(clock, timeout_s=_TIMEOUT_S)

    def record(
        self,
        api: str,
        account: str,
        request: Mapping[str, object],
        response: Mapping[str, object],
        submitted_at: datetime,
    ) -> Recorded:
        """Return what the daemon has recorded, durably.

        Raises StoreUnavailable where nothing is known to be recorded (again changes nothing),
        UnreadableSend, or ConfigError for a wrong address or token.
        """
        send = {
            "api": api,
            "account": account,
            "request": request,
            "response": response,
            "submitted_at": submitted_at.isoformat(),
        }
        try:
            body = msgspec.json.encode(send)
        except (TypeError, ValueError, msgspec.MsgspecError):
            cure = "give the API's parameters and its answer as plain values"
            raise UnreadableSend("the call holds what is no JSON", cure) from None
        failure: SourceError
        try:
            answer = self._http.post(self._url, body, JSON, headers=self._headers)
        except SourceError as exc:
            failure = exc
        else:
            return _recorded(answer)
        raise StoreUnavailable(f"the daemon cannot be reached: {failure}")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _recorded(answer: Answer) -> Recorded:
    if answer.status != 200:
        _refuse(answer)
    try:
        return msgspec.json.decode(answer.body, type=Recorded)
    except msgspec.MsgspecError:
        pass
    raise _wrong_place()


def _refuse(answer: Answer) -> NoReturn:
    error = _Error()
    try:
        error = msgspec.json.decode(answer.body, type=_Failed).error
    except msgspec.MsgspecError:
        if answer.status < 500:
            raise _wrong_place() from None
    if answer.status in (401, 403):
        cure = "give the one of http.token, or of http.token_file"
        raise ConfigError([Problem("token", "the daemon does not take it", cure=cure)])
    if answer.status == 404:
        raise _wrong_place()
    if answer.status >= 500 or answer.status == 429:
        raise StoreUnavailable(f"the daemon cannot record it now: {error.message or answer.status}")
    told = error.details[0] if error.details else error
    raise UnreadableSend(told.message, told.cure)


def _wrong_place() -> ConfigError:
    rule = "no receiptd answers there"
    return ConfigError([Problem("url", rule, cure="give http.listen's: http://127.0.0.1:8650")])
