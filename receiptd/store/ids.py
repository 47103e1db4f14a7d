"""Finding a time among ids that rise with it, without an index on the time."""

from datetime import datetime

from sqlalchemy import Connection, Table, func, select


def last_id_before(
    connection: Connection,
    table: Table,
    cutoff: datetime,
    *,
    above: int | None = None,
    until: int | None = None,
) -> int:
    """Return an id, of (`above`, `until`] or of all, that no row of `table` created before `cutoff`
    is above; one below the first if none was. 0 for an empty table.

    Halves the ids, some 24 probes of the primary key at ten million rows: an index on a time would
    cost every receipt on its way in for the sake of a search now and then. Raises the driver's
    errors.
    """
    ids = table.c.id
    # Two statements, because SQLite reads the whole table for both at once.
    low: int | None = above + 1 if above is not None else connection.scalar(select(func.min(ids)))
    high: int | None = until if until is not None else connection.scalar(select(func.max(ids)))
    if low is None or high is None:
        return 0
    while low <= high:
        middle = (low + high) // 2
        probe = select(ids, table.c.created_at).where(ids >= middle).order_by(ids).limit(1)
        found = connection.execute(probe).first()
        if found is None or found.created_at >= cutoff:
            high = middle - 1
        else:
            low = found.id + 1
    return low - 1
