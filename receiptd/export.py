"""Tables as files: CSV for people, NDJSON and Parquet for programs. Streamed, so that a million
rows take the memory of a thousand.

The CSV is what Excel opens right in any language: a BOM, or it takes UTF-8 for the system's code
page; CRLF; and one TAB in front of each text that it would take for a formula (`=1+1`), or change
as a number or a time (`+8613900000001` to 8.6139E+12, `007` to 7). The tab is not seen, the text
stays as it was, and a program takes one leading tab off again (`unguarded`); what trims its cells
need not even do that. `="…"` and an apostrophe would both be part of the value to a program. Texts
are quoted and a null is not, so that the two differ as in PostgreSQL's COPY.
"""

import importlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, ColumnElement, Integer, Table

from receiptd import masking, phone
from receiptd.errors import ConfigError, Problem
from receiptd.store import schema
from receiptd.store.pages import PAGE_ROWS, Reading, pages
from receiptd.store.types import UTC as UTC_COLUMN

TableName: TypeAlias = Literal["receipts", "uplinks", "journal"]
Format: TypeAlias = Literal["csv", "ndjson", "parquet"]
_Convert: TypeAlias = Callable[[Any], Any]

# By what time a row is chosen, and how many rows a page has: a body may have 64 KiB.
_TABLES: dict[TableName, tuple[Table, str, int]] = {
    "receipts": (schema.receipts, "created_at", PAGE_ROWS),
    "uplinks": (schema.uplinks, "created_at", PAGE_ROWS),
    "journal": (schema.journal, "received_at", PAGE_ROWS // 4),
}
# Where reconciliation is with a question that has several pages: nothing to anybody else.
_INTERNAL = frozenset({"query_place"})
# Free text that may hold a number; a body may in any encoding, so it is left out.
_MASKED_TEXTS = frozenset({"out_id", "err_msg", "content"})

# What a spreadsheet computes (full-width signs, too, in an Asian one), or changes into a number, a
# time or a date.
_GUARDED = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]|[0-9][-0-9.,:/eE+% 年月日时分秒]*\Z")

# A row group is compressed as a whole, and is what a reader skips or takes.
_GROUP_ROWS = 50_000
_GROUP_BYTES = 32 << 20


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows. A receipt or a reply is of the time when it was first stored (`created_at`), a
    journal row of that when it was received."""

    table: TableName
    since: datetime | None = None  # included
    until: datetime | None = None  # not included
    statuses: tuple[str, ...] = ()  # of receipts; all if empty
    account: str | None = None  # of receipts and uplinks


class Writer(Protocol):
    """A format in the making."""

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Append rows. Raises OSError."""
        ...

    def finish(self) -> None:
        """Write what ends the file. Without it, none that checks takes the file for whole."""
        ...

    def abandon(self) -> None:
        """Write no more."""
        ...


def export(
    reading: Reading,
    selection: Selection,
    format: Format,
    out: BinaryIO,
    *,
    mask: bool = False,
    zone: tzinfo = UTC,
    on_page: Callable[[float], None] = lambda done: None,
) -> int:
    """Write the rows of `selection` to `out`; return how many. `on_page` is told the share done.

    No row twice; each that was there at the beginning is in it, those that come meanwhile may be.
    Raises StoreUnavailable, OSError, or ConfigError if a package is missing: then nothing is
    written.
    """
    table, moment, page_rows = _TABLES[selection.table]
    columns = [column for column in table.columns if column.name not in _INTERNAL]
    hide = _masks(columns) if mask else None
    writer = _WRITERS[format](columns, out, zone)
    count = 0
    try:
        found = pages(reading, table, columns[1:], *_wanted(selection, table, moment),
                      page_rows=page_rows)  # fmt: skip
        for page in found:
            rows: Sequence[Sequence[Any]] = page.rows
            writer.write([_converted(hide, row) for row in rows] if hide else rows)
            count += len(rows)
            on_page(page.done)
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    return count


@contextmanager
def whole_file(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a file, readable by us alone, that is at `path` only when the block has ended well.

    Raises FileExistsError unless told to `overwrite`, or another OSError; then nothing is there.
    """
    if not overwrite and path.exists():
        raise FileExistsError(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        if not overwrite and path.exists():
            raise FileExistsError(path)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def guarded(text: str) -> str:
    """Return a text as a cell of our CSV: with a tab in front where a spreadsheet would compute or
    change it."""
    return "\t" + text if _GUARDED.match(text) else text


def unguarded(cell: str) -> str:
    """Return the text in a cell of our CSV."""
    return cell.removeprefix("\t")


def _wanted(selection: Selection, table: Table, moment: str) -> Iterator[ColumnElement[bool]]:
    if selection.since is not None:
        yield table.c[moment] >= selection.since
    if selection.until is not None:
        yield table.c[moment] < selection.until
    if selection.statuses:
        yield table.c.status.in_(selection.statuses)
    if selection.account is not None:
        yield table.c.account == selection.account


def _masks(columns: Sequence[Column[Any]]) -> list[_Convert]:
    convert: dict[str, _Convert] = {"phone": phone.mask, "body": lambda body: ""}
    convert |= {name: masking.text for name in _MASKED_TEXTS}
    return [convert.get(column.name, _same) for column in columns]


def _converted(convert: Sequence[_Convert], row: Sequence[Any]) -> list[Any]:
    return [None if cell is None else turn(cell) for turn, cell in zip(convert, row, strict=True)]


def _same(value: Any) -> Any:
    return value


class _Csv:
    def __init__(self, columns: Sequence[Column[Any]], out: BinaryIO, zone: tzinfo) -> None:
        self._out = out
        self._zone = zone
        self._cells = [self._cell(column) for column in columns]
        self._out.write("\ufeff".encode())
        self._write_lines([",".join(_quoted(column.name) for column in columns)])

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        cells = self._cells
        self._write_lines(
            [
                ",".join(
                    [
                        "" if cell is None else turn(cell)
                        for turn, cell in zip(cells, row, strict=True)
                    ]
                )
                for row in rows
            ]
        )

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass

    def _write_lines(self, lines: list[str]) -> None:
        self._out.write("".join(f"{line}\r\n" for line in lines).encode())

    def _cell(self, column: Column[Any]) -> _Convert:
        if isinstance(column.type, UTC_COLUMN):
            return lambda value: _iso(value, self._zone)
        if isinstance(column.type, Boolean):
            return lambda value: "true" if value else "false"
        return str if isinstance(column.type, Integer) else _quoted


def _quoted(text: str) -> str:
    return '"' + guarded(text).replace('"', '""') + '"'


def _iso(value: datetime, zone: tzinfo) -> str:
    if zone is not UTC:
        return value.astimezone(zone).isoformat()
    return value.isoformat()[:-6] + "Z"


class _Ndjson:
    def __init__(self, columns: Sequence[Column[Any]], out: BinaryIO, zone: tzinfo) -> None:
        self._out = out
        self._names = [column.name for column in columns]
        # The encoder writes UTC with Z, and microseconds only where there are some.
        self._convert: list[_Convert] = []
        if zone is not UTC:
            self._convert = [
                (lambda value: value.astimezone(zone))
                if isinstance(column.type, UTC_COLUMN)
                else _same
                for column in columns
            ]
        self._encoder = msgspec.json.Encoder()

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        names = self._names
        if self._convert:
            rows = [_converted(self._convert, row) for row in rows]
        self._out.write(
            self._encoder.encode_lines([dict(zip(names, row, strict=True)) for row in rows])
        )

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class _Parquet:
    def __init__(self, columns: Sequence[Column[Any]], out: BinaryIO, zone: tzinfo) -> None:
        # Here and by name: 100 MB that nobody else needs, and it brings no types.
        self._arrow, parquet = _arrow("pyarrow"), _arrow("pyarrow.parquet")
        fields = [(column.name, self._type(column, zone)) for column in columns]
        self._schema = self._arrow.schema(fields)
        self._sink = _Sink(out)
        self._file = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._batches: list[Any] = []

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        columns = zip(*rows, strict=True)
        arrays = [
            self._arrow.array(values, type=field.type)
            for values, field in zip(columns, self._schema, strict=True)
        ]
        self._batches.append(self._arrow.record_batch(arrays, schema=self._schema))
        if (
            sum(batch.num_rows for batch in self._batches) >= _GROUP_ROWS
            or sum(batch.nbytes for batch in self._batches) >= _GROUP_BYTES
        ):
            self._flush()

    def finish(self) -> None:
        self._flush()
        self._file.close()

    def abandon(self) -> None:
        # Arrow writes the footer whenever it lets go of a file, and with it the file looks whole.
        self._sink.is_open = False
        self._file.close()

    def _flush(self) -> None:
        if self._batches:
            self._file.write_table(self._arrow.Table.from_batches(self._batches))
            self._batches = []

    def _type(self, column: Column[Any], zone: tzinfo) -> Any:
        if isinstance(column.type, UTC_COLUMN):
            return self._arrow.timestamp("us", tz=str(zone))
        if isinstance(column.type, Boolean):
            return self._arrow.bool_()
        if isinstance(column.type, BigInteger):
            return self._arrow.int64()
        return self._arrow.int32() if isinstance(column.type, Integer) else self._arrow.string()


class _Sink:
    """The part of a file that Arrow writes to; it takes no more after the export was abandoned."""

    closed = False

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.is_open = True

    def write(self, data: Any) -> int:
        if self.is_open:
            self._out.write(data)
        return len(data)

    def flush(self) -> None:
        if self.is_open:
            self._out.flush()


def _arrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        problem = Problem(
            "--format parquet",
            "needs the package pyarrow",
            cure="pip install 'receiptd[parquet]', or take csv or ndjson",
        )
        raise ConfigError([problem]) from None


_WRITERS: dict[Format, Callable[[Sequence[Column[Any]], BinaryIO, tzinfo], Writer]] = {
    "csv": _Csv,
    "ndjson": _Ndjson,
    "parquet": _Parquet,
}
