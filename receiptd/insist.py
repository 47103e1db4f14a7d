"""What is asked of the database is asked until it answers: at the start, and for every batch."""

import threading
from collections.abc import Callable
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from receiptd.errors import StoreUnavailable, let_go
from receiptd.gate import Gate, do_nothing

T = TypeVar("T")


def insist(
    operation: Callable[[], T],
    gate: Gate,
    stopping: threading.Event,
    log: FilteringBoundLogger,
    waiting: Callable[[], None] = do_nothing,
) -> T | None:
    """Return what `operation` returns, however long the database is away; None if `stopping` came
    first.

    The outage is told when it begins and when it ends. `waiting` is called a few times a second
    while it lasts. Raises whatever `operation` raises, but for StoreUnavailable.
    """
    while True:
        with gate.attempt(stopping, waiting) as attempt:
            if attempt is None:
                return None
            try:
                result = operation()
            except StoreUnavailable as exc:
                if attempt.failed():
                    log.error("store.lost", error=str(exc))
                let_go(exc)
                continue
            if outage := attempt.succeeded():
                log.info(
                    "store.recovered", outage_s=round(outage.seconds, 1), attempts=outage.attempts
                )
            return result
