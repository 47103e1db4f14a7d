"""What the store is asked: figures for `status` and the metrics."""

from typing import TypedDict

from sqlalchemy import Connection, func, select

from receiptd.model import Outcome
from receiptd.store.schema import NOT_STORED, journal, receipts, uplinks


class Counts(TypedDict):
    """How many rows there are; words that have none are left out."""

    receipts: dict[str, int]  # by status
    journal: dict[str, int]  # by outcome
    quarantined: dict[str, int]  # by reason, without its detail
    uplinks: int


def counts(connection: Connection) -> Counts:
    """Return the counts as of one moment.

    The quarantine is an index of its own and costs nothing; receipts by status read the table.
    """
    total = connection.scalar(select(func.count()).select_from(journal)) or 0
    outcomes: dict[str, int] = {}
    quarantined: dict[str, int] = {}
    query = select(journal.c.outcome, journal.c.reason, func.count()).where(NOT_STORED)
    for outcome, reason, count in connection.execute(
        query.group_by(journal.c.outcome, journal.c.reason)
    ):
        outcomes[outcome] = outcomes.get(outcome, 0) + count
        if outcome == Outcome.QUARANTINED:
            word = (reason or "").partition(":")[0]
            quarantined[word] = quarantined.get(word, 0) + count
    if stored := total - sum(outcomes.values()):
        outcomes[Outcome.STORED.value] = stored
    by_status = select(receipts.c.status, func.count()).group_by(receipts.c.status)
    return Counts(
        receipts={status: count for status, count in connection.execute(by_status)},
        journal=outcomes,
        quarantined=quarantined,
        uplinks=connection.scalar(select(func.count()).select_from(uplinks)) or 0,
    )
