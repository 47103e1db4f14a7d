"""Taobao's gateway TOP: signed form POSTs, wire-formats 7.6.

All parameters travel in the body, because a URL ends in logs, and these hold numbers. HTTP says
200 for errors too: `error_response` is looked for first.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping
from urllib.parse import quote_plus, urlsplit

from receiptd.china import china_text
from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.errors import InvalidEnvelope, SourceError, SourceRefused, SourceUnavailable
from receiptd.model import Credentials
from receiptd.providers.answers import bad_answer, clock_skew, shown_code, shown_request_id
from receiptd.providers.decode import parse_object
from receiptd.providers.http import Answer, HttpClient
from receiptd.providers.refusals import find
from receiptd.providers.sends import told

ENDPOINT = "https://eco.taobao.com/router/rest"
_PATH = "/router/rest"
ERROR = "error_response"


class TopClient:
    """One application at TOP. Thread-safe. `http` is owned: `close` closes it.

    `sign_method` is `hmac` or `md5`; with the first, the secret cannot be guessed at from a sign.
    """

    def __init__(
        self,
        app_key: str,
        app_secret: str,
        clock: Clock,
        *,
        endpoint: str = ENDPOINT,
        http: HttpClient | None = None,
        sign_method: str = "hmac",
    ) -> None:
        # As a key pair, because those are never shown.
        self._key = Credentials(app_key, app_secret)
        self._clock = clock
        self._url = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _PATH
        self._http = http or HttpClient(clock)
        self._sign_method = sign_method

    def call(self, method: str, parameters: Mapping[str, str]) -> Mapping[str, object]:
        """Call `method` and return what is inside its `…_response`.

        Never repeats a call by itself. Raises SourceUnavailable, SourceRefused, or
        SourceCancelled after `cancel`.
        """
        answer, data, hidden = self._exchange(method, parameters)
        if ERROR in data:
            raise self._error(answer, data[ERROR], hidden)
        inner = data.get(wrapper(method))
        if answer.status == 200 and isinstance(inner, Mapping):
            return inner
        raise bad_answer(answer.status)

    def ask(self, method: str, parameters: Mapping[str, str]) -> Mapping[str, object]:
        """Call `method` and return the whole answer, a refusal (`error_response`) too.

        For what must not be done twice: an error here means that nobody knows whether it was done,
        and so does a refusal with a status of 500 or more. Raises as `call`.
        """
        answer, data, hidden = self._exchange(method, parameters)
        if ERROR in data:
            error = self._error(answer, data[ERROR], hidden)
            if error.code == "bad_answer" or answer.status >= 500:
                raise error
            return data
        if answer.status == 200 and isinstance(data.get(wrapper(method)), Mapping):
            return data
        raise bad_answer(answer.status)

    def cancel(self) -> None:
        """End running calls at once and refuse later ones. Safe from any thread."""
        self._http.cancel()

    def close(self) -> None:
        """Release the connections. Nothing may be called afterwards."""
        self._http.close()

    def _exchange(
        self, method: str, parameters: Mapping[str, str]
    ) -> tuple[Answer, dict[str, object], list[str]]:
        signed = {
            **parameters,
            "method": method,
            "app_key": self._key.access_key_id,
            "timestamp": china_text(self._clock.now()),
            "v": "2.0",
            "format": "json",
            "sign_method": self._sign_method,
        }
        signed["sign"] = sign(signed, self._key.access_key_secret, self._sign_method)
        form = "&".join(f"{quote_plus(k)}={quote_plus(v)}" for k, v in signed.items())
        answer = self._http.post(self._url, form.encode("ascii"))
        data = parse_object(answer.body)
        if isinstance(data, InvalidEnvelope):
            raise bad_answer(answer.status)
        key = self._key
        hidden = [*parameters.values(), key.access_key_id, key.access_key_secret, signed["sign"]]
        return answer, data, hidden

    def _error(self, answer: Answer, error: object, hidden: Collection[str]) -> SourceError:
        if not isinstance(error, Mapping):
            return bad_answer(answer.status)
        number = told(error, "code", 6) or ""
        code = number if number.isascii() and number.isdigit() else ""
        sub_code = shown_code(error.get("sub_code"), hidden)
        if not (code or sub_code):
            return bad_answer(answer.status)
        kind, cure = _meaning(code, sub_code)
        if code == _INVALID_TIMESTAMP:
            cure += clock_skew(answer, self._clock.now())
        request_id = shown_request_id(error.get("request_id"), hidden)
        status = answer.status
        return kind(sub_code or code, http_status=status, request_id=request_id, cure=cure)


def open_client(account: AccountSettings, clock: Clock) -> TopClient:
    """Return a client of an account's application; no I/O."""
    return TopClient(
        account.app_key,
        account.app_secret.get_secret_value(),
        clock,
        endpoint=account.endpoints.get("top") or ENDPOINT,
    )


def sign(parameters: Mapping[str, str], secret: str, method: str = "hmac") -> str:
    """Return the value of the parameter `sign` for all others (wire-formats 7.6: T3, T4)."""
    text = "".join(name + parameters[name] for name in sorted(parameters) if name != "sign")
    if method == "md5":
        return hashlib.md5(f"{secret}{text}{secret}".encode()).hexdigest().upper()
    return hmac.digest(secret.encode(), text.encode(), "md5").hex().upper()


def wrapper(method: str) -> str:
    """Return the key around an answer: the method without `taobao.`, dots as underscores."""
    return method.removeprefix("taobao.").replace(".", "_") + "_response"


_INVALID_TIMESTAMP = "31"
# What passes by itself; anything else wants a person. 7 is a quota and 10 an outage; 15 says that
# the service behind TOP failed, and its sub_code how.
_PASSING = {"7", "10", "15"}
# Begin of sub_code -> kind; the first row that fits counts, and goes before the code.
_SUB_CODES: tuple[tuple[str, type[SourceError]], ...] = (
    ("accesscontrol.limited", SourceUnavailable),
    ("isv.BUSINESS_LIMIT_CONTROL", SourceUnavailable),
    ("isp.", SourceUnavailable),  # the provider's own side
    ("isv.", SourceRefused),  # the request itself
)


def _meaning(code: str, sub_code: str) -> tuple[type[SourceError], str]:
    refusal = find("receiptd.providers.jushita", sub_code or code)
    cure = refusal.cure if refusal is not None else ""
    for prefix, kind in _SUB_CODES:
        if sub_code.startswith(prefix):
            return kind, cure
    return (SourceUnavailable if code in _PASSING else SourceRefused), cure
