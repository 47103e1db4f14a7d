"""What was sent against what the database holds: the account that closes the demonstration."""

from collections import Counter
from collections.abc import Iterable
from threading import Lock

import msgspec
from sqlalchemy import Engine, func, inspect, select

from receiptd.store.schema import journal, receipts, uplinks


class Sent(msgspec.Struct, frozen=True):
    """One SMS that the demonstration sent, and what the sandbox decided should become of it."""

    api: str
    provider: str
    account: str
    biz_id: str
    phone: str  # E.164
    fate: str  # "delivered" or "failed"


class Account(msgspec.Struct, kw_only=True):
    """The closing account. True only if every send ended as decided and nothing was acked early."""

    sent: Counter[str]
    landed: dict[str, Counter[str]]  # api -> status -> count
    missing: list[Sent]
    wrong: list[Sent]  # a row, but with another status than the sandbox decided
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
    """Return the greatest ids there are; zeros for a database without tables."""
    with engine.connect() as connection:
        if not inspect(connection).has_table(receipts.name):
            return Mark()
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
    """Return how many receipts have come in; none before the tables are made."""
    query = select(func.count()).select_from(receipts).where(receipts.c.id > since.receipts)
    with engine.connect() as connection:
        if not inspect(connection).has_table(receipts.name):
            return 0
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
    columns = (
        receipts.c.provider,
        receipts.c.account,
        receipts.c.biz_id,
        receipts.c.phone,
        receipts.c.status,
    )
    with engine.connect() as connection:
        ours = select(*columns).where(receipts.c.id > since.receipts)
        rows = {tuple(row[:4]): row[4] for row in connection.execute(ours)}
        new = journal.c.id > since.journal
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
        replies_landed = connection.scalar(
            select(func.count()).select_from(uplinks).where(uplinks.c.id > since.uplinks)
        )
    account = Account(
        sent=Counter(),
        landed={},
        missing=[],
        wrong=[],
        unexpected=0,
        journal_rows=sum(outcomes.values()),
        duplicates=(receipts_in or 0) - len(rows),
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
        status = rows.pop((one.provider, one.account, one.biz_id, one.phone), None)
        if status is None:
            account.missing.append(one)
            continue
        account.landed.setdefault(one.api, Counter())[status] += 1
        if status != one.fate:
            account.wrong.append(one)
    account.unexpected = len(rows)
    return account
