"""What the built-in pullers ask of their configuration: endpoints and names."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from receiptd.config import SourceSettings
from receiptd.errors import Problem

# They go into a URL unquoted (the SDKs quote nothing), so only what needs no quoting.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,255}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}")


class Endpoint(msgspec.Struct, frozen=True):
    """Where a broker listens; `netloc` is what the Host header says."""

    https: bool
    host: str
    port: int
    netloc: str


def parse_endpoint(url: str) -> Endpoint:
    """Return the parts of `http(s)://host[:port]`. Raises ValueError for anything else."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("stray characters")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.path not in ("", "/"):
        raise ValueError("scheme or path")
    if "?" in url or "#" in url or "@" in url or "\\" in url:
        raise ValueError("more than host and port")
    host = parts.hostname or ""
    if not (_IPV6.fullmatch(host) if ":" in host else _HOST.fullmatch(host)):
        raise ValueError("host")
    port = parts.port  # raises ValueError beyond 65535
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("port")
    https = parts.scheme == "https"
    return Endpoint(https, host, port or (443 if https else 80), parts.netloc)


def endpoint_problem(place: str, url: str) -> Problem | None:
    """Return what is wrong with an endpoint, if anything."""
    try:
        parse_endpoint(url)
    except ValueError:
        # One with a user and password in it must not end up in a log.
        return Problem(
            place,
            "must be http:// or https://, a host and perhaps a port, without a path",
            "" if "@" in url else repr(url),
            "for example https://1234567890.mns.cn-hangzhou.aliyuncs.com",
        )
    return None


def name_problems(name: str, source: SourceSettings, *keys: str) -> Iterator[Problem]:
    """Yield a problem for each of `keys` that is set and holds more than letters, digits, `._-`."""
    for key in keys:
        value = getattr(source, key)
        if value and not _NAME.fullmatch(value):
            yield Problem(
                f"sources.{name}.{key}",
                "may hold up to 256 letters, digits, dots, underscores and hyphens",
                repr(value),
                "copy it from the console",
            )


def missing_problems(name: str, source: SourceSettings, *keys: str) -> Iterator[Problem]:
    """Yield a problem for each of `keys` that is not set."""
    for key in keys:
        if not getattr(source, key):
            yield Problem(
                f"sources.{name}.{key}", f"is required for puller {source.puller!r}", "", "set it"
            )
