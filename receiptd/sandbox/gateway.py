"""The RPC gateway: reads a call wherever its parameters are, checks who signed it, runs the action.

The actions are registered in `ACTIONS`; the other gateways (TOP, Polyv) are modules beside this one
that use the same desk.
"""

import hashlib
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl
from uuid import uuid4

from receiptd.sandbox.credentials import MAX_SKEW_S, Keyring
from receiptd.sandbox.documents import xml_values
from receiptd.sandbox.exchange import Answer, Request, ServiceError
from receiptd.sandbox.signature import (
    acs3_string_to_sign,
    rpc_string_to_sign,
    sign_acs3,
    sign_rpc,
)
from receiptd.sandbox.sms import Desk

ACS3 = "ACS3-HMAC-SHA256"
_NONCES_KEPT = 100_000
_QUERIES = {"QuerySendDetails": "query_details", "QuerySendStatistics": "query_statistics"}

Value = str | int | Mapping[str, object] | list[object]
Params = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """A call whose signature was right."""

    action: str
    params: Params
    desk: Desk
    keyring: Keyring


Action = Callable[[Call], Mapping[str, Value]]


class BusinessError(Exception):
    """The product refuses: HTTP 200 and a Code that is not OK."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def required(params: Params, *names: str) -> None:
    """Refuse a call as the gateway does if a mandatory parameter is missing or empty."""
    for name in names:
        if not params.get(name):
            raise ServiceError(400, f"Missing{name}", f"{name} is mandatory for this action.")


class Gateway:
    """One endpoint for all RPC products."""

    def __init__(
        self, keyring: Keyring, desk: Desk, actions: Mapping[str, tuple[str, Action]]
    ) -> None:
        self._keyring = keyring
        self._desk = desk
        self._actions = actions
        self._nonces: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def handle(self, request: Request) -> Answer:
        """Answer one call, success or not."""
        params = read_params(request)
        request_id = str(uuid4()).upper()
        action = _action_name(request, params)
        as_json = params.get("Format", "JSON" if _is_acs3(request) else "XML").upper() == "JSON"
        status = 200
        values: dict[str, Value]
        try:
            self._authenticate(request, params)
            version, run = self._find(action)
            asked = params.get("Version") or request.headers.get("x-acs-version", "")
            if asked != version:
                raise ServiceError(
                    400, "InvalidVersion", "Specified parameter Version is not valid."
                )
            result = run(Call(action, params, self._desk, self._keyring))
            values = {"RequestId": request_id, "Code": "OK", "Message": "OK", **result}
        except BusinessError as error:
            values = {"RequestId": request_id, "Code": error.code, "Message": error.message}
        except ServiceError as error:
            status = error.status
            return self.error_answer(error, request, request_id, as_json=as_json)
        return _answer(status, f"{action}Response", values, request_id, as_json=as_json)

    def error_answer(
        self, error: ServiceError, request: Request, request_id: str = "", *, as_json: bool = True
    ) -> Answer:
        """Return an error in the gateway's form; at status 200 it is the product's."""
        request_id = request_id or str(uuid4()).upper()
        if error.status == 200:
            root = f"{_action_name(request, read_params(request))}Response"
            refused = {"RequestId": request_id, "Code": error.code, "Message": error.message}
            return _answer(200, root, refused, request_id, as_json=as_json)
        values: dict[str, Value] = {
            "RequestId": request_id,
            "HostId": request.headers.get("host", ""),
            "Code": error.code,
            "Message": error.message,
            "Recommend": f"https://api.aliyun.com/troubleshoot?q={error.code}",
        }
        return _answer(error.status, "Error", values, request_id, as_json=as_json)

    def _find(self, action: str) -> tuple[str, Action]:
        if not action:
            raise ServiceError(400, "MissingAction", "Action is mandatory for this action.")
        if action not in self._actions:
            raise ServiceError(
                404,
                "InvalidAction.NotFound",
                "Specified api is not found, please check your url and method.",
            )
        return self._actions[action]

    def _authenticate(self, request: Request, params: Params) -> None:
        if _is_acs3(request):
            self._check_acs3(request)
        else:
            self._check_version_1(request, params)

    def _check_version_1(self, request: Request, params: Params) -> None:
        required(params, "AccessKeyId", "Signature", "SignatureNonce", "Timestamp")
        if params.get("SignatureMethod", "HMAC-SHA1") != "HMAC-SHA1":
            raise ServiceError(400, "InvalidSignatureMethod", "Only HMAC-SHA1 is spoken here.")
        secret = self._secret(params["AccessKeyId"])
        self._check_time(params["Timestamp"])
        expected = sign_rpc(secret, request.method, params)
        if not secrets.compare_digest(expected.encode(), params["Signature"].encode()):
            raise _mismatch(rpc_string_to_sign(request.method, params))
        self._use_nonce(params["AccessKeyId"], params["SignatureNonce"])

    def _check_acs3(self, request: Request) -> None:
        text = request.headers["authorization"][len(ACS3) :].strip()
        given = dict(part.strip().partition("=")[::2] for part in text.split(","))
        if not {"Credential", "SignedHeaders", "Signature"} <= given.keys():
            raise ServiceError(
                400, "IncompleteSignature", "The Authorization header is incomplete."
            )
        headers = request.headers
        for name in ("x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"):
            if not headers.get(name):
                raise ServiceError(400, "MissingHeader", f"{name} is mandatory.")
        secret = self._secret(given["Credential"])
        self._check_time(headers["x-acs-date"])
        payload_hash = hashlib.sha256(request.body).hexdigest()
        if headers["x-acs-content-sha256"] != payload_hash:
            raise ServiceError(
                400, "InvalidContentSha256", "x-acs-content-sha256 is not the body's."
            )
        string_to_sign = acs3_string_to_sign(
            request.method,
            request.path,
            request.query,
            headers,
            given["SignedHeaders"],
            payload_hash,
        )
        expected = sign_acs3(secret, string_to_sign)
        if not secrets.compare_digest(expected.encode(), given["Signature"].encode()):
            raise _mismatch(string_to_sign)
        self._use_nonce(given["Credential"], headers["x-acs-signature-nonce"])

    def _secret(self, key_id: str) -> str:
        secret = self._keyring.access_keys.get(key_id)
        if secret is None:
            raise ServiceError(
                404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."
            )
        return secret

    def _check_time(self, text: str) -> None:
        try:
            at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise ServiceError(
                400,
                "InvalidTimeStamp.Format",
                "Specified time stamp or date value is not well formatted.",
            ) from None
        if abs(at - self._keyring.wall()) > MAX_SKEW_S:
            raise ServiceError(
                400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."
            )

    def _use_nonce(self, key_id: str, nonce: str) -> None:
        mark = f"{key_id}/{nonce}"
        with self._lock:
            if mark in self._nonces:
                raise ServiceError(
                    400, "SignatureNonceUsed", "Specified signature nonce was used already."
                )
            self._nonces[mark] = None
            if len(self._nonces) > _NONCES_KEPT:
                self._nonces.popitem(last=False)


def operation(request: Request) -> str:
    """Name what a call wants, in the words of the faults."""
    action = _action_name(request, read_params(request))
    if action == "QueryTokenForMnsQueue":
        return "token"
    if action in _QUERIES:
        return _QUERIES[action]
    if action.startswith("Send"):
        return "send_sms"
    return "query" if action.startswith("Query") else "rpc"


def read_params(request: Request) -> dict[str, str]:
    """Return the parameters of query and form body together."""
    return dict(request.query) | dict(parse_qsl(request.form, keep_blank_values=True))


def _is_acs3(request: Request) -> bool:
    return request.headers.get("authorization", "").startswith(ACS3)


def _action_name(request: Request, params: Params) -> str:
    return params.get("Action") or request.headers.get("x-acs-action", "")


def _mismatch(string_to_sign: str) -> ServiceError:
    # The real gateway tells what it signed; the SDKs compare that with what they signed.
    return ServiceError(
        400,
        "SignatureDoesNotMatch",
        "Specified signature is not matched with our calculation. "
        f"server string to sign is:{string_to_sign}",
    )


def _answer(
    status: int, root: str, values: Mapping[str, Value], request_id: str, *, as_json: bool
) -> Answer:
    headers = (("x-acs-request-id", request_id),)
    if as_json:
        body = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
        return Answer(status, body, "application/json;charset=utf-8", headers)
    text = f'<?xml version="1.0" encoding="UTF-8"?><{root}>{xml_values(values)}</{root}>'
    return Answer(status, text.encode(), "text/xml;charset=utf-8", headers)
