"""A table in pages by id: any number of rows in flat memory, a short read transaction a page.

The last id is looked up once, so that reading ends beside live traffic. A row keeps its id as long
as it lives: so what was there at the beginning and stays is read once, and what comes meanwhile may
be read or not.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Row, Select, Table, and_, func, select

PAGE_ROWS = 2000
# How many ids one statement looks through at most, whatever it finds: some milliseconds, far from
# any limit on statements, however rare the rows are that are wanted.
_WINDOW_IDS = 20_000

# Opens a short read transaction that ends with the block (`Store.reading`).
Reading: TypeAlias = Callable[[], AbstractContextManager[Connection]]


class Page(msgspec.Struct, frozen=True):
    """Some rows in the order of their ids, perhaps none, and what share of the ids is behind. A row
    is its id and the columns asked for."""

    rows: Sequence[Row[Any]]
    done: float  # 0 to 1


def pages(
    reading: Reading,
    table: Table,
    columns: Sequence[Column[Any]],
    *wanted: ColumnElement[bool],
    page_rows: int = PAGE_ROWS,
) -> Iterator[Page]:
    """Yield the id and `columns` of all rows that are `wanted`, at most `page_rows` at a time.

    No transaction is open while the caller has a page. Raises StoreUnavailable.
    """
    with reading() as connection:
        # Two statements, because SQLite reads the whole table for both at once.
        first = connection.scalar(select(func.min(table.c.id)))
        last = connection.scalar(select(func.max(table.c.id)))
    if first is None or last is None:
        return
    after = first - 1
    width = page_rows
    while after < last:
        with reading() as connection:
            begin: int | None = connection.scalar(
                _next_id(table, after)
            )  # past ids that were deleted
            if begin is None or begin > last:
                return
            end = min(last, begin + width - 1)
            window = and_(table.c.id.between(begin, end), *wanted)
            some = select(table.c.id, *columns).where(window).order_by(table.c.id)
            found = connection.execute(some.limit(page_rows)).all()
        after = found[-1].id if len(found) == page_rows else end
        # No wider than it must be: PostgreSQL without statistics would sort all of it for a page.
        width = min(2 * width, _WINDOW_IDS) if 2 * len(found) < page_rows else page_rows
        yield Page(found, (after - first + 1) / (last - first + 1))


def _next_id(table: Table, after: int) -> Select[Any]:
    return select(table.c.id).where(table.c.id > after).order_by(table.c.id).limit(1)
