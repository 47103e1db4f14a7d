"""`receiptd sandbox`: the providers as a process of their own, until SIGINT or SIGTERM."""

from collections.abc import Callable, Mapping
from pathlib import Path

from receiptd.sandbox.facade import QUEUE_PREFIX, TOPIC, Sandbox
from receiptd.sandbox.scenario import Scenario

DEFAULT_LISTEN = "127.0.0.1:8700"


def serve(
    listen: str = DEFAULT_LISTEN,
    *,
    access_keys: Mapping[str, str] | None = None,
    top_keys: Mapping[str, str] | None = None,
    polyv_apps: Mapping[str, str] | None = None,
    queue_prefix: str = QUEUE_PREFIX,
    topic: str = TOPIC,
    scenario: Scenario | Path | None = None,
    tokens_only: bool = False,
    token_lifetime_s: float = 600,
    visibility_s: float = 30,
    virtual_time: bool = False,
    ready: Callable[[Sandbox], object] = lambda sandbox: None,
) -> None:
    """Block until SIGINT or SIGTERM; `ready` is called once connections are accepted.

    Raises:
        ValueError: `listen` is no address, or the scenario is wrong (each wrong key is named).
        OSError: the port is taken.
    """
    host, port = listen_address(listen)
    if isinstance(scenario, Path):
        scenario = Scenario.from_file(scenario)
    sandbox = Sandbox(
        scenario=scenario,
        host=host,
        port=port,
        access_keys=access_keys,
        top_keys=top_keys,
        polyv_apps=polyv_apps,
        queue_prefix=queue_prefix,
        topic=topic,
        tokens_only=tokens_only,
        token_lifetime_s=token_lifetime_s,
        visibility_s=visibility_s,
        virtual_time=virtual_time,
    )
    sandbox.serve(lambda: ready(sandbox))


def listen_address(listen: str) -> tuple[str, int]:
    """Read `host:port` (`[::1]:8700` for IPv6)."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{listen!r} is not host:port")
    return host.strip("[]") or "127.0.0.1", int(port)
