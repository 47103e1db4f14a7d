"""How all instances are doing, from the database alone: so that it works from anywhere, and when no
daemon answers. `shape` is the answer, `reader` makes it, `shown` writes it as JSON."""

from receiptd.status.reader import BUDGET_S, SILENT_AFTER, StatusReader
from receiptd.status.shape import Account, Counted, Database, Instance, Source, Status

__all__ = [
    "BUDGET_S",
    "SILENT_AFTER",
    "Account",
    "Counted",
    "Database",
    "Instance",
    "Source",
    "Status",
    "StatusReader",
]
