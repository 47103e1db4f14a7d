"""The column types of the schema, the same meaning on SQLite, PostgreSQL and MySQL/MariaDB.

The migrations import these too, so a type's meaning never changes: a new meaning is a new type.
MySQL's own types are imported where they are met, because they cost memory that SQLite needs not.
"""

from datetime import UTC as UTC_ZONE
from datetime import datetime
from functools import lru_cache

from sqlalchemy import (
    TIMESTAMP,
    VARCHAR,
    BigInteger,
    DateTime,
    Integer,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

# SQLite numbers its rows by itself only if the primary key is spelled INTEGER (64 bits there).
BigId = BigInteger().with_variant(Integer(), "sqlite")

_MYSQL = ("mysql", "mariadb")


# Most come several times: the same second, the same batch. More would take half an hour to fill, in
# which the process grew.
_REMEMBERED = 128


@lru_cache(maxsize=_REMEMBERED)
def sqlite_time(value: datetime) -> str:
    """Return `value` as SQLite holds it: UTC, always 26 characters, so that text order is time
    order.

    Raises ValueError for a naive time.
    """
    if value.tzinfo is not UTC_ZONE:
        if value.utcoffset() is None:
            raise ValueError("a time without offset")
        value = value.astimezone(UTC_ZONE)
    # Half of isoformat's cost, which asks the zone for an offset that we do not want.
    second = _to_the_second(
        value.year, value.month, value.day, value.hour, value.minute, value.second
    )
    return f"{second}.{value.microsecond:06d}"


@lru_cache(maxsize=_REMEMBERED)
def _to_the_second(year: int, month: int, day: int, hour: int, minute: int, second: int) -> str:
    return f"{year:04d}-{month:02d}-{day:02d} {hour:02d}:{minute:02d}:{second:02d}"


class UTC(TypeDecorator[datetime]):
    """Aware UTC in and out: timestamptz on PostgreSQL, naive UTC with microseconds elsewhere."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        if dialect.name in _MYSQL:
            from sqlalchemy.dialects.mysql import DATETIME

            return dialect.type_descriptor(DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

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
        if dialect.name == "postgresql":
            return dialect.type_descriptor(VARCHAR(self.length, collation="C"))
        if dialect.name in _MYSQL:
            from sqlalchemy.dialects.mysql import VARCHAR as MYSQL_VARCHAR

            # utf8mb4_bin pads: it takes 'k' and 'k ' for one key.
            maria = getattr(dialect, "is_mariadb", False)
            collation = "utf8mb4_nopad_bin" if maria else "utf8mb4_0900_bin"
            text = MYSQL_VARCHAR(self.length, charset="utf8mb4", collation=collation)
            return dialect.type_descriptor(text)
        return dialect.type_descriptor(String(self.length))  # SQLite's own collation is BINARY


class LongText(TypeDecorator[str]):
    """Text without a bound that matters; not for keys."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        if dialect.name in _MYSQL:
            from sqlalchemy.dialects.mysql import MEDIUMTEXT

            # 64 KiB of body are 88 KiB in base64, and MySQL's TEXT ends at 64 KiB.
            return dialect.type_descriptor(MEDIUMTEXT(charset="utf8mb4"))
        return dialect.type_descriptor(Text())
