"""Which records are rows already, for who wants to compare before anything is written."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlalchemy import Column, Connection, select

from receiptd.model import ErrClass, Notice, Origin, Receipt, Status, Uplink
from receiptd.store import schema
from receiptd.store.merge import Key

Identity: TypeAlias = tuple[str, ...]

_CHUNK = 500  # parameters of one statement
_RECEIPT = [schema.receipts.c[name] for name in Receipt.__struct_fields__]
_UPLINK = [schema.uplinks.c[name] for name in ("sequence_id", "phone", "provider", "account")]
_NOTICE = [
    schema.notices.c[name]
    for name in ("name", "order_id", "status", "subject", "provider", "account")
]


def receipts(connection: Connection, keys: Sequence[Key]) -> dict[Key, Receipt]:
    """Return those rows of these keys that are there, as records. Raises the driver's errors."""
    wanted = set(keys)
    biz_id = schema.receipts.c.biz_id
    found: dict[Key, Receipt] = {}
    biz_ids = sorted({key[0] for key in keys})
    for start in range(0, len(biz_ids), _CHUNK):
        query = select(*_RECEIPT).where(biz_id.in_(biz_ids[start : start + _CHUNK]))
        for one in connection.execute(query).mappings():
            identity = one["biz_id"], one["phone"], one["provider"], one["account"]
            if identity in wanted:
                found[identity] = _receipt(dict(one))
    return found


def uplink_key(uplink: Uplink) -> Identity:
    """Return the identity of a reply, in the order of the table's unique key."""
    return uplink.sequence_id, uplink.phone, uplink.provider, uplink.account


def notice_key(notice: Notice) -> Identity:
    """Return the identity of a notice, in the order of the table's unique key."""
    order_id = notice.order_id or ""
    return (
        notice.name, order_id, notice.status, notice.subject, notice.provider, notice.account,
    )  # fmt: skip


def uplinks(connection: Connection, keys: Sequence[Identity]) -> set[Identity]:
    """Return those of these keys that are there. Raises the driver's errors."""
    return _there(connection, _UPLINK, keys)


def notices(connection: Connection, keys: Sequence[Identity]) -> set[Identity]:
    """Return those of these keys that are there. Raises the driver's errors."""
    return _there(connection, _NOTICE, keys)


def _there(
    connection: Connection, columns: Sequence[Column[Any]], keys: Sequence[Identity]
) -> set[Identity]:
    # By the first column, with which the unique key begins; the others are compared here.
    wanted = set(keys)
    heads = sorted({key[0] for key in keys})
    found: set[Identity] = set()
    for start in range(0, len(heads), _CHUNK):
        query = select(*columns).where(columns[0].in_(heads[start : start + _CHUNK]))
        found.update(tuple(one) for one in connection.execute(query) if tuple(one) in wanted)
    return found


def _receipt(row: dict[str, Any]) -> Receipt:
    err_class = row["err_class"]
    row["status"] = Status(row["status"])
    row["origin"] = Origin(row["origin"])
    row["err_class"] = None if err_class is None else ErrClass(err_class)
    return Receipt(**row)
