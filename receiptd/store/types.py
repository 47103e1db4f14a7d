"""The column types of the schema, the same meaning on SQLite, PostgreSQL and MySQL/MariaDB.

The migrations import these too, so a type's meaning never changes: a new meaning is a new type.
"""

from datetime import UTC as UTC_ZONE
from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Integer, String, Text, TypeDecorator
from sqlalchemy.dialects.mysql import DATETIME, MEDIUMTEXT, VARCHAR
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.dialects.postgresql import VARCHAR as PG_VARCHAR
from sqlalchemy.dialects.sqlite import DATETIME as SQLITE_DATETIME
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

# SQLite numbers its rows by itself only if the primary key is spelled INTEGER (64 bits there).
BigId = BigInteger().with_variant(Integer(), "sqlite")

# 64 KiB of body are 88 KiB in base64, and MySQL's TEXT ends at 64 KiB.
LongText = Text().with_variant(MEDIUMTEXT(charset="utf8mb4"), "mysql", "mariadb")


_SQLITE: TypeEngine[datetime] = SQLITE_DATETIME()  # type: ignore[no-untyped-call]
_MICROSECONDS: TypeEngine[datetime] = DATETIME(fsp=6)


def sqlite_time(value: datetime) -> str:
    """Return `value` as SQLite holds it: UTC, always 26 characters, so that text order is time
    order.

    Raises ValueError for a naive time.
    """
    if value.tzinfo is not UTC_ZONE:
        if value.utcoffset() is None:
            raise ValueError("a time without offset")
        value = value.astimezone(UTC_ZONE)
    return value.isoformat(" ", "microseconds")[:26]


class UTC(TypeDecorator[datetime]):
    """Aware UTC in and out: timestamptz on PostgreSQL, naive UTC with microseconds elsewhere."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(_MICROSECONDS)
        return dialect.type_descriptor(_SQLITE)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError("a time without offset")
        value = value.astimezone(UTC_ZONE)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC_ZONE) if value.tzinfo else value.replace(tzinfo=UTC_ZONE)


class ByteText(TypeDecorator[str]):
    """Text of bounded length that is compared byte for byte, so that `k`, `K` and `k ` are three
    keys everywhere.

    Byte order of UTF-8 is code-point order, which is Python's: the merge relies on that.
    """

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        length = self.length
        if dialect.name == "postgresql":
            return dialect.type_descriptor(PG_VARCHAR(length, collation="C"))
        if dialect.name in ("mysql", "mariadb"):
            # utf8mb4_bin pads: it takes 'k' and 'k ' for one key.
            maria = getattr(dialect, "is_mariadb", False)
            collation = "utf8mb4_nopad_bin" if maria else "utf8mb4_0900_bin"
            return dialect.type_descriptor(VARCHAR(length, charset="utf8mb4", collation=collation))
        return dialect.type_descriptor(String(length))  # SQLite's default collation is BINARY
