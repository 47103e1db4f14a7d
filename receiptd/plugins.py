"""Pullers and providers by name, through entry points; only what is named is imported."""

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, cast

from receiptd.errors import Problem
from receiptd.providers.base import Normalizer, Provider, message_type_of

if TYPE_CHECKING:
    from receiptd.pullers.base import PullerKind

PULLERS = "receiptd.pullers"
PROVIDERS = "receiptd.providers"

# What a plug-in must have to be worth a try; the rest of the contract is in `receiptd.testing`.
_NEEDED = {
    PULLERS: ("problems", "open"),
    PROVIDERS: (
        "name",
        "normalizers",
        "default_message_type",
        "send_readers",
        "receipts_provider",
        "problems",
        "credentials",
        "refusal",
        "open_query",
        "open_send",
    ),
}


class Installed:
    """What is installed, for whoever goes on without what is not.

    Each is looked for once: that reads the names of all that is installed, in 1.4 ms.
    """

    def __init__(self) -> None:
        self._providers: dict[str, Provider | None] = {}
        self._pullers: dict[str, PullerKind | None] = {}

    def provider(self, name: str) -> Provider | None:
        """Return the provider called `name`, None if it is unknown or broken."""
        if name not in self._providers:
            self._providers[name] = find_provider(name, "", [])
        return self._providers[name]

    def puller(self, name: str) -> "PullerKind | None":
        """Return the puller called `name`, None if it is unknown or broken."""
        if name not in self._pullers:
            self._pullers[name] = find_puller(name, "", [])
        return self._pullers[name]


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


def find_provider(name: str, place: str, problems: list[Problem]) -> Provider | None:
    """Return the provider called `name`; None if it is unknown or broken, which is then added to
    `problems` for the key at `place`."""
    return cast("Provider | None", _find(PROVIDERS, name, place, problems))


def find_normalizer(
    provider: Provider, configured: str, place: str, problems: list[Problem]
) -> Normalizer | None:
    """Return what reads the messages of a source with this message type, "" for the provider's
    default; None if it has no such type, which is then added to `problems` for the key at
    `place`."""
    normalize = provider.normalizers.get(message_type_of(provider, configured))
    if normalize is None:
        rule = f"must be a message type of the provider {provider.name}"
        cure = "one of: " + ", ".join(sorted(provider.normalizers))
        problems.append(Problem(place, rule, value=configured, cure=cure))
    return normalize


def unknown_names(values: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each provider and puller in the raw tables that is not installed.

    Looks at names only, so that these problems are told together with those of shape.
    """
    problems: list[Problem] = []
    for table, key, group in (("accounts", "provider", PROVIDERS), ("sources", "puller", PULLERS)):
        entries = values.get(table)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            wanted = entry.get(key) if isinstance(entry, dict) else None
            installed = sorted({point.name for point in _points(group)})
            if isinstance(wanted, str) and wanted not in installed:
                problems.append(_not_installed(group, wanted, f"{table}.{name}.{key}", installed))
    return problems


def _not_installed(group: str, name: str, place: str, installed: list[str]) -> Problem:
    rule = f"no such {_kind(group)} is installed"
    cure = f"installed: {', '.join(installed) or 'none'}"
    return Problem(place, rule, value=repr(name), cure=cure)


def _kind(group: str) -> str:
    return group.rpartition(".")[2].removesuffix("s")


def _find(group: str, name: str, place: str, problems: list[Problem]) -> object | None:
    kind = _kind(group)
    # By value: an editable install and its wheel can both be seen.
    points = {point.value: point for point in _points(group) if point.name == name}
    if not points:
        installed = sorted({point.name for point in _points(group)})
        problems.append(_not_installed(group, name, place, installed))
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
