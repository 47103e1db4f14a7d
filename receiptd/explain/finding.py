"""From what a person types to the rows of the SMS that are meant."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Literal, Protocol

import msgspec
from sqlalchemy import Connection, Table

from receiptd.clock import Clock
from receiptd.config import Settings
from receiptd.errors import ReceiptdError
from receiptd.explain.events import Explanation, Timeline
from receiptd.explain.reading import Plugins, Reader
from receiptd.explain.timeline import began_at, build, reply_time
from receiptd.phone import to_e164
from receiptd.store import lookups
from receiptd.store.lookups import JournalRow, Reply, Span, StoredReceipt
from receiptd.store.schema import receipts, uplinks

LIMIT = 20
# Replies to an SMS come within days; a later one is of another conversation.
REPLY_WITHIN = timedelta(days=3)
# Before the row's own time: a receipt is journalled before its row is made, on another machine.
_CLOCKS_DIFFER = timedelta(hours=1)
_JOURNAL_MOST = 2000  # rows of one question
_QUARANTINED_MOST = 20
_REPLIES_MOST = 200

_SPACING = re.compile(r"[\s.()/\-\u2010-\u2015\u2212\u200b-\u200d\u2060\ufeff]+")
_PHONE = re.compile(r"\+?[0-9]{5,20}")
_MASKED = re.compile(r"\+?[0-9]*\*+[0-9]*")

# What is read now, how much of it is done, and of how much.
Told = Callable[[str, int, int], None]


class Unsearchable(ReceiptdError):
    """What was typed cannot be sought. Holds no number."""


class Readable(Protocol):
    """What is needed of the store."""

    def reading(self) -> AbstractContextManager[Connection]: ...


class Explainer:
    """Answers one question after the other. Thread-safe: it has no state of its own."""

    def __init__(self, store: Readable, settings: Settings, plugins: Plugins, clock: Clock) -> None:
        """Where `plugins` has no longer the provider of a receipt, its bodies are not understood,
        and the row alone tells."""
        self._store = store
        self._reader = Reader(settings, plugins)
        self._window = timedelta(days=settings.reconcile.window_days)
        self._clock = clock

    def explain(
        self,
        wanted: str,
        *,
        account: str | None = None,
        limit: int = LIMIT,
        budget_s: float | None = None,
        told: Told | None = None,
    ) -> Explanation:
        """Return all that is known of `wanted`: a biz_id, a phone in any spelling, an out_id, or
        the sequence_id of a reply, sought in this order until one is found.

        After `budget_s` seconds what is read is what counts; without it, all of it is. Raises
        Unsearchable or StoreUnavailable.
        """
        question = _Question(
            self._store, self._clock, account, limit, budget_s, told or _tell_nobody
        )
        found = question.find(wanted)
        timelines: list[Timeline] = []
        rows = question.journal(found.receipts)
        phones = {sms.phone for sms in found.receipts} | set(found.phones)
        replies = {one.id: one for one in (*found.replies, *question.replies(phones))}
        placed = _place(found.receipts, sorted(replies.values(), key=_replied))
        for sms in found.receipts:
            mine = [row for row in rows if (row.biz_id, row.phone) == (sms.biz_id, sms.phone)]
            named = [row for row in found.quarantined if _names(row, sms)]
            mine = sorted({row.id: row for row in (*mine, *named)}.values(), key=_received)
            timelines.append(build(sms, mine, placed.pop(sms.id, []), self._reader, self._window))
        others = [
            row for row in found.quarantined if not any(_names(row, sms) for sms in found.receipts)
        ]
        # Who asks for one SMS wants no reply to another.
        wanted_too = bool(found.phones) or found.by == "sequence_id"
        unplaced = tuple(placed.pop(None, [])) if wanted_too else ()
        return Explanation(
            found_by=found.by or ("phone" if unplaced else None),
            searched=tuple(found.searched),
            timelines=tuple(timelines),
            total=found.total,
            is_complete=question.is_complete,
            quarantined=tuple(others),
            replies=unplaced,
        )


class _Found(msgspec.Struct):
    """The rows that were meant, and how they were found."""

    searched: list[str] = []
    by: str | None = None
    receipts: list[StoredReceipt] = []
    total: int = 0
    quarantined: list[JournalRow] = []
    replies: list[Reply] = []
    phones: list[str] = []


class _Question:
    """One search and its time."""

    def __init__(
        self,
        store: Readable,
        clock: Clock,
        account: str | None,
        limit: int,
        budget_s: float | None,
        told: Told,
    ) -> None:
        self._store = store
        self._clock = clock
        self._account = account
        self._limit = limit
        self._told = told
        self._until = None if budget_s is None else clock.monotonic() + budget_s
        self.is_complete = True

    def find(self, wanted: str) -> _Found:
        """Return what was meant. Raises Unsearchable."""
        wanted = wanted.strip()
        phones = spellings(wanted)
        found = _Found()
        if not wanted:
            raise Unsearchable("nothing was asked for: give a biz_id, an out_id or a phone")
        if not phones and _MASKED.fullmatch(_SPACING.sub("", wanted)):
            raise Unsearchable("a masked number is many numbers: give all of its digits")
        with self._store.reading() as connection:
            found.searched.append("biz_id")
            found.receipts, found.total = lookups.receipts_of(
                connection, wanted, self._account, self._limit
            )
        if found.receipts:
            found.by = "biz_id"
        self._by_index(found, wanted)
        if not found.by and phones:
            self._by_column(found, "phone", phones)
        if not found.by:
            self._by_column(found, "out_id", {wanted})
        self._in_quarantine(found, wanted, phones)
        if phones and found.by in (None, "phone"):
            found.phones = sorted(phones)
        return found

    def journal(self, sms: Sequence[StoredReceipt]) -> list[JournalRow]:
        """Return the journal's rows about `sms`, the first received first."""
        if not sms:
            return []
        since = min(one.created_at for one in sms) - _CLOCKS_DIFFER
        biz_ids, phones = {one.biz_id for one in sms}, {one.phone for one in sms}
        rows: list[JournalRow] = []
        with self._store.reading() as connection:
            span = lookups.journal_since(connection, since)

        def read(connection: Connection, part: Span) -> None:
            left = _JOURNAL_MOST - len(rows)
            rows.extend(lookups.journal_of(connection, biz_ids, phones, part, left))

        if span is not None:
            self._each("journal", span, read, until=lambda: len(rows) >= _JOURNAL_MOST)
        if len(rows) >= _JOURNAL_MOST:
            self.is_complete = False
        return sorted({row.id: row for row in rows}.values(), key=_received)

    def replies(self, phones: Iterable[str]) -> list[Reply]:
        """Return the replies that came from `phones`, of very many the newest."""
        wanted = sorted(set(phones))
        found: list[Reply] = []

        def read(connection: Connection, part: Span) -> None:
            left = _REPLIES_MOST - len(found)
            found.extend(lookups.replies_from(connection, wanted, part, left))

        span = self._span(uplinks)
        if wanted and span is not None:
            self._each(
                "replies", span, read, newest_first=True, until=lambda: len(found) >= _REPLIES_MOST
            )
        return found

    def _by_index(self, found: _Found, wanted: str) -> None:
        """The reply of a sequence_id, and the SMS that it answers."""
        if found.by:
            return
        found.searched.append("sequence_id")
        with self._store.reading() as connection:
            found.replies = lookups.replies_with(connection, wanted, self._limit)
            for reply in found.replies:
                if reply.biz_id is None:
                    continue
                rows, _ = lookups.receipts_of(connection, reply.biz_id, None, self._limit)
                found.receipts += [one for one in rows if one.phone == reply.phone]
        if found.replies:
            found.by = "sequence_id"
            found.total = len(found.receipts)

    def _by_column(
        self, found: _Found, column: Literal["phone", "out_id"], values: Iterable[str]
    ) -> None:
        ids: list[int] = []
        wanted = sorted(values)

        def read(connection: Connection, part: Span) -> None:
            some = lookups.ids_of(connection, column, wanted, self._account, part)
            found.total += len(some)
            ids.extend(some[: self._limit - len(ids)])

        found.searched.append(column)
        span = self._span(receipts)
        if span is not None:
            self._each(column, span, read, newest_first=True)
        if ids:
            found.by = column
            with self._store.reading() as connection:
                found.receipts = lookups.receipts_by_id(connection, ids)

    def _in_quarantine(self, found: _Found, wanted: str, phones: Iterable[str]) -> None:
        text = wanted
        if phones and found.by in (None, "phone"):
            # As bodies spell it: without the country code.
            text = min((one.removeprefix("+86").lstrip("+") for one in phones), key=len)
        found.searched.append("quarantine")
        with self._store.reading() as connection:
            found.quarantined = lookups.quarantined_with(
                connection,
                text,
                _QUARANTINED_MOST,
                biz_ids={sms.biz_id for sms in found.receipts},
                phones={sms.phone for sms in found.receipts},
            )

    def _span(self, table: Table) -> Span | None:
        with self._store.reading() as connection:
            return lookups.bounds(connection, table)

    def _each(
        self,
        name: str,
        span: Span,
        read: Callable[[Connection, Span], None],
        *,
        newest_first: bool = False,
        until: Callable[[], bool] = lambda: False,
    ) -> None:
        """Read `span` in ranges until its end, or until `until` says so or the time is up."""
        done, total = 0, span[1] - span[0] + 1
        for part in lookups.ranges(span, self._clock, newest_first=newest_first):
            if until():
                return
            if self._until is not None and self._clock.monotonic() >= self._until:
                self.is_complete = False
                return
            with self._store.reading() as connection:
                read(connection, part)
            done += part[1] - part[0] + 1
            self._told(name, done, total)


def spellings(text: str) -> set[str]:
    """Return what a phone is called in the tables, however a person writes it; nothing for what is
    no phone."""
    plain = _SPACING.sub("", unicodedata.normalize("NFKC", text))
    if not _PHONE.fullmatch(plain):
        return set()
    # Eleven bare digits can be read twice.
    return {to_e164(plain), to_e164(plain, international=True), plain}


def _place(sms: Sequence[StoredReceipt], replies: Sequence[Reply]) -> dict[int | None, list[Reply]]:
    """Return the replies by the id of the SMS that each is to: the one it names, else the last one
    before it to that phone; under None those to no SMS here."""
    placed: dict[int | None, list[Reply]] = {}
    for reply in replies:
        at = reply_time(reply)
        before = [
            one
            for one in sms
            if one.phone == reply.phone
            and (one.provider, one.account) == (reply.provider, reply.account)
            and timedelta(0) <= at - began_at(one) <= REPLY_WITHIN
        ]
        named = [one for one in sms if (one.biz_id, one.phone) == (reply.biz_id, reply.phone)]
        to = max(named or before, key=began_at, default=None)
        if named or reply.biz_id is None:
            placed.setdefault(to.id if to is not None else None, []).append(reply)
        else:
            placed.setdefault(None, []).append(reply)
    return placed


def _names(row: JournalRow, sms: StoredReceipt) -> bool:
    """Return whether a row is of this SMS, or its body: one biz_id may have been sent to many
    phones."""
    if (row.biz_id, row.phone) == (sms.biz_id, sms.phone):
        return True
    return sms.biz_id in row.body and sms.phone.removeprefix("+86").lstrip("+") in row.body


def _received(row: JournalRow) -> tuple[object, int]:
    return row.received_at, row.id


def _replied(reply: Reply) -> tuple[object, int]:
    return reply_time(reply), reply.id


def _tell_nobody(stage: str, done: int, total: int) -> None:
    pass
