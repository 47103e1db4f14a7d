"""How many rows a store holds. On a connection of its reader, which never waits for a writer."""

from sqlalchemy import Column, func, select

from receiptd.store import Store
from receiptd.store.schema import journal, receipts


def by_status(store: Store) -> dict[str, int]:
    """Return status -> receipts; what has none is left out. Raises StoreUnavailable."""
    return _by(store, receipts.c.status)


def by_outcome(store: Store) -> dict[str, int]:
    """Return outcome -> journal rows, as `by_status`."""
    return _by(store, journal.c.outcome)


def _by(store: Store, column: Column[str]) -> dict[str, int]:
    query = select(column, func.count()).group_by(column)
    with store.reading() as connection:
        return {word: count for word, count in connection.execute(query)}
