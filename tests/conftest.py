"""What all tests share."""

import os

import pytest


@pytest.fixture(autouse=True)
def no_configuration_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own RECEIPTD_… variables and systemd's out of the tests."""
    for name in list(os.environ):
        if name.upper().startswith("RECEIPTD_") or name in (
            "CREDENTIALS_DIRECTORY",
            "NOTIFY_SOCKET",
        ):
            monkeypatch.delenv(name)
