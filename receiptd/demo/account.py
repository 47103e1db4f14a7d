"""What was sent against what the database holds: the account that closes the demonstration."""

from collections import Counter
from collections.abc import Iterable
from threading import Lock

import msgspec
from sqlalchemy import Engine, and_, func, select

from receiptd.model import OPEN, QUERY_SOURCE, RECONCILE_SOURCE, Origin, Status
from receiptd.store.merge import Key
from receiptd.store.schema import journal, receipts, uplinks

_ENDED = receipts.c.status.not_in([status.value for status in OPEN])
# The answers of the query APIs are journalled, too; what follows counts what queues brought.
_QUEUED = and_(journal.c.source.not_like(f"{QUERY_SOURCE}%"), journal.c.source != RECONCILE_SOURCE)


class Sent(msgspec.Struct, frozen=True):
    """One SMS that the demonstration sent, and what the sandbox decided should become of it."""

    api: str
    key: Key
    outcome: str  # "delivered" or "failed"
    is_lost: bool = False  # its receipt never comes: only a query can tell


class Account(msgspec.Struct, kw_only=True):
    """The closing account. True only if every send ended as decided, those without a receipt were
    found by a query, and nothing was acked early."""

    sent: Counter[str]
    landed: dict[str, Counter[str]]  # api -> status -> count
    queried: Counter[str]  # api -> those of them that a query found
    missing: list[Sent]  # nothing is known of them
    wrong: list[Sent]  # another end than the sandbox decided
    not_found: list[Sent]  # never had a receipt, and no query has found them
    unexpected: int  # rows that nobody sent
    journal_rows: int
    duplicates: int
    redelivered: int
    quarantined: int
    poison: int
    replies: int
    replies_landed: int
    early_acks: int
    left_on_broker: int

    @property
    def is_true(self) -> bool:
        return (
            not self.missing
            and not self.wrong
            and not self.not_found
            and not self.unexpected
            and not self.early_acks
            and not self.left_on_broker
            and self.quarantined >= self.poison
            and self.replies_landed == self.replies
        )


class Mark(msgspec.Struct, frozen=True):
    """Where each table ended before the demonstration: what came before is none of its business."""

    receipts: int = 0
    journal: int = 0
    uplinks: int = 0


def mark(engine: Engine) -> Mark:
    """Return the greatest ids there are."""
    with engine.connect() as connection:
        last = [
            connection.scalar(select(func.max(table.c.id))) or 0
            for table in (receipts, journal, uplinks)
        ]
    return Mark(*last)


class Witness:
    """Looks, through its own connection, whether an envelope's row is there when it is acked."""

    def __init__(self, engine: Engine, since: Mark) -> None:
        self._engine = engine
        self._lock = Lock()
        self._seen: set[str] = set()
        self._last_id = since.journal
        self.early: list[str] = []

    def check(self, envelope_id: str) -> None:
        """Note `envelope_id` as acked early unless its row is visible now."""
        with self._lock:
            if envelope_id not in self._seen:
                self._read_on()
            if envelope_id not in self._seen:
                self.early.append(envelope_id)

    def _read_on(self) -> None:
        query = select(journal.c.id, journal.c.envelope_id).where(journal.c.id > self._last_id)
        with self._engine.connect() as connection:
            for row_id, envelope_id in connection.execute(query):
                self._seen.add(envelope_id)
                self._last_id = max(self._last_id, row_id)


def landed(engine: Engine, since: Mark) -> int:
    """Return of how many sends the end is known."""
    query = select(func.count()).where(receipts.c.id > since.receipts, _ENDED)
    with engine.connect() as connection:
        return connection.scalar(query) or 0


def close(
    engine: Engine,
    sent: Iterable[Sent],
    since: Mark,
    *,
    poison: int,
    replies: int,
    early_acks: int,
    left_on_broker: int,
) -> Account:
    """Compare what was sent with the database, row by row."""
    row = receipts.c
    columns = (row.biz_id, row.phone, row.provider, row.account, row.status, row.origin)
    with engine.connect() as connection:
        ours = select(*columns).where(row.id > since.receipts)
        rows = {tuple(one[:4]): (one[4], one[5]) for one in connection.execute(ours)}
        new = and_(journal.c.id > since.journal, _QUEUED)
        by_outcome = select(journal.c.outcome, func.count()).where(new)
        outcomes = Counter(
            {word: n for word, n in connection.execute(by_outcome.group_by(journal.c.outcome))}
        )
        redelivered = connection.scalar(
            select(func.count()).select_from(journal).where(new, journal.c.pull_count > 1)
        )
        receipts_in = connection.scalar(
            select(func.count()).select_from(journal).where(new, journal.c.kind == "receipt")
        )
        different = select(journal.c.biz_id, journal.c.phone).where(
            new, journal.c.kind == "receipt"
        )
        sends_with_receipt = connection.scalar(
            select(func.count()).select_from(different.distinct().subquery())
        )
        replies_landed = connection.scalar(
            select(func.count()).select_from(uplinks).where(uplinks.c.id > since.uplinks)
        )
    account = Account(
        sent=Counter(),
        landed={},
        queried=Counter(),
        missing=[],
        wrong=[],
        not_found=[],
        unexpected=0,
        journal_rows=sum(outcomes.values()),
        duplicates=(receipts_in or 0) - (sends_with_receipt or 0),
        redelivered=redelivered or 0,
        quarantined=outcomes["quarantined"],
        poison=poison,
        replies=replies,
        replies_landed=replies_landed or 0,
        early_acks=early_acks,
        left_on_broker=left_on_broker,
    )
    for one in sent:
        account.sent[one.api] += 1
        status, origin = rows.pop(one.key, (None, None))
        if one.is_lost and origin != Origin.QUERY:
            account.not_found.append(one)
        if status is None or status in OPEN or status == Status.LOST:
            account.missing.append(one)
            continue
        account.landed.setdefault(one.api, Counter())[status] += 1
        account.queried[one.api] += origin == Origin.QUERY
        if status != one.outcome:
            account.wrong.append(one)
    account.unexpected = len(rows)
    return account
