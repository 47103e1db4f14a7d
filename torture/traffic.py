"""Receipts that flow while the daemon dies and comes back: over MNS, over RocketMQ, and pushed."""

from collections.abc import Callable
from typing import Protocol

from torture.broker import BrokerTraffic
from torture.evidence import Truth
from torture.pusher import PushTraffic

MNS, ROCKETMQ, PUSH = "mns", "rocketmq", "push"
PULLERS = (MNS, ROCKETMQ, PUSH)


class Traffic(Protocol):
    """One kind of source, with receipts in it. `on_ack` is called with the envelope's id at the
    moment of each ack."""

    def config(self, database_url: str, *, threads: int = 2) -> str: ...
    def flow(self) -> None: ...
    def end_flow(self) -> None: ...
    def is_drained(self) -> bool: ...
    def truth(self) -> Truth: ...
    def close(self) -> None: ...


def open_traffic(puller: str, on_ack: Callable[[str], None]) -> Traffic:
    """Return the traffic of a kind of source; it does not flow yet."""
    if puller == PUSH:
        return PushTraffic(on_ack)
    return BrokerTraffic(on_ack, jushita=puller == ROCKETMQ)
