"""The English texts of the program that an operator reads, found in its source."""

import ast
import csv
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import receiptd

PACKAGE = Path(receiptd.__file__).parent

# Where stands what an operator meets when something has to be set up or mended. What a line of a
# CSV, or a text message, has wrong is of the data and stays English.
ROOMS = (
    "assembly.py",
    "cli",
    "config",
    "daemon.py",
    "online",
    "plugins.py",
    "providers",
    "pullers",
    "store",
    "web/server.py",
)
_OF_THE_DATA = ("send.py", "limits.py", "send_report.py", "sends.py")
# Calls -> the arguments that are texts, by position; and keywords, of any call.
_ARGUMENTS = {
    "Problem": (1, 3),
    "_Unusable": (0, 1),
    "passed": (0,),
    "skipped": (0,),
    "translated": (0,),
    "StoreUnavailable": (0,),
    "StoreRejected": (0,),
    "ok": (0,),
    "skip": (0,),
    "warn": (0, 1),
    "fail": (1, 2),
}
_KEYWORDS = ("rule", "cure", "unasked")
# Names that texts are given to on their way, and tables of texts.
_NAMES = re.compile(r"rule|cure|detail|unasked|flaw|_RULE|_KEY|_RIGHTS|_ANY_REFUSAL|[A-Z_]*_CURE")
_TABLES = ("CURES", "_CURES", "_RULES", "_UNAVAILABLE", "_REFUSED", "_CODES", "MEANINGS")
# Functions that return texts.
_RETURN = ("_distrusted", "_skew", "_hint", "_cure")
_WORDS = re.compile(r"[A-Za-z]{2}")


def texts() -> dict[str, str]:
    """Return template -> where it stands. What differs is `{a}`, `{b}`, … in a template."""
    found: dict[str, str] = {}
    for file in [file for room in ROOMS for file in _files(PACKAGE / room)]:
        for node in ast.walk(ast.parse(file.read_text())):
            expressions = list(_expressions(node))
            # Elsewhere they are not told to operators.
            if "config" in file.parts and _called(node) == "ValueError":
                expressions += node.args[:1]  # type: ignore[attr-defined]  # a call has them
            # The variables of commands are of wrong usage, which the parser tells in English.
            if "cli" in file.parts and not isinstance(node, ast.Call | ast.FunctionDef):
                expressions = [one for one in expressions if file.stem == "exit_codes"]
            for expression in expressions:
                where = f"{file.relative_to(PACKAGE)}:{expression.lineno}"
                for text in _templates(expression):
                    # A lone word is a code or a name.
                    if _WORDS.search(text) and re.search("[ :]", _plain(text).strip()):
                        found.setdefault(lettered(text), where)
    # TOP's refusals, which end up in a SourceError; those of the send APIs are data of a report.
    rows = csv.DictReader((PACKAGE / "providers/jushita/errors.csv").read_text().splitlines())
    for row in rows:
        found.setdefault(row["cure"], "providers/jushita/errors.csv")
    found.pop("", None)
    return found


def lettered(text: str) -> str:
    """Return a template with its placeholders named by their order."""
    letters = iter("abcdefghij")
    return re.sub(r"\{[a-z0-9_]*\}", lambda _: f"{{{next(letters)}}}", text)


def _plain(text: str) -> str:
    return re.sub(r"\{[a-z0-9_]*\}", "", text)


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return [file for file in sorted(place.rglob("*.py")) if file.name not in _OF_THE_DATA]


def _called(node: ast.AST) -> str:
    return ast.unparse(node.func).split(".")[-1] if isinstance(node, ast.Call) else ""


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions of a node that are texts for an operator."""
    match node:
        case ast.Call():
            for position in _ARGUMENTS.get(_called(node), ()):
                if position < len(node.args):
                    yield node.args[position]
            yield from (one.value for one in node.keywords if one.arg in _KEYWORDS)
        case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
            pairs = zip(names, values, strict=True)
            yield from (value for name, value in pairs if _NAMES.fullmatch(ast.unparse(name)))
        case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=value):
            if value is None:
                return
            name = ast.unparse(target)
            if _NAMES.fullmatch(name):
                yield value
            elif name in _TABLES:
                yield from _cells(value)
        case ast.FunctionDef() if node.name in _RETURN:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield from _cells(inner.value)


def _cells(table: ast.expr) -> Iterator[ast.expr]:
    """Yield the texts of a table; the keys of a dict are none."""
    if isinstance(table, ast.Dict):
        for value in table.values:
            yield from _cells(value)
    elif isinstance(table, ast.Tuple):
        for value in table.elts:
            yield from _cells(value)
    else:
        yield table


def _templates(expression: ast.expr) -> list[str]:
    """Return what a text can be, `{}` for what differs; nothing for a variable alone."""
    match expression:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            parts = [_templates(value) or ["{}"] for value in values]
            return ["".join(choice) for choice in itertools.product(*parts)]
        case ast.FormattedValue(value=ast.IfExp() as value):
            return _templates(value)
        case ast.IfExp(body=body, orelse=orelse):
            return [*_templates(body), *_templates(orelse)]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            sides = (_templates(left) or ["{}"], _templates(right) or ["{}"])
            return ["".join(choice) for choice in itertools.product(*sides)]
        case ast.Subscript(value=value):
            return []
        case ast.Tuple() | ast.Dict():
            return []
        case _:
            return []
