"""What all of reconciliation shares."""

import threading
from collections.abc import Callable

import msgspec

from receiptd.clock import Clock
from receiptd.gate import Gate
from receiptd.reconcile.schedule import Schedule
from receiptd.store import Store


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What the reconciliation of every account needs of the process that it runs in."""

    store: Store
    schedule: Schedule
    per_second: float
    instance: str
    store_gate: Gate
    stopping: threading.Event
    clock: Clock
    # For the metrics: what became of a call, and how many sends are lost, of an account.
    told: Callable[[str, str], None] = lambda account, word: None
    lost: Callable[[str, int], None] = lambda account, count: None
