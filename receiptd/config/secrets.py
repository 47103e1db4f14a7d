"""Secrets that stand in files: `<key>_file`, or a credential in `$CREDENTIALS_DIRECTORY`."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from receiptd.config import shown
from receiptd.config.settings import Settings, Table, is_table_of_tables, secret_keys, table_model
from receiptd.errors import Problem

_SUFFIX = "_file"
_LARGEST = 65_536  # bytes; a key is 30, and a wrong path can lead to anything


def resolve(values: dict[str, Any], environ: Mapping[str, str], base: Path) -> list[Problem]:
    """Put the content of each secret's file in the secret's place in `values`; return what is
    wrong with them.

    Relative paths begin at `base`. A credential is a file in `$CREDENTIALS_DIRECTORY` (systemd's,
    or a directory of mounted secrets) that has the secret's dotted name; whoever put it there
    answers for its mode.
    """
    directory = environ.get("CREDENTIALS_DIRECTORY")
    credentials = Path(directory) if directory else None
    problems = []
    for keys, model, table in _tables(values):
        for key in secret_keys(model):
            problem = _resolve_one((*keys, key), table, credentials, base)
            if problem is not None:
                problems.append(problem)
    return problems


def _resolve_one(
    keys: tuple[str, ...], table: dict[str, Any], credentials: Path | None, base: Path
) -> Problem | None:
    key = keys[-1]
    named = table.get(key + _SUFFIX)
    credential = credentials / ".".join(keys) if credentials else None
    ways = [
        way
        for way, is_used in (
            (f"{shown.place(keys)} itself", table.get(key)),
            (shown.place(keys) + _SUFFIX, named),
            ("a credential", credential is not None and os.path.exists(credential)),
        )
        if is_used
    ]
    if len(ways) > 1:
        rule = "is given more than once: " + " and ".join(ways)
        return Problem(place=shown.place(keys), rule=rule, cure="keep one of them")
    if named and isinstance(named, str):
        path = base / named
        trusted = credentials is not None and credentials.resolve() in path.resolve().parents
        place = shown.place(keys) + _SUFFIX
    elif ways == ["a credential"] and credential is not None:
        path, trusted, place = credential, True, shown.place(keys)
    else:
        return None
    try:
        table[key] = _read(path, trusted=trusted)
    except _Unusable as exc:
        return Problem(place=place, rule=exc.rule, value=str(path), cure=exc.cure)
    return None


class _Unusable(Exception):
    def __init__(self, rule: str, cure: str = "") -> None:
        self.rule = rule
        self.cure = cure


def _read(path: Path, *, trusted: bool) -> str:
    try:
        # Not blocking: a named pipe without a writer would hold the start for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as exc:
        raise _Unusable(f"cannot be read: {getattr(exc, 'strerror', None) or 'no path'}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _Unusable("is not a file")
        if status.st_mode & 0o077 and not trusted:
            raise _Unusable(
                f"others than its owner may read it (mode {stat.S_IMODE(status.st_mode):04o})",
                f"chmod 600 {path}",
            )
        content = os.read(descriptor, _LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > _LARGEST:
        raise _Unusable("is too large to be a secret")
    try:
        text = content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise _Unusable("is not text") from None
    if not text:
        raise _Unusable("is empty")
    return text


def _tables(
    values: dict[str, Any],
) -> list[tuple[tuple[str, ...], type[Table], dict[str, Any]]]:
    """Return each table that is there, with its keys and its model; those with a fixed name count
    as there even when absent."""
    tables: list[tuple[tuple[str, ...], type[Table], Any]] = []
    for key in Settings.model_fields:
        model = table_model(Settings, key)
        assert model is not None
        if is_table_of_tables(Settings, key):
            named = values.get(key)
            entries = named.items() if isinstance(named, dict) else ()
            tables += [((key, name), model, table) for name, table in entries]
        else:
            tables.append(((key,), model, values.setdefault(key, {})))
    return [entry for entry in tables if isinstance(entry[2], dict)]
