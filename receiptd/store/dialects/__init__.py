"""One file per database. What a dialect supplies stands in base.py."""

from receiptd.errors import ConfigError, Problem
from receiptd.store.dialects.base import Dialect

_PLACE = "database.url"


def load(drivername: str) -> Dialect:
    """Return the dialect for the scheme of an address.

    Its module and its driver are imported only now, because each costs memory that the users of
    another database need not pay. Raises ConfigError for an unknown scheme and a missing driver.
    """
    match drivername:
        case "sqlite" | "sqlite+pysqlite":
            from receiptd.store.dialects.sqlite import SqliteDialect

            return SqliteDialect()
        case "postgresql" | "postgresql+psycopg":
            _require("psycopg", "postgres")
            from receiptd.store.dialects.postgresql import PostgresqlDialect

            return PostgresqlDialect()
        case "mysql" | "mysql+pymysql" | "mariadb" | "mariadb+pymysql":
            _require("pymysql", "mysql")
            from receiptd.store.dialects.mysql import MysqlDialect

            return MysqlDialect()
    cure = "use sqlite or postgresql or mysql, as in sqlite:///receiptd.db"
    raise ConfigError([Problem(_PLACE, "is of an unknown kind", drivername, cure)])


def _require(driver: str, extra: str) -> None:
    try:
        __import__(driver)
    except ImportError:  # psycopg: also if it finds no libpq
        problem = Problem(
            _PLACE, f"needs the driver {driver}", cure=f"pip install 'receiptd[{extra}]'"
        )
        raise ConfigError([problem]) from None
