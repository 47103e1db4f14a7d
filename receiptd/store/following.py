"""What has become of sends, by the keys under which they were booked."""

from collections.abc import Collection
from datetime import datetime

import msgspec
from sqlalchemy import Connection, select

from receiptd.model import Origin, Status
from receiptd.store.merge import Key
from receiptd.store.schema import receipts

_CHUNK = 500  # parameters of one statement


class SentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the receipts table, as far as the way of an SMS goes. Times are aware."""

    status: Status
    origin: Origin
    err_code: str | None
    err_msg: str | None
    submitted_at: datetime | None
    sent_at: datetime | None
    reported_at: datetime | None
    updated_at: datetime

    def __repr__(self) -> str:
        return f"SentRow(status={self.status.value!r})"


def find(connection: Connection, keys: Collection[Key]) -> dict[Key, SentRow]:
    """Return the rows of `keys` that are there, by the unique index. Raises the driver's errors."""
    table = receipts.c
    query = select(
        table.biz_id,
        table.phone,
        table.provider,
        table.account,
        *(table[name] for name in SentRow.__struct_fields__),
    )
    wanted = set(keys)
    biz_ids = sorted({one[0] for one in wanted})
    found: dict[Key, SentRow] = {}
    for start in range(0, len(biz_ids), _CHUNK):
        some = table.biz_id.in_(biz_ids[start : start + _CHUNK])
        for row in connection.execute(query.where(some)).mappings():
            key = row["biz_id"], row["phone"], row["provider"], row["account"]
            if key in wanted:
                fields = {name: row[name] for name in SentRow.__struct_fields__}
                found[key] = SentRow(
                    **fields | {"status": Status(row["status"]), "origin": Origin(row["origin"])}
                )
    return found
