"""docs/reliability.md: every fault of the matrix has its row, and every test it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
# Of each letter, as many faults as this.
FAULTS = {"K": 4, "D": 13, "B": 16, "A": 7, "P": 17, "S": 21, "R": 8}
ROWS = {
    found[1]: found[0]
    for found in re.finditer(r"^\| ([KDBAPSR]\d+) \|.*$", PAGE, flags=re.MULTILINE)
}
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", PAGE)))


@cache
def functions_of(file: Path) -> frozenset[str]:
    nodes = ast.walk(ast.parse(file.read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef))


def test_every_fault_has_one_row_in_the_order_of_the_matrix() -> None:
    wanted = [f"{letter}{n}" for letter, count in FAULTS.items() for n in range(1, count + 1)]

    assert re.findall(r"^\| ([KDBAPSR]\d+) \|", PAGE, flags=re.MULTILINE) == wanted


@pytest.mark.parametrize("fault", ROWS)
def test_a_row_names_its_invariant_and_a_test_or_the_reason_why_there_is_none(fault: str) -> None:
    _, _, what, invariant, tests, figure, _ = _cells(fault)

    assert what
    assert invariant
    if "::" in tests:
        assert figure
    else:
        assert tests.startswith("Not tested: ")


def _cells(fault: str) -> list[str]:
    return [cell.strip() for cell in ROWS[fault].split("|")]


@pytest.mark.parametrize("named", NAMED)
def test_a_test_that_is_named_is_there(named: str) -> None:
    file, name = named.split("::")

    assert name in functions_of(ROOT / file)


def test_no_name_is_written_in_a_way_that_is_not_checked() -> None:
    assert PAGE.count("::") == len(re.findall(r"`tests/[\w/]+\.py::\w+`", PAGE))
