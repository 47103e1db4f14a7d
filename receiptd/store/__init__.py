"""The database: schema, merge, and the writer that makes a batch durable. It knows no transport
and no provider."""

from receiptd.store.progress import ProgressCounts
from receiptd.store.store import Store, open_store
from receiptd.store.writer import SaveResult

__all__ = ["ProgressCounts", "SaveResult", "Store", "open_store"]
