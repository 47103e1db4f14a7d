"""What else a JSON object might be: each of its values dropped, or replaced by what nobody expects.

Seeded, so that a failure comes again; without Hypothesis, so that pytest is all that is needed.
"""

import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_DEPTH = 60  # decode lets through 64
_COMBINED = 20  # objects with several wounds, per sample
_DROP = object()


def _nested(wrap: Any) -> Any:
    value: Any = "x"
    for _ in range(_DEPTH):
        value = wrap(value)
    return value


UNEXPECTED: tuple[object, ...] = (
    None, True, False, 0, -1, 1.5, float("nan"), float("inf"), 2**53 + 1, 2**63, 10**30, 10**4000,
    "", " ", "0", "true", "OK", "13900000001", "139****0001", "+1", "00000000000000",
    # Digits that are no ASCII, a number that is no number, a NUL, a lone surrogate, escape codes.
    "١٢٣", "１３９", "1e999", "9" * 200, "x" * 20_000, "a\0b", "\ud800", "\x1b[31m\r\n", "\u202e",
    "2024-02-30 00:00:00", "0001-01-01 00:00:00", "9999-12-31 23:59:59", "20241301000000",
    "Thu, 25 Nov 0001 10:27:00 +9959", "[" * 100, "{}", "[1,null]", '{"a":{"b":[]}}',
    [], {}, [[]], [None], ["13900000001"], {"a": 1}, {"": None},
    _nested(lambda value: [value]), _nested(lambda value: {"a": value}),
)  # fmt: skip


def mutations(data: Mapping[str, object], seed: int, most: int) -> Iterator[dict[str, Any]]:
    """Yield objects like `data`: each value dropped or unexpected, `most` of them at random if that
    is more; then some with several of that at a time."""
    chance = random.Random(seed)
    paths = list(places(data))
    wounds = [(path, value) for path in paths for value in (_DROP, *UNEXPECTED)]
    for path, value in wounds if len(wounds) <= most else chance.sample(wounds, most):
        yield _changed(data, path, value)
    for _ in range(_COMBINED if paths else 0):
        mutant = _changed(data, chance.choice(paths), chance.choice(UNEXPECTED))
        for _ in range(chance.randint(1, 3)):
            mutant = _changed(mutant, chance.choice(paths), chance.choice((_DROP, *UNEXPECTED)))
        mutant[f"unknown-{chance.random()}"] = chance.choice(UNEXPECTED)
        yield mutant


def places(data: object, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every value below `data`, containers too."""
    if path:
        yield path
    inner: Iterator[tuple[Any, object]] = iter(())
    if isinstance(data, Mapping):
        inner = iter(data.items())
    elif isinstance(data, list | tuple):
        inner = iter(enumerate(data))
    for key, value in inner:
        yield from places(value, (*path, key))


def value_at(data: object, path: Path) -> object:
    """Return the value at a path of `places`."""
    found: Any = data
    for key in path:
        found = found[key]
    return found


def replaced(data: Mapping[str, object], wanted: object, by: object) -> dict[str, Any] | None:
    """Return a copy in which `by` stands wherever the text or number `wanted` stood; None if it
    stands nowhere as it is."""
    # By their text, because an id may stand there as a number.
    where = [path for path in places(data) if _is_it(value_at(data, path), wanted)]
    changed = None
    for path in where:
        changed = _changed(changed or data, path, by)
    return changed


def _is_it(value: object, wanted: object) -> bool:
    return type(value) in (str, int) and str(value) == wanted


def _changed(data: Mapping[str, object], path: Path, value: object) -> dict[str, Any]:
    """Return a copy with another value at `path`; as it is if an earlier wound took that away."""
    mutant: dict[str, Any] = copy.deepcopy(dict(data))
    inner: Any = mutant
    try:
        for key in path[:-1]:
            inner = inner[key]
        if value is _DROP:
            del inner[path[-1]]
        else:
            inner[path[-1]] = copy.deepcopy(value)
    except (LookupError, TypeError):
        pass
    return mutant
