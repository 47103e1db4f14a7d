"""What the handlers are given; built once by the daemon."""

from collections.abc import Mapping

import msgspec

from receiptd.clock import Clock
from receiptd.config import Settings
from receiptd.ledger import Ledger
from receiptd.metrics import Metrics
from receiptd.pullers.push import Inbox
from receiptd.store import Store
from receiptd.web.access import Access
from receiptd.web.health import Health
from receiptd.web.work import Pool


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """One daemon's parts, as its HTTP sees them.

    A handler runs in the event loop and must not block: what asks the database is a function that
    runs as `await parts.pool.run(function, *arguments)`, and its StoreError and Busy are answered
    by the application with 503. `request.state.trusted` says whether the caller showed the token:
    every phone in an answer is masked without.
    """

    settings: Settings
    store: Store
    ledger: Ledger
    clock: Clock
    health: Health
    metrics: Metrics
    access: Access
    pool: Pool
    inboxes: Mapping[str, Inbox] = {}
