"""Sends from a CSV file: its lines, all checked before anything is sent, and put into calls.

Only an API knows what it takes in one call; so it is asked, by `SendApi.request`, which sends
nothing.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, TypeAlias

import msgspec

from receiptd.errors import Problem
from receiptd.phone import to_e164
from receiptd.providers.base import InvalidSend, SendOrder

MOST_LINES = 100_000  # all of them are held in memory: some 50 MB

_LONGEST_LINE = 1 << 16  # bytes; a text has 1,000 characters
_OWN = ("phone", "sign_name", "out_id")
_CSV = "CSV"  # the place of a problem with the file itself

# The parameters of an order, or InvalidSend.
Request: TypeAlias = Callable[[SendOrder], object]


class Line(msgspec.Struct, frozen=True):
    """One SMS. `number` is its line in the file, `phone` E.164 where it can be read."""

    number: int
    phone: str
    params: Mapping[str, str]
    sign_name: str
    out_id: str

    def __repr__(self) -> str:
        return f"Line({self.number})"


class BadLine(msgspec.Struct, frozen=True):
    """A line that cannot be sent; holds nothing of what stands in it."""

    number: int
    problem: Problem


class Call(msgspec.Struct, frozen=True):
    """What goes into one call. `order` has as many numbers as `lines`."""

    lines: Sequence[Line]
    order: SendOrder


def read(
    file: BinaryIO, *, params: Mapping[str, str], sign_name: str = "", out_id: str = ""
) -> tuple[list[Line], list[BadLine]]:
    """Return the lines of a CSV file with a header, and those that are none.

    The header has `phone`, and may have `sign_name` and `out_id`; every other column is a variable
    of the template. The keywords stand for cells that are empty, and columns that are not there.
    """
    rows = _rows(file)
    number, head = next(rows, (1, None))
    names = [name.strip() for name in head or []]
    if "phone" not in names or len(set(names)) != len(names) or not all(names):
        rule, cure = "is no header", "write phone,sign_name,out_id and the template's variables"
        return [], [BadLine(number, Problem(_CSV, rule, cure=f"{cure}, each once"))]
    lines: list[Line] = []
    bad: list[BadLine] = []
    for number, cells in rows:
        if cells is None or len(cells) != len(names):
            rule = f"is no line of CSV in UTF-8 with {len(names)} cells"
            bad.append(BadLine(number, Problem(_CSV, rule, cure="look at its quotes and commas")))
        elif len(lines) + len(bad) >= MOST_LINES:
            rule = f"is beyond the {MOST_LINES:,} lines of one file"
            bad.append(BadLine(number, Problem(_CSV, rule, cure="split the file")))
            break
        else:
            given = dict(zip(names, cells, strict=True))
            lines.append(
                Line(
                    number=number,
                    phone=to_e164(given["phone"].strip()),
                    params={**params, **{k: v for k, v in given.items() if k not in _OWN}},
                    sign_name=given.get("sign_name", "").strip() or sign_name,
                    out_id=given.get("out_id", "").strip() or out_id,
                )
            )
    if not lines and not bad:
        bad.append(BadLine(number + 1, Problem(_CSV, "is missing", cure="give one line at least")))
    return lines, bad


def problems(request: Request, lines: Sequence[Line], template_code: str) -> list[BadLine]:
    """Return what an API would refuse of each line, were it sent alone."""
    found: list[BadLine] = []
    for line in lines:
        try:
            request(_order([line], template_code))
        except InvalidSend as exc:
            found += [BadLine(line.number, _unnumbered(problem)) for problem in exc.problems]
    return found


def calls(request: Request, lines: Sequence[Line], template_code: str) -> Iterator[Call]:
    """Yield the lines in their order, in as few calls as the API takes them; each of them must be
    good by itself.

    A call has one out_id, and no number twice.
    """
    start = 0
    while start < len(lines):
        end = start + _fitting(request, lines, start, template_code)
        some = lines[start:end]
        yield Call(some, _order(some, template_code))
        start = end


def _fitting(request: Request, lines: Sequence[Line], start: int, template_code: str) -> int:
    """Return how many lines from `start` on fit into one call."""
    # What fits still fits without its last line: twice as many until too many, then halves between.
    fits, too_many = 1, len(lines) - start + 1
    while too_many - fits > 1:
        half = (fits + too_many) // 2
        size = min(2 * fits, half)
        some = lines[start : start + size]
        if len({line.out_id for line in some}) == 1 and _takes(request, some, template_code):
            fits = size
        else:
            too_many = size
    return fits


def _takes(request: Request, lines: Sequence[Line], template_code: str) -> bool:
    try:
        request(_order(lines, template_code))
    except InvalidSend:
        return False
    return True


def _order(lines: Sequence[Line], template_code: str) -> SendOrder:
    params = [line.params for line in lines]
    if all(one == params[0] for one in params):
        params = params[:1] if params[0] else []
    signs = [line.sign_name for line in lines]
    return SendOrder(
        phones=[line.phone for line in lines],
        params=params,
        sign_names=signs[:1] if len(set(signs)) == 1 else signs,
        template_code=template_code,
        out_id=lines[0].out_id,
    )


def _unnumbered(problem: Problem) -> Problem:
    # The place of a line among those of its call, of which it is the only one, is no help.
    return Problem(problem.place.replace("[0]", ""), problem.rule, problem.value, problem.cure)


def _rows(file: BinaryIO) -> Iterator[tuple[int, list[str] | None]]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, None
            continue
        if line.strip():
            yield number, _cells(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)


def _cells(line: bytes) -> list[str] | None:
    try:
        return next(csv.reader([line.decode().rstrip("\r\n")], strict=True), None)
    except (UnicodeDecodeError, csv.Error):
        return None
