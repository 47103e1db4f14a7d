"""A broker to pull from, and a certificate authority to trust."""

import ssl
from collections.abc import Iterator

import pytest
import trustme

from receiptd.sandbox import Sandbox


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def roots_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("roots") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(params=["http", "https"])
def sandbox(
    request: pytest.FixtureRequest,
    server_tls: ssl.SSLContext,
    roots_file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sandbox]:
    tls = server_tls if request.param == "https" else None
    monkeypatch.setenv("SSL_CERT_FILE", roots_file)
    with Sandbox(tls=tls, virtual_time=True) as sandbox:
        yield sandbox
