"""Pullers and providers by name, through entry points; only what is named is imported."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, cast

from receiptd.errors import Problem

if TYPE_CHECKING:
    from receiptd.providers.base import Provider
    from receiptd.pullers.base import PullerKind

PULLERS = "receiptd.pullers"
PROVIDERS = "receiptd.providers"

# What a plug-in must have to be worth a try; the rest of the contract is in `receiptd.testing`.
_NEEDED = {
    PULLERS: ("problems", "open"),
    PROVIDERS: ("name", "normalizers", "default_message_type", "problems", "credentials"),
}


def pullers() -> list[str]:
    """Return the names of the installed pullers."""
    return sorted({point.name for point in _points(PULLERS)})


def providers() -> list[str]:
    """Return the names of the installed providers."""
    return sorted({point.name for point in _points(PROVIDERS)})


def find_puller(name: str, place: str, problems: list[Problem]) -> "PullerKind | None":
    """Return the puller called `name`; None if it is unknown or broken, which is then added to
    `problems` for the key at `place`."""
    return cast("PullerKind | None", _find(PULLERS, name, place, problems))


def find_provider(name: str, place: str, problems: list[Problem]) -> "Provider | None":
    """Return the provider called `name`; None if it is unknown or broken, which is then added to
    `problems` for the key at `place`."""
    return cast("Provider | None", _find(PROVIDERS, name, place, problems))


def _find(group: str, name: str, place: str, problems: list[Problem]) -> object | None:
    kind = group.rpartition(".")[2].removesuffix("s")
    # By value: an editable install and its wheel can both be seen.
    points = {point.value: point for point in _points(group) if point.name == name}
    if not points:
        installed = ", ".join(sorted({point.name for point in _points(group)})) or "none"
        rule = f"no such {kind} is installed"
        problems.append(Problem(place, rule, value=repr(name), cure=f"installed: {installed}"))
        return None
    if len(points) > 1:
        rule = f"more than one {kind} has this name: " + ", ".join(sorted(points))
        problems.append(Problem(place, rule, value=repr(name), cure="uninstall all but one"))
        return None
    [point] = points.values()
    plugin, flaw = _load(point)
    if flaw is None:
        missing = [need for need in _NEEDED[group] if not hasattr(plugin, need)]
        flaw = f"lacks {', '.join(missing)}" if missing else None
    if flaw is not None:
        rule = f"the {kind} {point.value} {flaw}"
        problems.append(Problem(place, rule, value=repr(name), cure="reinstall or repair it"))
        return None
    return plugin


def _load(point: EntryPoint) -> tuple[object | None, str | None]:
    try:
        return point.load(), None
    except (ImportError, AttributeError) as exc:
        return None, f"cannot be imported: {exc}"
    except Exception as exc:  # other people's code: whatever its import raises
        return None, f"cannot be imported: {type(exc).__name__}"


def _points(group: str) -> Iterator[EntryPoint]:
    yield from entry_points(group=group)
