"""The gateway of Taobao's open platform: who calls, whether the sign is right, which method."""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from receiptd.sandbox.documents import xml_values
from receiptd.sandbox.exchange import Answer, Request, ServiceError
from receiptd.sandbox.gateway import Params, read_params
from receiptd.sandbox.receipts import BEIJING
from receiptd.sandbox.signature import sign_top
from receiptd.sandbox.sms import Desk

PATH = "/router/rest"
MAX_SKEW_S = 10 * 60
SIGN_METHODS = ("md5", "hmac", "hmac-sha256")

# The platform's own codes and texts; from memory, but for 15.
TEXTS = {
    7: "App Call Limited",
    9: "Http Action Not Allowed",
    15: "Remote service error",
    21: "Missing Method",
    22: "Invalid Method",
    23: "Invalid Format",
    24: "Missing Signature",
    25: "Invalid signature",
    28: "Missing App Key",
    29: "Invalid App Key",
    30: "Missing Timestamp",
    31: "Invalid Timestamp",
    32: "Missing Version",
    33: "Invalid Version",
    40: "Missing required arguments",
    41: "Invalid arguments",
}
CALL_LIMITED = "accesscontrol.limited-by-api-access-count"


class TopError(Exception):
    """The platform (or, at code 15, the service behind it) refuses; HTTP still says 200."""

    def __init__(
        self, code: int, argument: str = "", sub_code: str = "", sub_msg: str = ""
    ) -> None:
        self.code = code
        self.text = TEXTS.get(code, "Error") + (f":{argument}" if argument else "")
        self.sub_code = sub_code
        self.sub_msg = sub_msg
        super().__init__(f"{code} {self.text} {sub_code}")


def business_error(sub_code: str, sub_msg: str = "") -> TopError:
    """Return the refusal of the SMS service behind the platform."""
    return TopError(15, sub_code=sub_code, sub_msg=sub_msg or sub_code)


@dataclass(frozen=True, slots=True)
class TopCall:
    """A call whose sign was right."""

    params: Params
    desk: Desk


@dataclass(frozen=True, slots=True)
class TopMethod:
    """What answers a method; `rows` names the list in the answer and its elements, if there is one.

    An empty list is left out of the answer, as the platform does.
    """

    run: Callable[[TopCall], Mapping[str, object]]
    operation: str  # a key of faults.OPERATIONS
    rows: tuple[str, str] | None = None


class TopGateway:
    """One endpoint for all methods of the platform."""

    def __init__(
        self,
        keys: Mapping[str, str],
        desk: Desk,
        methods: Mapping[str, TopMethod],
        wall: Callable[[], float],
    ) -> None:
        self._keys = dict(keys)
        self._desk = desk
        self._methods = methods
        self._wall = wall

    def operation(self, request: Request) -> str:
        """Name what a call wants, in the words of the faults."""
        method = self._methods.get(read_params(request).get("method", ""))
        return method.operation if method else "top"

    def handle(self, request: Request) -> Answer:
        """Answer one call, success or not."""
        params = read_params(request)
        request_id = secrets.token_hex(6)
        try:
            method = self._checked(request, params)
            values = dict(method.run(TopCall(params, self._desk)))
        except TopError as error:
            return _error(error, params, request_id)
        simple = params.get("simplify") == "true"
        if method.rows is not None:
            name, element = method.rows
            rows = values.pop(name)
            if rows:
                values[name] = rows if simple else {element: rows}
        values["request_id"] = request_id
        root = params["method"].removeprefix("taobao.").replace(".", "_") + "_response"
        return _answer(root, values, params, simple=simple)

    def error_answer(self, error: ServiceError, request: Request) -> Answer:
        """Return the error of a fault: digits are the platform's code, else it is the service's."""
        params = read_params(request)
        if error.code.isdigit():
            refused = TopError(int(error.code))
        elif error.code.startswith("Throttling"):
            refused = call_limited()
        else:
            refused = business_error(error.code, error.message)
        return _error(refused, params, secrets.token_hex(6))

    def _checked(self, request: Request, params: Params) -> TopMethod:
        if request.method not in ("GET", "POST"):
            raise TopError(9)
        for name, missing in (("method", 21), ("app_key", 28), ("timestamp", 30), ("v", 32)):
            if not params.get(name):
                raise TopError(missing)
        if params["method"] not in self._methods:
            raise TopError(22)
        if params["app_key"] not in self._keys:
            raise TopError(29)
        if params["v"] != "2.0":
            raise TopError(33)
        if params.get("format") not in (None, "", "json", "xml"):
            raise TopError(23)
        self._check_time(params["timestamp"])
        if not params.get("sign"):
            raise TopError(24)
        sign_method = params.get("sign_method", "")
        if sign_method not in SIGN_METHODS:
            raise TopError(40 if not sign_method else 41, "sign_method")
        expected = sign_top(self._keys[params["app_key"]], params, sign_method)
        if not secrets.compare_digest(expected.encode(), params["sign"].encode()):
            raise TopError(25)
        return self._methods[params["method"]]

    def _check_time(self, text: str) -> None:
        try:
            at = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=BEIJING)
        except ValueError:
            raise TopError(31) from None
        # Against the wall: clients sign with real time even where the world's days pass at once.
        if abs(at.timestamp() - self._wall()) > MAX_SKEW_S:
            raise TopError(31)


def call_limited() -> TopError:
    """Return the refusal of a call too many."""
    return TopError(7, sub_code=CALL_LIMITED, sub_msg="This ban will last for 1 more seconds")


def _error(error: TopError, params: Params, request_id: str) -> Answer:
    values: dict[str, object] = {"code": error.code, "msg": error.text}
    if error.sub_code:
        values |= {"sub_code": error.sub_code, "sub_msg": error.sub_msg}
    # Whether `simplify` takes this wrapper away, too, no source says: a client looks for it first.
    return _answer("error_response", values | {"request_id": request_id}, params, simple=False)


def _answer(root: str, values: Mapping[str, object], params: Params, *, simple: bool) -> Answer:
    if params.get("format") == "json":
        body = json.dumps(
            values if simple else {root: values}, ensure_ascii=False, separators=(",", ":")
        )
        return Answer(200, body.encode(), "text/javascript;charset=UTF-8")
    text = f'<?xml version="1.0" encoding="utf-8" ?><{root}>{xml_values(values)}</{root}>'
    return Answer(200, text.encode(), "text/xml;charset=UTF-8")
