"""What all tests share."""

import os
import signal
from collections.abc import Generator

import pytest

from receiptd import log
from tests.canaries import CANARIES

# Secrets and phones that run through the tests, the sandbox's keys among them.
_NEVER_LOGGED = (*CANARIES, "testSK", "topSecret", "13900000001")

_FROM_OUTSIDE = (
    "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES",
)  # fmt: skip


def pytest_configure() -> None:
    """Let the programs that the tests start mind Ctrl-C and a hang-up, though nohup or a script's
    `&` has these tests ignore them: what is ignored is inherited, a handler is not."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


@pytest.fixture(autouse=True)
def everything_is_logged() -> None:
    """Let receiptd log all it can, so that what must not be logged would be seen."""
    log.configure("json", "debug")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail any test, whatever it is about, in whose log a secret or a whole phone number stands."""
    report = yield
    lines = [line for line in report.capstderr.splitlines() if line.startswith('{"at":')]
    for line in lines:
        for canary in _NEVER_LOGGED:
            if canary in line and report.passed:
                report.outcome = "failed"
                report.longrepr = f"{canary!r} was logged: {line[:300]}"
    return report


@pytest.fixture(autouse=True)
def no_configuration_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's RECEIPTD_… variables, systemd's and the language out of the tests."""
    for name in list(os.environ):
        if name.upper().startswith("RECEIPTD_") or name in _FROM_OUTSIDE:
            monkeypatch.delenv(name)
