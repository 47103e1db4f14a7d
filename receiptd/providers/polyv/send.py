"""Calling Polyv's /live/v4/user/sms/send: wire-formats 9, seed S2.

The sign covers `appId` and `timestamp` only, which travel in the URL; the numbers are in the body.
"""

import hashlib
from collections.abc import Mapping
from urllib.parse import urlencode

from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.errors import InvalidEnvelope, Problem, SourceUnavailable
from receiptd.model import Credentials
from receiptd.providers import limits
from receiptd.providers.answers import bad_answer
from receiptd.providers.base import InvalidSend, SendOrder
from receiptd.providers.decode import parse_object
from receiptd.providers.http import JSON, HttpClient
from receiptd.providers.orders import dialled, written

ENDPOINT = "https://api.polyv.net"
PATH = "/live/v4/user/sms/send"
MOST = 200


class PolyvSend:
    """One text to up to 200 mainland numbers. Thread-safe. `http` is owned: `close` closes it.

    The template and signature are those of the Polyv account; its limits of 2,000 SMS a day, and
    10 to one number, are not known here: Polyv answers them number by number.
    """

    def __init__(
        self,
        app_id: str,
        app_secret: str,
        clock: Clock,
        *,
        endpoint: str = ENDPOINT,
        http: HttpClient | None = None,
    ) -> None:
        # As a key pair, because those are never shown.
        self._key = Credentials(app_id, app_secret)
        self._clock = clock
        self._url = endpoint.rstrip("/") + PATH
        self._http = http or HttpClient(clock)

    def request(self, order: SendOrder) -> Mapping[str, object]:
        """Return the body of the call; raises InvalidSend. It has no field for a signature, a
        template or an out_id: those of `order` are not sent, and an out_id is refused, because
        it could not be found again."""
        found = []
        if len(order.params) > 1:
            cure = "send in several calls"
            found.append(Problem("templateParamValues", "are the same for all numbers", cure=cure))
        if order.out_id:
            found.append(Problem("out_id", "Polyv has no place for it", cure="leave it out"))
        params = order.params[0] if order.params else {}
        request: dict[str, object] = {
            "phoneNumbers": list(map(dialled, order.phones)),
            "templateParamNames": list(params),
            "templateParamValues": list(params.values()),
        }
        if found := found + self.problems(request):
            raise InvalidSend(found)
        return request

    def problems(self, request: Mapping[str, object]) -> list[Problem]:
        """Return what is wrong with a body (S2); pure."""
        found: list[Problem] = []
        lists: dict[str, list[object]] = {}
        for place in ("phoneNumbers", "templateParamNames", "templateParamValues"):
            value = request.get(place)
            lists[place] = value if isinstance(value, list) else []
            if not isinstance(value, list):
                found.append(Problem(place, "is not an array", cure="give an array"))
        phones, names, values = lists.values()
        found += limits.count("phoneNumbers", phones, MOST)
        found += limits.formats("phoneNumbers", phones, limits.BARE_MAINLAND)
        found += limits.texts("templateParamNames", names)
        if len(names) != len(values):
            of = "templateParamNames"
            found += limits.same_length("templateParamValues", values, of, len(names))
        found += [
            Problem(f"templateParamValues[{index}]", "is no text", cure="put it into quotes")
            for index, value in enumerate(values)
            if not isinstance(value, str)
        ]
        return found

    def send(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Call the API once, as SendApi says. An `error` is an answer, an HTTP status of 500 or
        more is none."""
        if problems := self.problems(request):
            raise InvalidSend(problems)
        query = {
            "appId": self._key.access_key_id,
            "timestamp": str(round(self._clock.now().timestamp() * 1000)),
        }
        query["sign"] = sign(query, self._key.access_key_secret)
        url = f"{self._url}?{urlencode(query)}"
        answer = self._http.post(url, written(request).encode(), JSON)
        data = parse_object(answer.body)
        if isinstance(data, InvalidEnvelope) or type(data.get("code")) is not int:
            raise bad_answer(answer.status)
        if data["code"] == 200 and answer.status != 200:
            raise bad_answer(answer.status)
        if answer.status >= 500:
            raise SourceUnavailable("server_error", http_status=answer.status)
        return data

    def cancel(self) -> None:
        """End running calls at once and refuse later ones. Safe from any thread."""
        self._http.cancel()

    def close(self) -> None:
        """Release the connections. Nothing may be called afterwards."""
        self._http.close()


def open_send(account: AccountSettings, clock: Clock) -> PolyvSend:
    """Return a client of an account's application; no I/O."""
    return PolyvSend(
        account.app_id,
        account.app_secret.get_secret_value(),
        clock,
        endpoint=account.endpoints.get("polyv") or ENDPOINT,
    )


def sign(query: Mapping[str, str], secret: str) -> str:
    """Return the parameter `sign` for the others of the query; blank ones are passed over
    (wire-formats 9: Y1)."""
    text = "".join(name + query[name] for name in sorted(query) if query[name] and name != "sign")
    return hashlib.md5(f"{secret}{text}{secret}".encode()).hexdigest().upper()
