"""Checks of `[accounts.<name>]` that providers share. Pure; secrets never enter a Problem."""

import re
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from receiptd.config import AccountSettings
from receiptd.errors import Problem

# A trailing newline in a secret signs wrongly without any error, one in an id fails with a text
# that holds the id (pitfalls S4).
_KEY = re.compile(r"[A-Za-z0-9._-]+")


def check_keys(name: str, keys: Iterable[tuple[str, str]], *, needed: bool) -> list[Problem]:
    """Return a problem for each (setting, value) that is missing or could not be a key."""
    found = []
    for setting, value in keys:
        place = f"accounts.{name}.{setting}"
        if not value:
            if needed:
                found.append(Problem(place, "is missing", cure="copy it from the console"))
        elif not _KEY.fullmatch(value):
            found.append(
                Problem(
                    place,
                    "may hold letters, digits, dot, underscore and dash only",
                    value="(hidden)",
                    cure="look for a space or a line break at its end",
                )
            )
    return found


def check_endpoints(
    name: str,
    account: AccountSettings,
    known: Collection[str],
    *,
    with_path: Collection[str] = (),
) -> list[Problem]:
    """Return a problem for each endpoint that is unknown or not `http(s)://host[:port]`.

    Those in `with_path` may have a path, too.
    """
    found = []
    for service, url in account.endpoints.items():
        place = f"accounts.{name}.endpoints.{service}"
        if service not in known:
            # Passed over, it would send to the real service what was meant for a test.
            cure = "known: " + ", ".join(sorted(known))
            found.append(Problem(place, "is no service of this provider", cure=cure))
        elif not _is_base_url(url, path_allowed=service in with_path):
            cure = "write https://host or https://host:port"
            # Not shown: a URL can hold a password.
            found.append(Problem(place, "is not an http(s) URL without a path", cure=cure))
    return found


def _is_base_url(url: str, *, path_allowed: bool) -> bool:
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url
    return (
        plain
        and port_ok
        and parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and "@" not in parts.netloc
        and (path_allowed or parts.path in ("", "/"))
        and not (parts.query or parts.fragment or "?" in url or "#" in url)
    )
