"""Who may ask: the bearer token, the secret in a push's path, and whom a browser is sent by."""

import hmac
from base64 import b64decode
from collections.abc import Mapping
from urllib.parse import urlsplit

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class Access:
    """Judges requests by their headers. Stateless."""

    def __init__(self, token: str, host: str) -> None:
        """`token` is "" where none is configured, which is allowed on loopback only; `host` is the
        one listened on."""
        self._token = token.encode()
        self._hosts = {*_LOCAL_NAMES, host.lower()}

    @property
    def needs_token(self) -> bool:
        return bool(self._token)

    def shows_token(self, method: str, authorization: str) -> bool:
        """Return whether an Authorization header holds the token: as `Bearer`, or, to read with a
        browser, as the password of `Basic`. Takes the same time for every wrong one."""
        scheme, _, value = authorization.partition(" ")
        shown = b""
        if scheme.lower() == "bearer":
            shown = value.strip().encode()
        elif scheme.lower() == "basic" and method in ("GET", "HEAD"):
            shown = _password(value)
        return bool(self._token) and hmac.compare_digest(shown, self._token)

    def is_meant(self, headers: Mapping[str, str]) -> bool:
        """Return whether the request was meant for us: a web page elsewhere can make a browser
        send one (by a name that it lets point at loopback, or from its own origin).

        With a token there is nothing to be had that way by name; where a proxy stands in front,
        any name is right.
        """
        host = headers.get("host", "")
        if not self._token and _name_of(host) not in self._hosts:
            return False
        origin = headers.get("origin")
        return origin is None or urlsplit(origin).netloc.lower() == host.lower()


def same(shown: str, secret: str) -> bool:
    """Compare a secret in the same time, whatever is wrong about it; "" is none."""
    return bool(secret) and hmac.compare_digest(shown.encode(errors="replace"), secret.encode())


def _password(value: str) -> bytes:
    try:
        return b64decode(value.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _name_of(host: str) -> str:
    """Return the Host header without its port and brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
