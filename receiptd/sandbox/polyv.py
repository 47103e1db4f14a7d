"""Polyv's call that sends through a user's own account at Aliyun."""

import json
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from uuid import uuid4

from receiptd.sandbox.exchange import Answer, Request, ServiceError
from receiptd.sandbox.phone_numbers import is_mainland
from receiptd.sandbox.signature import sign_polyv
from receiptd.sandbox.sms import Desk

PATH = "/live/v4/user/sms/send"
MAX_SKEW_S = 3 * 60
MAX_NUMBERS = 200

TOO_OFTEN, NO_NUMBER, REFUSED, SUBMITTED = -1, -2, 11, 12  # `status` of a number

# The published example shows 20001; what the others are, no document at hand says.
NOT_FOUND, WRONG_SIGN, EXPIRED, WRONG_PARAMETERS, OVER_LIMIT = 20001, 20002, 20003, 20004, 20005


class PolyvError(Exception):
    """The call fails as a whole; `status` is HTTP's, and the answer's `code`."""

    def __init__(self, status: int, code: int, desc: str) -> None:
        super().__init__(f"{status} {code}: {desc}")
        self.status = status
        self.code = code
        self.desc = desc


class PolyvGateway:
    """The one endpoint; remembers how much each user and each number got today."""

    def __init__(self, apps: Mapping[str, str], desk: Desk, wall: Callable[[], float]) -> None:
        self._apps = dict(apps)
        self._desk = desk
        self._wall = wall
        self._lock = threading.Lock()
        self._day = 0
        self._sent: Counter[str] = Counter()  # today, by app and by number

    def handle(self, request: Request) -> Answer:
        """Answer one call, success or not."""
        try:
            self._authenticate(request)
            phones = _read(request)
            with self._lock:  # the limits count call by call
                data = self._send(request.query["appId"], phones)
        except PolyvError as error:
            return _error(error)
        return _answer(200, {"status": "success", "data": data, "success": True})

    def error_answer(self, error: ServiceError) -> Answer:
        """Return an error that a fault asks for."""
        code = int(error.code) if error.code.isdigit() else WRONG_PARAMETERS
        status = error.status if error.status >= 400 else 400
        return _error(PolyvError(status, code, error.message or error.code))

    def _authenticate(self, request: Request) -> None:
        query = request.query
        if request.method != "POST":
            raise PolyvError(405, WRONG_PARAMETERS, "method not allowed.")
        if query.get("appId", "") not in self._apps:
            raise PolyvError(400, NOT_FOUND, "application not found.")
        timestamp = query.get("timestamp", "")
        if not (len(timestamp) == 13 and timestamp.isascii() and timestamp.isdigit()):
            raise PolyvError(400, EXPIRED, "invalid timestamp.")
        # Against the wall: clients sign with real time even where the world's days pass at once.
        if abs(int(timestamp) / 1000 - self._wall()) > MAX_SKEW_S:
            raise PolyvError(400, EXPIRED, "timestamp expired.")
        expected = sign_polyv(self._apps[query["appId"]], query)
        if not secrets.compare_digest(expected.encode(), query.get("sign", "").encode()):
            raise PolyvError(400, WRONG_SIGN, "invalid signature.")

    def _send(self, app: str, phones: list[str]) -> list[dict[str, object]]:
        scenario, today = self._desk.scenario, self._desk.lookup.today
        if today != self._day:
            self._day = today
            self._sent.clear()
        by_app = f"app {app}"
        if self._sent[by_app] + len(phones) > scenario.polyv_per_day:
            raise PolyvError(400, OVER_LIMIT, "daily limit of the user exceeded.")
        data: list[dict[str, object]] = []
        for phone in phones:
            serial = None
            if not is_mainland(phone):
                status = NO_NUMBER
            elif self._sent[phone] >= scenario.polyv_per_number:
                status = TOO_OFTEN
            elif self._desk.refusal() is not None:
                status = REFUSED
            else:
                status = SUBMITTED
                serial = self._desk.accept([phone], send_api=PATH, provider="polyv")
                self._sent[phone] += 1
                self._sent[by_app] += 1
            data.append({"serialNo": serial, "phoneNumber": phone, "status": status})
        return data


def _read(request: Request) -> list[str]:
    """Return the numbers of a body that is right."""
    if "application/json" not in request.headers.get("content-type", ""):
        raise PolyvError(400, WRONG_PARAMETERS, "contentType must be application/json.")
    try:
        body = json.loads(request.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise PolyvError(400, WRONG_PARAMETERS, "the body is no JSON object.")
    phones = _texts(body, "phoneNumbers")
    names, values = _texts(body, "templateParamNames"), _texts(body, "templateParamValues")
    if not 1 <= len(phones) <= MAX_NUMBERS:
        raise PolyvError(400, WRONG_PARAMETERS, "phoneNumbers: 1 to 200 are allowed.")
    if len(names) != len(values):
        raise PolyvError(400, WRONG_PARAMETERS, "templateParamNames and Values do not match.")
    return phones


def _texts(body: Mapping[str, object], name: str) -> list[str]:
    values = body.get(name)
    if not isinstance(values, list):
        raise PolyvError(400, WRONG_PARAMETERS, f"{name} is no array.")
    # The published example has numbers where its Java has texts.
    if any(isinstance(one, bool) or not isinstance(one, str | int) for one in values):
        raise PolyvError(400, WRONG_PARAMETERS, f"{name} holds something else than texts.")
    return [str(one) for one in values]


def _error(error: PolyvError) -> Answer:
    values: dict[str, object] = {
        "status": "error",
        "error": {"code": error.code, "desc": error.desc},
        "success": False,
    }
    return _answer(error.status, values)


def _answer(status: int, values: Mapping[str, object]) -> Answer:
    body = {"code": status, "requestId": str(uuid4()), **values}
    return Answer(status, json.dumps(body).encode(), "application/json;charset=UTF-8")
