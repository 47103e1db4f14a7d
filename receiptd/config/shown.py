"""What may be shown of a configuration: dotted places, and values that hold no secret."""

import json
import re
from collections.abc import Sequence

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_URL_CREDENTIALS = re.compile(r"//[^/@\s]*@")
_LONGEST = 80

# Not secret by type, but not for logs either: key ids, and URLs whose path is a password.
_HIDDEN_KEYS = frozenset({"access_key_id", "app_key", "app_id"})


def place(keys: Sequence[str | int]) -> str:
    """Return keys as TOML writes them: `accounts.main.region`, odd ones in quotes."""
    return ".".join(key if _BARE_KEY.fullmatch(key) else json.dumps(key) for key in map(str, keys))


def is_hidden(keys: Sequence[str | int]) -> bool:
    """Return whether the value at this place stays out of every text."""
    return bool(keys) and (
        keys[-1] in _HIDDEN_KEYS or "options" in keys or (keys[0] == "notify" and keys[-1] == "url")
    )


def value(shown: object) -> str:
    """Return a value in one line, cut where it is long, without the credentials of a URL."""
    if isinstance(shown, bool):
        return str(shown).lower()
    if isinstance(shown, dict):
        return "a table"
    if isinstance(shown, list | tuple):
        return "a list"
    text = _URL_CREDENTIALS.sub("//[hidden]@", repr(shown))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
