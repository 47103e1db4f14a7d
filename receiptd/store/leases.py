"""Leases: work that one instance does at a time, and another takes over if it dies.

A lease spares work that several would do twice; it is no fence. A machine that was suspended in the
middle of a transaction may end it beside its successor, so what is done under a lease must also be
right if two do it.
"""

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    Interval,
    func,
    insert,
    literal,
    select,
    text,
    type_coerce,
    update,
)

from receiptd.clock import Clock
from receiptd.errors import StoreRejected
from receiptd.store.schema import leases
from receiptd.store.types import UTC

# Opens a short transaction that ends with the block; translates the driver's errors.
Transaction: TypeAlias = Callable[[], AbstractContextManager[Connection]]

# Of a term: how much earlier than the database a holder takes its lease for lost, so that what it
# began in time also ends in time: a tenth of four minutes is two of the longest statements.
_MARGIN = 0.1
_LONGEST_NAME = leases.c.holder.type.length - 9  # type: ignore[attr-defined]


def database_time(
    connection: Connection, clock: Clock, after_s: float = 0
) -> ColumnElement[datetime]:
    """Return the time `after_s` seconds from now as an expression for one statement.

    A server's own clock, because those of several machines differ and the one that is wrong would
    take every lease (or delete every row). All who use an SQLite file are on one machine, with one
    clock: `clock`.
    """
    later = timedelta(seconds=after_s)
    name = connection.dialect.name
    if name == "postgresql":
        now = func.clock_timestamp(type_=DateTime(timezone=True))
        return type_coerce(now + literal(later, Interval()), UTC())
    if name in ("mysql", "mariadb"):
        # TIMESTAMPADD, because INTERVAL takes no parameter of ours.
        micros = later // timedelta(microseconds=1)
        return func.timestampadd(text("MICROSECOND"), micros, text("UTC_TIMESTAMP(6)"), type_=UTC())
    return literal(clock.now() + later, UTC())


def read_time(connection: Connection, clock: Clock) -> datetime:
    """Return what `database_time` is now. Raises the driver's errors."""
    return connection.execute(select(database_time(connection, clock))).scalar_one()


class Leases:
    """The leases as one instance holds them. Thread-safe for different names.

    All methods but `holds` raise StoreUnavailable; then nothing is known about what the database
    did, and what was held is still held until it runs out.
    """

    def __init__(self, transaction: Transaction, instance: str, clock: Clock) -> None:
        """`instance` is for people who read the table; a random part makes it unique, because a
        process in a container has the same name and number after a restart."""
        self.holder = f"{instance[:_LONGEST_NAME]}/{secrets.token_hex(4)}"
        self._transaction = transaction
        self._clock = clock
        self._held_until: dict[str, float] = {}

    def acquire(self, name: str, term_s: float) -> bool:
        """Take the lease for `term_s` seconds from now if it is free, run out or ours; return
        whether it is ours."""
        return self._extend(name, term_s, expired_too=True) or (
            not self._exists(name) and self._create(name, term_s)
        )

    def renew(self, name: str, term_s: float) -> bool:
        """Extend our lease to `term_s` seconds from now; return False if somebody else took it."""
        return self._extend(name, term_s, expired_too=False)

    def release(self, name: str) -> None:
        """Let others have the lease at once, if it is ours."""
        self._held_until.pop(name, None)
        with self._transaction() as connection:
            ours = (leases.c.name == name) & (leases.c.holder == self.holder)
            # The row stays: taking over a row is one statement, making the first one is a race.
            now = database_time(connection, self._clock)
            connection.execute(update(leases).where(ours).values(until=now))

    def holds(self, name: str) -> bool:
        """Return whether the lease is ours for some time yet; asks nobody. Look before each step.

        By the monotonic clock, counted from before the database was asked, less a tenth of the
        term: the holder stops before anybody else can begin.
        """
        return self._clock.monotonic() < self._held_until.get(name, 0.0)

    def _extend(self, name: str, term_s: float, *, expired_too: bool) -> bool:
        asked_at = self._clock.monotonic()
        with self._transaction() as connection:
            free: ColumnElement[bool] = leases.c.holder == self.holder
            if expired_too:
                free |= leases.c.until <= database_time(connection, self._clock)
            until = database_time(connection, self._clock, term_s)
            taken = update(leases).where(leases.c.name == name, free)
            ours = connection.execute(taken.values(holder=self.holder, until=until)).rowcount == 1
        self._note(name, asked_at, term_s, ours=ours)
        return ours

    def _exists(self, name: str) -> bool:
        with self._transaction() as connection:
            return connection.scalar(select(leases.c.name).where(leases.c.name == name)) is not None

    def _create(self, name: str, term_s: float) -> bool:
        # Once in a database's life. A transaction of its own: on MySQL an UPDATE that finds nothing
        # locks the gap, and two of those that then insert are a deadlock.
        asked_at = self._clock.monotonic()
        try:
            with self._transaction() as connection:
                until = database_time(connection, self._clock, term_s)
                row = {"name": name, "holder": self.holder, "until": until}
                connection.execute(insert(leases).values(row))
        except StoreRejected:  # the name is there by now: somebody was faster
            return False
        self._note(name, asked_at, term_s, ours=True)
        return True

    def _note(self, name: str, asked_at: float, term_s: float, *, ours: bool) -> None:
        if ours:
            self._held_until[name] = asked_at + term_s * (1 - _MARGIN)
        else:
            self._held_until.pop(name, None)
