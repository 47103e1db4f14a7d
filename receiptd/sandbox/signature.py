"""The signatures of all protocols, computed from the published rules and nothing else."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote


def _hmac_sha1(secret: str, text: str) -> str:
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def sign_queue_request(
    secret: str, method: str, target: str, headers: Mapping[str, str], header_prefix: str
) -> str:
    """Sign an MNS (`x-mns-`) or RocketMQ (`x-mq-`) request; header names are lower case."""
    own_headers = sorted(name for name in headers if name.startswith(header_prefix))
    text = "\n".join(
        [
            method,
            headers.get("content-md5", ""),
            headers.get("content-type", ""),
            headers.get("date", ""),
            *(f"{name}:{headers[name]}" for name in own_headers),
            target,
        ]
    )
    return _hmac_sha1(secret, text)


def percent_encode(text: str) -> str:
    """Encode after RFC 3986 as Aliyun's gateway wants it: space is %20, `*` is %2A, `~` stays."""
    return quote(text, safe="~")


def canonical_query(params: Mapping[str, str]) -> str:
    """Sort by name, encode, join."""
    return "&".join(f"{percent_encode(k)}={percent_encode(v)}" for k, v in sorted(params.items()))


def rpc_string_to_sign(method: str, params: Mapping[str, str]) -> str:
    """Return what version 1.0 signs: all parameters of query and body but Signature itself."""
    signed = {name: value for name, value in params.items() if name != "Signature"}
    return f"{method}&%2F&{percent_encode(canonical_query(signed))}"


def sign_rpc(secret: str, method: str, params: Mapping[str, str]) -> str:
    """Sign an RPC request, signature version 1.0, HMAC-SHA1."""
    return _hmac_sha1(secret + "&", rpc_string_to_sign(method, params))


def acs3_string_to_sign(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    signed_headers: str,
    payload_hash: str,
) -> str:
    """Return what ACS3-HMAC-SHA256 signs."""
    lines = "".join(
        f"{name}:{headers.get(name, '').strip()}\n" for name in signed_headers.split(";")
    )
    canonical = "\n".join(
        [method, path, canonical_query(query), lines, signed_headers, payload_hash]
    )
    return f"ACS3-HMAC-SHA256\n{hashlib.sha256(canonical.encode()).hexdigest()}"


def sign_acs3(secret: str, string_to_sign: str) -> str:
    """Sign with ACS3-HMAC-SHA256."""
    return hmac.new(secret.encode(), string_to_sign.encode(), hashlib.sha256).hexdigest()


def _pairs(params: Mapping[str, str]) -> str:
    # A value that is empty is not signed: the vendors' SDKs all leave it out.
    return "".join(
        name + value for name, value in sorted(params.items()) if value and name != "sign"
    )


def sign_top(secret: str, params: Mapping[str, str], sign_method: str) -> str:
    """Sign a TOP call; KeyError if the method is none of md5, hmac and hmac-sha256."""
    text = _pairs(params)
    signed = {
        "md5": lambda: hashlib.md5(
            f"{secret}{text}{secret}".encode(), usedforsecurity=False
        ).hexdigest(),
        "hmac": lambda: hmac.new(secret.encode(), text.encode(), hashlib.md5).hexdigest(),
        "hmac-sha256": lambda: hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest(),
    }[sign_method]()
    return signed.upper()


def sign_polyv(secret: str, params: Mapping[str, str]) -> str:
    """Sign the query of a Polyv call; its body is not signed."""
    text = f"{secret}{_pairs(params)}{secret}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()
