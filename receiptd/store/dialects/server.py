"""What PostgreSQL and MySQL have in common: a network in between, and a pool of connections."""

import select
from collections.abc import Callable
from typing import Any, TypeAlias

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DisconnectionError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from receiptd.errors import Problem, StoreError, StoreRejected, StoreUnavailable
from receiptd.store.dialects.base import Limits

PLACE = "database.url"
# One leader commits at a time; the rest is for progress, leases and retention beside it.
_POOLED = 2
_OVERFLOW = 4

# Takes what the driver's connect() would, and returns a connection that is ready for use.
Connect: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Any]


def url_problems(url: URL) -> list[Problem]:
    """Return what is wrong with the address of a server's database."""
    if url.database:
        return []
    rule = "names no database"
    return [Problem(PLACE, rule, cure="end it with the database's name: …://host/receiptd")]


def engine(url: URL, limits: Limits, connect: Connect, fileno: Callable[[Any], int]) -> Engine:
    """Build a pool whose connections `connect` opens; `fileno` returns a connection's socket."""
    made = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=_POOLED,
        max_overflow=_OVERFLOW,
        pool_timeout=limits.pool_s,
        hide_parameters=True,
    )

    def do_connect(
        dialect: Dialect, record: ConnectionPoolEntry, cargs: list[Any], cparams: dict[str, Any]
    ) -> Any:
        return connect(tuple(cargs), cparams)

    def refuse_if_closed(connection: Any, record: ConnectionPoolEntry, proxy: object) -> None:
        # Instead of pool_pre_ping, which costs a round trip per transaction: nothing arrives on an
        # idle connection but its end (and what we never ask for), so whatever does is a reason to
        # open a new one.
        if record.info.setdefault("is_new", True):
            record.info["is_new"] = False
        elif _has_news(fileno(connection)):
            raise DisconnectionError

    event.listen(made, "do_connect", do_connect)
    event.listen(made, "checkout", refuse_if_closed)
    return made


def _has_news(socket: int) -> bool:
    if socket < 0:
        return True
    poll = select.poll()
    poll.register(socket, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def cause(error: Exception) -> BaseException:
    """Return the driver's error in SQLAlchemy's wrapping."""
    return (error.orig or error) if isinstance(error, StatementError) else error


def translate(error: BaseException) -> StoreError | None:
    """Return what those errors mean that are no driver's own."""
    if isinstance(error, PoolTimeout):
        return StoreUnavailable("no connection became free in time")
    if isinstance(error, MemoryError):
        return StoreUnavailable("out of memory")
    if isinstance(error, OSError):
        return StoreUnavailable(f"the connection failed ({type(error).__name__})")
    # UnicodeEncodeError is a ValueError. The drivers raise them bare.
    if isinstance(error, (ValueError, OverflowError, TypeError)):
        return StoreRejected(f"the driver refused the data ({type(error).__name__})")
    return None
