"""The house: who may import whom, and the few rules that hold for every module."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import receiptd

PACKAGE = Path(receiptd.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST_MODULE = 400  # lines

# Module (or package) right under receiptd -> floor and room, after design.md section 13. A room
# imports only from floors below it; modules of one room may import each other.
ROOMS = {
    "cli": (7, "cli"),
    "__main__": (7, "cli"),
    "daemon": (6, "daemon"),
    "chores": (6, "daemon"),
    "signals": (6, "daemon"),
    "systemd": (6, "daemon"),
    "watchdog": (6, "daemon"),
    "memory": (6, "daemon"),
    "worker": (5, "worker"),
    "tally": (5, "worker"),
    "housekeeping": (5, "worker"),
    "batch_size": (5, "worker"),
    "acker": (5, "worker"),
    "trial": (5, "worker"),
    "trial_reader": (5, "worker"),
    "assembly": (5, "assembly"),
    "reconcile": (5, "reconcile"),
    "replay": (5, "replay"),
    "web": (5, "web"),
    "notify": (5, "notify"),
    "demo": (6, "demo"),
    "client": (5, "client"),
    "client_http": (5, "client"),
    "sending": (5, "sending"),
    "sending_csv": (5, "sending"),
    "online": (5, "online"),
    "rollup": (5, "worker"),
    "chore": (4, "steadiness"),
    "gate": (4, "steadiness"),
    "turns": (4, "steadiness"),
    "unacked": (4, "steadiness"),
    "insist": (4, "steadiness"),
    "pulse": (4, "steadiness"),
    "pipeline": (4, "pipeline"),
    "ledger": (4, "ledger"),
    "ledger_import": (4, "ledger"),
    "explain": (4, "explain"),
    "status": (4, "status"),
    "export": (4, "export"),
    "erase": (4, "erase"),
    "quarantine": (4, "quarantine"),
    "plugins": (4, "plugins"),
    "pullers": (3, "pullers"),
    "providers": (3, "providers"),
    "store": (3, "store"),
    "metrics": (3, "metrics"),
    "log": (3, "log"),
    "masking": (3, "log"),
    "config": (2, "config"),
    "model": (2, "model"),
    "phone": (2, "phone"),
    "china": (2, "china"),
    "errors": (1, "errors"),
    "clock": (1, "clock"),
    "tls": (1, "tls"),
    "__init__": (0, "version"),
}
# They stand beside the house; the tests below say who may know them.
APART = {"sandbox", "testing"}

# Where all exceptions may be caught without being raised again, and why.
CATCHES_ALL = {
    "worker.py": "a bug is logged, waited out and tried again",
    "reconcile/runner.py": "a bug in one question must not hold back the others",
    "trial_reader.py": "reads what may be anything; only whether it outlives that counts",
    "chore.py": "a bug is logged, waited out and tried again",
    "pipeline.py": "a bug in one envelope must not hold back the others",
    "cli/__init__.py": "a bug becomes an exit code",
    "plugins.py": "what other people's code raises on import becomes a problem",
    "log.py": "a library that logs wrongly does no harm",
    "store/writer.py": "handed to the callers that wait for the commit",
    "web/shell.py": "a bug is logged and answered; the daemon goes on",
    "web/work.py": "handed to the handler that waits",
    "demo/sending.py": "shown by the demonstration, which then ends",
}


def name_of(file: Path) -> str:
    """Return the path within the package."""
    return file.relative_to(PACKAGE).as_posix()


def room_of(file: Path) -> str:
    """Return the module or package right under receiptd that the file belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path) -> Iterator[str]:
    """Yield the absolute name of each module that a file imports, also within functions and for
    type checking only."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)}: imports are absolute"
            module = node.module or ""
            for alias in node.names:
                below = PACKAGE.parent / module.replace(".", "/") / alias.name
                is_module = below.is_dir() or below.with_suffix(".py").exists()
                yield f"{module}.{alias.name}" if is_module else module


def rooms_imported(file: Path) -> set[str]:
    """Return the rooms of receiptd that a file imports from."""
    names = [name.split(".") for name in imported(file)]
    return {name[1] if len(name) > 1 else "__init__" for name in names if name[0] == "receiptd"}


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_a_room_imports_only_from_floors_below_it(file: Path) -> None:
    here = room_of(file)
    if here in APART:
        return
    floor, room = ROOMS[here]
    for other in rooms_imported(file) - APART:
        other_floor, other_room = ROOMS[other]
        assert other_floor < floor or other_room == room, f"{name_of(file)} imports {other}"


def test_every_room_has_a_floor() -> None:
    assert {room_of(file) for file in MODULES} - APART <= set(ROOMS)


def test_no_module_imports_itself_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for file in MODULES:
        module = "receiptd." + name_of(file).removesuffix(".py").replace("/", ".")
        own = module.removesuffix(".__init__")
        graph[own] = {name for name in imported(file) if name.startswith("receiptd.")} - {own}

    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_the_sandbox_is_apart(file: Path) -> None:
    rooms = rooms_imported(file)
    if room_of(file) == "sandbox":
        assert rooms <= {"sandbox"}
    elif "sandbox" in rooms:
        assert room_of(file) in {"demo", "cli"}


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_the_conformance_suites_are_apart(file: Path) -> None:
    rooms = rooms_imported(file)
    if room_of(file) == "testing":
        # As far up as the worker, because a puller is tried under it.
        assert all(room == "testing" or ROOMS[room][0] <= 5 for room in rooms)
    else:
        assert "testing" not in rooms


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_only_the_pipeline_makes_committed(file: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    makes = [call for call in calls if ast.unparse(call.func).split(".")[-1] == "Committed"]

    assert not makes or name_of(file) == "pipeline.py" or room_of(file) == "testing"


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_the_sdks_stay_in_the_pullers_that_drive_them(file: Path) -> None:
    homes = {"mns": "pullers/mns.py", "mq_http_sdk": "pullers/rocketmq.py"}
    for name in imported(file):
        home = homes.get(name.split(".")[0])
        assert home is None or name_of(file) == home


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_no_module_is_too_long(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_nobody_sets_the_locale(file: Path) -> None:
    # In a Chinese locale every call of the SDKs fails on its Date header.
    assert "setlocale" not in file.read_text()


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_all_exceptions_are_caught_only_where_that_is_the_plan(file: Path) -> None:
    if room_of(file) == "sandbox" or name_of(file) in CATCHES_ALL:
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = ast.unparse(node.type) if node.type else "everything"
        if caught in {"everything", "Exception", "BaseException"}:
            raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            assert raises, f"{name_of(file)}:{node.lineno} swallows {caught}"


def test_the_list_of_those_who_catch_all_is_short_and_true() -> None:
    for name in CATCHES_ALL:
        assert "except Exception" in (PACKAGE / name).read_text()
