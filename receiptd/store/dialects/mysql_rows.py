"""Rows as the text of one INSERT, written by msgspec: 7 µs of the client's CPU for a receipt and
its journal row, where PyMySQL's own escaping, value by value in Python, takes 28.

An array of JSON is a row of VALUES: a JSON string is a string literal of MySQL in double quotes,
and numbers, null, true and false are spelled alike. That no value can leave its literal rests on
four things, each of them tested:

- Only exactly str, int, bool and None are written so; anything else is left to PyMySQL.
- JSON's escapes are MySQL's, but for those of control characters; rows with these are left to
  PyMySQL. A raw newline is in no JSON string, so rows can be told apart as text.
- The text goes to the driver as bytes and without parameters: a percent sign is one.
- The session must read the text as we mean it. sql_mode may have neither ANSI_QUOTES nor
  NO_BACKSLASH_ESCAPES (it is set on connecting, but a proxy may hand on another session), and in
  GBK, Big5 or Shift-JIS half a character swallows a backslash. So each statement, whoever escaped
  its values, has before the first of them a literal that is a syntax error to such a session.

Not JSON_TABLE over one parameter: it spares the client 1 µs more and costs the server 22, and
MariaDB cuts what does not fit, strict or not, and locks the table's counter for the statement.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeAlias

import msgspec
import pymysql
from pymysql.constants import ER
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import ProgrammingError

from receiptd.errors import ReceiptdError, StoreUnavailable
from receiptd.store.dialects import server
from receiptd.store.rows import Row

# A value as a literal of SQL.
_Quote: TypeAlias = Callable[[object], bytes]

_PORTION_BYTES = 1_000_000  # far below any server's max_allowed_packet; PyMySQL's own limit too
_PLAIN = frozenset((str, int, bool, type(None)))  # to msgspec, bytes are base64 and NaN is null
_BORDER = b"]\n["
# The two that ever occur: msgspec writes nothing else than control characters as \u00XX. To MySQL
# they are an `f` and a `u00XX`.
_FOREIGN_ESCAPES = b"\\u00", b"\\f"
# To ANSI_QUOTES this is a name, elsewhere a string that ends too early; and then comes what cannot
# follow. The last byte of each sign, in one charset or another, takes the backslash to itself.
_CANARY = r'IF("、\"中\"(" IS NULL, NULL, '.encode()
_FOREIGN_MODES = {"ANSI_QUOTES", "NO_BACKSLASH_ESCAPES"}

_encoder = msgspec.json.Encoder()
_json: _Quote = _encoder.encode


class Insert(msgspec.Struct, frozen=True):
    """A statement that takes rows of literals between its two halves."""

    head: bytes
    tail: bytes


class _Whole:
    """A statement with its rows, sent as a parameter: SQLAlchemy shows statements in its errors."""

    __slots__ = ("sql",)

    def __init__(self, sql: bytes) -> None:
        self.sql = sql


def insert(sql: str, columns: int) -> Insert:
    """Return a statement in the driver's format, with one row of placeholders, as an Insert."""
    head, found, tail = sql.partition(f"({', '.join(['%s'] * columns)})")
    if not found:
        raise ReceiptdError("the statement has no place for the rows")
    return Insert((head % ()).encode(), (tail % ()).encode())


def listen(engine: Engine) -> None:
    """Let connections of `engine` take what `write` sends."""
    event.listen(engine, "do_execute", _execute)


def write(connection: Connection, insert: Insert, rows: Sequence[Row], most: int) -> int:
    """Insert `rows`, at most so many per statement, in their order; return how many were new or
    changed. Raises the driver's errors in SQLAlchemy's wrapping, or StoreUnavailable."""
    changed = 0
    for start in range(0, len(rows), most):
        chunk = rows[start : start + most]
        quote, literals = _literals(connection, chunk)
        for values in _portions(quote, chunk, literals):
            sql = b"".join((insert.head, b"(", values, b")", insert.tail))
            changed += _changed(connection, _send(connection, insert, sql))
    return changed


def _execute(cursor: Any, statement: str, parameters: object, context: object) -> bool:
    # SQLAlchemy's hook in place of its own call of the driver, so that all else (the transaction's
    # begin, errors, connections that are lost) is as for any statement.
    if not (isinstance(parameters, tuple) and parameters and isinstance(parameters[0], _Whole)):
        return False
    cursor.execute(parameters[0].sql)
    return True


def _send(connection: Connection, insert: Insert, sql: bytes) -> int:
    try:
        return connection.exec_driver_sql(insert.head.decode(), (_Whole(sql),)).rowcount
    except ProgrammingError as exc:
        if server.cause(exc).args[:1] != (ER.PARSE_ERROR,):
            raise
        refused = exc
    # Outside the handler: the server's text quotes the statement.
    mode, charset = connection.exec_driver_sql("SELECT @@sql_mode, @@character_set_client").one()
    if charset == "utf8mb4" and _FOREIGN_MODES.isdisjoint(mode.split(",")):
        raise refused
    connection.invalidate()
    raise StoreUnavailable("the session's sql_mode or charset is not ours: does a proxy reset it?")


def _changed(connection: Connection, affected: int) -> int:
    """Return how many rows the last statement inserted or changed: MySQL counts those it changed
    twice, and says how many they are only beside the count ("Records: 3  Duplicates: 1 …")."""
    told = _driver(connection)._result.message or b""
    numbers = [int(word) for word in told.split() if word.isdigit()]
    return affected - numbers[1] if len(numbers) > 1 else min(affected, 1)


def _portions(quote: _Quote, rows: Sequence[Row], literals: list[bytes]) -> Iterator[bytes]:
    """Yield lists of VALUES, without the outermost parentheses, that fit into a packet."""
    if sum(map(len, literals)) > _PORTION_BYTES and len(rows) > 1:
        middle = len(rows) // 2
        yield from _portions(quote, rows[:middle], literals[:middle])
        yield from _portions(quote, rows[middle:], literals[middle:])
        return
    first = quote(rows[0][0])
    literals[0] = b"".join((_CANARY, first, b")", literals[0][len(first) :]))
    yield b"),(".join(literals)


def _literals(connection: Connection, rows: Sequence[Row]) -> tuple[_Quote, list[bytes]]:
    """Return how a value was written, and each row's values, written so."""
    if _PLAIN.issuperset(map(type, chain.from_iterable(rows))):
        lines = _encoder.encode_lines(rows)
        if not (b"\\" in lines and any(escape in lines for escape in _FOREIGN_ESCAPES)):
            return _json, lines[1:-2].split(_BORDER)
    escape = _driver(connection).escape

    def quote(value: object) -> bytes:
        return str(escape(value)).encode()

    return quote, [b",".join(map(quote, row)) for row in rows]


def _driver(connection: Connection) -> "pymysql.Connection[Any]":
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, pymysql.Connection)
    return raw
