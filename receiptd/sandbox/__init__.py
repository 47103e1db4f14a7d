"""The providers on loopback: MNS, RocketMQ over HTTP, and the gateways of Aliyun, TOP and Polyv.

They are as strict as the real ones.

Imports nothing of the rest of receiptd, so that it stays an independent reading of the protocols.
"""

from receiptd.sandbox.clock import ManualClock
from receiptd.sandbox.dispatches import Sent, Truth
from receiptd.sandbox.facade import Sandbox
from receiptd.sandbox.faults import Fault
from receiptd.sandbox.journal import RequestEvent
from receiptd.sandbox.oddities import Oddities
from receiptd.sandbox.scenario import Scenario
from receiptd.sandbox.world import AckEvent

__all__ = [
    "AckEvent",
    "Fault",
    "ManualClock",
    "Oddities",
    "RequestEvent",
    "Sandbox",
    "Scenario",
    "Sent",
    "Truth",
]
