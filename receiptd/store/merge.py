"""What two receipts for the same SMS and phone are together: a join semilattice.

Commutative, associative and idempotent, so any order and any number of redeliveries, replays and
queries end in the same row. `VERDICT`, `GREATEST` and `EARLIEST` are also what merge_sql.py builds
the databases' upsert from.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

from receiptd.model import RANK, Receipt, Status

# Taken together from one receipt, the one whose verdict is greater in this order.
VERDICT = ("status", "reported_at", "err_code", "err_msg", "err_class", "origin")
# Filled in one by one; any total order would do, and this one every database has.
GREATEST = ("out_id", "segments", "sign_name", "template_code", "send_api")
# The first time that anyone names: a later one is an echo (a retry, a rounder clock), and taking it
# would make the delivery look faster than it was.
EARLIEST = ("submitted_at", "sent_at")

# Both are final. At equal times the phone's "I have it" is the better witness.
TOP = frozenset({Status.DELIVERED, Status.FAILED})

Key: TypeAlias = tuple[str, str, str, str]
_Bottom: TypeAlias = tuple[bool, str | datetime | None]


def key(receipt: Receipt) -> Key:
    """Return the identity of a receipt, in the order of the table's unique key."""
    return receipt.biz_id, receipt.phone, receipt.provider, receipt.account


def merge(a: Receipt, b: Receipt) -> Receipt:
    """Return the least receipt that says at least what `a` and `b` say; both have the same key."""
    if a == b:
        return a
    winner = a if verdict(a) >= verdict(b) else b
    return Receipt(
        provider=a.provider,
        account=a.account,
        biz_id=a.biz_id,
        phone=a.phone,
        status=winner.status,
        reported_at=winner.reported_at,
        err_code=winner.err_code,
        err_msg=winner.err_msg,
        err_class=winner.err_class,
        origin=winner.origin,
        out_id=_greatest(a.out_id, b.out_id),
        segments=_most(a.segments, b.segments),
        sign_name=_greatest(a.sign_name, b.sign_name),
        template_code=_greatest(a.template_code, b.template_code),
        send_api=_greatest(a.send_api, b.send_api),
        submitted_at=_earliest(a.submitted_at, b.submitted_at),
        sent_at=_earliest(a.sent_at, b.sent_at),
        conflict=a.conflict or b.conflict or {a.status, b.status} == TOP,
    )


def verdict(receipt: Receipt) -> tuple[object, ...]:
    """Return what a receipt says about the SMS's fate, as something to compare: greater wins."""
    return (
        RANK[receipt.status],
        _bottom(receipt.reported_at),
        receipt.status is Status.DELIVERED,
        _bottom(receipt.err_code),
        _bottom(receipt.err_msg),
        _bottom(receipt.err_class),
        receipt.origin.value,
    )


def fold(receipts: Iterable[Receipt]) -> list[Receipt]:
    """Return one receipt per key, in the order of the keys' UTF-8 bytes.

    All writers lock rows in this one order, so that they never deadlock.
    """
    merged: dict[Key, Receipt] = {}
    for receipt in receipts:
        identity = key(receipt)
        known = merged.get(identity)
        merged[identity] = receipt if known is None else merge(known, receipt)
    return [merged[identity] for identity in sorted(merged)]


def _bottom(value: str | datetime | None) -> _Bottom:
    # None is less than every value, the empty text included.
    return (value is not None, value)


def _greatest(a: str | None, b: str | None) -> str | None:
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)


def _most(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)


def _earliest(a: datetime | None, b: datetime | None) -> datetime | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)
