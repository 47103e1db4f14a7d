"""What systemd hears, on a real socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptd.systemd import Notifier, watchdog_interval_s


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A socket as systemd makes it, and the name by which it tells us."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@receiptd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listening.setblocking(False)
        yield name, listening


def test_states_arrive_in_one_datagram(listener: tuple[str, socket.socket]) -> None:
    name, listening = listener

    Notifier({"NOTIFY_SOCKET": name}).notify("READY=1", "STATUS=two sources")

    assert listening.recv(4096) == b"READY=1\nSTATUS=two sources"


def test_a_newline_in_a_status_begins_no_other_state(listener: tuple[str, socket.socket]) -> None:
    name, listening = listener

    Notifier({"NOTIFY_SOCKET": name}).notify("STATUS=a\nSTOPPING=1")

    assert listening.recv(4096) == b"STATUS=a STOPPING=1"


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/notify", "@receiptd-nobody-listens"])
def test_nothing_happens_without_systemd(name: str) -> None:
    Notifier({"NOTIFY_SOCKET": name}).notify("READY=1")
    Notifier({}).notify("READY=1")


def test_a_full_socket_holds_nobody_back(listener: tuple[str, socket.socket]) -> None:
    name, listening = listener
    notifier = Notifier({"NOTIFY_SOCKET": name})

    for _ in range(10_000):
        notifier.notify("WATCHDOG=1")

    assert listening.recv(4096) == b"WATCHDOG=1"


def test_the_watchdog_is_fed_twice_as_often_as_it_asks() -> None:
    environ = {"WATCHDOG_USEC": "60000000"}

    assert watchdog_interval_s(environ) == 30.0
    assert watchdog_interval_s({**environ, "WATCHDOG_PID": str(os.getpid())}) == 30.0
    assert Notifier(environ).watchdog_interval_s == 30.0


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog_waits_for_us(environ: dict[str, str]) -> None:
    assert watchdog_interval_s(environ) is None


def test_the_unit_says_what_the_daemon_does() -> None:
    unit = read_unit()

    assert unit["Type"] == ["notify"]
    assert unit["TimeoutStopSec"] == ["10"]  # above the drain's 8 s
    assert unit["RestartPreventExitStatus"] == ["78"]
    assert unit["WatchdogSec"] == ["60"]
    assert unit["StateDirectory"] == ["receiptd"]
    assert unit["ExecStart"][0].endswith("receiptd run --config /etc/receiptd/config.toml")
    [credential] = unit["LoadCredential"]
    assert credential.startswith("accounts.main.access_key_secret:/")


@pytest.mark.parametrize(
    "directive",
    [
        "DynamicUser=yes",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "MemoryDenyWriteExecute=yes",
        "CapabilityBoundingSet=",
        "RestrictNamespaces=yes",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "SystemCallFilter=@system-service",
        "UMask=0077",
    ],
)
def test_the_unit_is_hardened(directive: str) -> None:
    key, _, value = directive.partition("=")

    assert value in read_unit()[key]


def read_unit() -> dict[str, list[str]]:
    """Return the unit's directives; one may stand more than once."""
    text = (Path(__file__).parent.parent / "systemd" / "receiptd.service").read_text()
    unit: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            unit.setdefault(key, []).append(value)
    return unit
