"""Entries and records as rows: tuples in the order of the column lists below, which is the tables'.

Everything that any of the three databases would refuse is refused here, by the same rule for all of
them, before a transaction is troubled with it.
"""

from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Table

from receiptd.errors import StoreRejected
from receiptd.model import Entry, Notice, Receipt, Uplink
from receiptd.store import schema

Row: TypeAlias = tuple[Any, ...]
# How a database wants a time (`Dialect.time`).
Timer: TypeAlias = Callable[[datetime], object]

JOURNAL = (
    "source", "envelope_id", "part", "body", "encoding", "kind", "outcome", "reason", "biz_id",
    "phone", "enqueued_at", "received_at", "pull_count",
)  # fmt: skip
RECEIPTS = (
    "provider", "account", "biz_id", "phone", "out_id", "status", "err_code", "err_msg",
    "err_class", "segments", "sign_name", "template_code", "send_api", "submitted_at", "sent_at",
    "reported_at", "origin", "conflict", "created_at", "updated_at",
)  # fmt: skip
UPLINKS = (
    "provider", "account", "phone", "content", "dest_code", "sign_name", "sequence_id", "sent_at",
    "created_at",
)  # fmt: skip
NOTICES = (
    "provider", "account", "subject", "name", "status", "reason", "order_id", "submitted_at",
    "created_at",
)  # fmt: skip

_INT_MAX = 2**31 - 1  # INTEGER on PostgreSQL and MySQL; SQLite alone would take more
_NO_LIMIT = 1 << 24
_SOURCE, _ENVELOPE_ID, _REASON, _BIZ_ID, _PHONE = (
    schema.journal.c[name].type.length  # type: ignore[attr-defined]
    for name in ("source", "envelope_id", "reason", "biz_id", "phone")
)


def _limits(table: Table, names: Sequence[str]) -> tuple[tuple[str, int, bool], ...]:
    return tuple(
        (
            f"{table.name}.{name}",
            getattr(table.c[name].type, "length", None) or _NO_LIMIT,
            bool(table.c[name].nullable),
        )
        for name in names
    )


_RECEIPT_TEXTS = _limits(
    schema.receipts,
    (
        "provider", "account", "biz_id", "phone", "out_id", "err_code", "err_msg", "sign_name",
        "template_code", "send_api",
    ),
)  # fmt: skip
_UPLINK_TEXTS = _limits(schema.uplinks, UPLINKS[:7])
_NOTICE_TEXTS = _limits(schema.notices, NOTICES[:7])


def receipt_row(receipt: Receipt, timer: Timer, now: object) -> Row:
    """Return the row in the order of RECEIPTS; `now` is already what the database wants.

    Raises StoreRejected, naming the column, never the value.
    """
    provider, account, biz_id, phone = (
        receipt.provider,
        receipt.account,
        receipt.biz_id,
        receipt.phone,
    )
    out_id, err_code, err_msg, sign_name = (
        receipt.out_id,
        receipt.err_code,
        receipt.err_msg,
        receipt.sign_name,
    )
    template_code, send_api, err_class = receipt.template_code, receipt.send_api, receipt.err_class
    _check(
        (
            provider, account, biz_id, phone, out_id, err_code, err_msg, sign_name, template_code,
            send_api,
        ),
        _RECEIPT_TEXTS,
    )  # fmt: skip
    segments = receipt.segments
    if segments is not None and not -_INT_MAX <= segments <= _INT_MAX:
        raise StoreRejected("receipts.segments: out of range")
    submitted_at, sent_at, reported_at = receipt.submitted_at, receipt.sent_at, receipt.reported_at
    return (
        provider,
        account,
        biz_id,
        phone,
        out_id,
        receipt.status._value_,  # `.value` is a function call, 0.3 µs; there are five a receipt
        err_code,
        err_msg,
        None if err_class is None else err_class._value_,
        segments,
        sign_name,
        template_code,
        send_api,
        None if submitted_at is None else timer(submitted_at),
        None if sent_at is None else timer(sent_at),
        None if reported_at is None else timer(reported_at),
        receipt.origin._value_,
        int(receipt.conflict),  # SQLite's driver looks up how to adapt a bool, each time
        now,
        now,
    )


def uplink_row(uplink: Uplink, timer: Timer, now: object) -> Row:
    """Return the row in the order of UPLINKS. Raises StoreRejected."""
    texts = (
        uplink.provider,
        uplink.account,
        uplink.phone,
        uplink.content,
        uplink.dest_code,
        uplink.sign_name,
        uplink.sequence_id,
    )
    _check(texts, _UPLINK_TEXTS)
    return (*texts, None if uplink.sent_at is None else timer(uplink.sent_at), now)


def notice_row(notice: Notice, timer: Timer, now: object) -> Row:
    """Return the row in the order of NOTICES. Raises StoreRejected."""
    texts = (
        notice.provider,
        notice.account,
        notice.subject,
        notice.name,
        notice.status,
        notice.reason,
        notice.order_id or "",
    )
    _check(texts, _NOTICE_TEXTS)
    return (*texts, None if notice.created_at is None else timer(notice.created_at), now)


def journal_row(entry: Entry, timer: Timer) -> Row:
    """Return the row in the order of JOURNAL.

    The journal takes anything, because it is where the refused ends: what does not fit is cut, and
    what is not text is replaced. The body is always whole.
    """
    envelope, record = entry.envelope, entry.record
    body, encoding = body_text(entry.body)
    biz_id = record.biz_id if isinstance(record, Receipt) else None
    phone = None if record is None or isinstance(record, Notice) else record.phone
    enqueued_at, pull_count = envelope.enqueued_at, envelope.pull_count
    return (
        _fit(envelope.source, _SOURCE),
        _fit(envelope.envelope_id, _ENVELOPE_ID),
        entry.part,
        body,
        encoding,
        entry.kind._value_,
        entry.outcome._value_,
        None if entry.reason is None else _fit(entry.reason, _REASON),
        None if biz_id is None else _fit(biz_id, _BIZ_ID),
        None if phone is None else _fit(phone, _PHONE),
        None if enqueued_at is None else timer(enqueued_at),
        timer(entry.received_at),
        None if pull_count is None else min(pull_count, _INT_MAX),
    )


def body_text(body: bytes) -> tuple[str, str]:
    """Return a body as the journal holds it, and its `encoding`: `text`, or `base64` for what is
    not UTF-8 or has a NUL, which PostgreSQL does not take."""
    if b"\0" not in body:
        try:
            return body.decode(), "text"
        except UnicodeDecodeError:
            pass
    return b64encode(body).decode(), "base64"


def _check(texts: Sequence[str | None], limits: Sequence[tuple[str, int, bool]]) -> None:
    whole = "".join(filter(None, texts))  # one look at all of them: nearly always all is well
    is_clean = "\0" not in whole and (whole.isascii() or _is_unicode(whole))
    for text, (column, limit, nullable) in zip(texts, limits, strict=True):
        if text is None:
            if not nullable:
                raise StoreRejected(f"{column}: missing")
        elif len(text) > limit:
            raise StoreRejected(f"{column}: longer than {limit} characters")
        elif is_clean:
            continue
        elif "\0" in text:
            raise StoreRejected(f"{column}: holds a NUL character")
        elif not _is_unicode(text):
            raise StoreRejected(f"{column}: holds a lone surrogate")


def _fit(text: str, limit: int) -> str:
    if len(text) > limit:
        text = text[:limit]
    if text.isascii() and "\0" not in text:
        return text
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
