"""What an operator reads on the terminal, in English or in Chinese.

The code's texts are English; where they are printed, and only there, they are looked up in
`receiptd/locale/zh.toml` if the environment asks for Chinese. What has no entry stays English.
Logs, `--json` and data are never translated.
"""

import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, TextIO

from receiptd.errors import ConfigError, Problem, ReceiptdError, SourceError

_PLACEHOLDER = re.compile(r"\{[a-z0-9_]*\}")


def is_chinese(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for Chinese: the first of these that is set decides, as in
    gettext; a locale of C or POSIX means no translation whatever LANGUAGE says."""
    locale = next((environ[key] for key in _LOCALES if environ.get(key)), "")
    if locale.partition(".")[0] in ("C", "POSIX"):
        return False
    return (environ.get("LANGUAGE") or locale).lower().startswith("zh")


_LOCALES = ("LC_ALL", "LC_MESSAGES", "LANG")


def _is_wanted() -> bool:
    return is_chinese(os.environ) and all(map(_can_show, (sys.stdout, sys.stderr)))


def _can_show(stream: TextIO | None) -> bool:
    try:
        "短信".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def translated(text: str) -> str:
    """Return `text` in the operator's language, or as it is."""
    return to_chinese(text) if _is_wanted() else text


def problem(one: Problem) -> str:
    """Return a problem in one line, as str() does, in the operator's language."""
    if not _is_wanted():
        return str(one)
    line = f"{one.place}：{to_chinese(one.rule)}"
    if one.value:
        line += f"（当前值：{one.value}）"
    if one.cure:
        line += f"；{to_chinese(one.cure)}"
    return line


def error(exc: ReceiptdError) -> str:
    """Return an error's lines, as str() does, in the operator's language."""
    if not _is_wanted():
        return str(exc)
    if isinstance(exc, ConfigError):
        return "\n".join(problem(one) for one in exc.problems)
    if isinstance(exc, SourceError) and exc.cure:
        head = str(exc).removesuffix(exc.cure).removesuffix("; ")
        return f"{head}；{to_chinese(exc.cure)}"
    return "\n".join(map(to_chinese, str(exc).splitlines()))


def to_chinese(text: str) -> str:
    """Return the Chinese for an English text; what has none is returned as it is.

    A text can be two known ones with `; ` or `: ` between them, which are then looked up one by
    one.
    """
    if found := _found(text):
        return found
    for mark, chinese_mark in (("; ", "；"), (": ", "：")):
        head, found_mark, tail = text.partition(mark)
        if found_mark:
            parts = (_found(head), to_chinese(tail))
            if parts[0] or parts[1] != tail:
                return f"{parts[0] or head}{chinese_mark}{parts[1]}"
    return text


def _found(text: str) -> str:
    exact, patterns = _catalogue()
    if text in exact:
        return exact[text]
    for pattern, chinese in patterns:
        if match := pattern.fullmatch(text):
            return chinese.format_map(match.groupdict())
    return ""


def summarize(program: Any, name: str = "receiptd") -> None:
    """Give each command below `program` its summary in the operator's language, for the lists of
    commands; the helps themselves are English."""
    if not _is_wanted():
        return
    for key, one in getattr(program, "commands", {}).items():
        one.short_help = summaries().get(f"{name} {key}", one.short_help)
        summarize(one, f"{name} {key}")


def catalogue() -> dict[str, str]:
    """Return English template -> Chinese template; `{name}` stands for what differs."""
    return _file()["texts"]


def summaries() -> dict[str, str]:
    """Return the full name of each command -> what it does, in Chinese."""
    return _file()["commands"]


@cache
def _file() -> dict[str, dict[str, str]]:
    import pkgutil
    import tomllib

    data = pkgutil.get_data("receiptd", "locale/zh.toml") or b""
    return tomllib.loads(data.decode())


@cache
def _catalogue() -> tuple[dict[str, str], list[tuple[re.Pattern[str], str]]]:
    """Return the texts without a placeholder, and the patterns of the others: those with the most
    words of their own first, because the others fit more."""
    exact: dict[str, str] = {}
    patterns: list[tuple[int, re.Pattern[str], str]] = []
    for english, chinese in catalogue().items():
        names = _PLACEHOLDER.findall(english)
        if not names:
            exact[english] = chinese
            continue
        own = _PLACEHOLDER.split(english)
        pattern = re.escape(own[0])
        for name, text in zip(names, own[1:], strict=True):
            pattern += f"(?P<{name[1:-1]}>.*?){re.escape(text)}"
        patterns.append((-len("".join(own)), re.compile(pattern, re.DOTALL), chinese))
    patterns.sort(key=lambda entry: entry[0])
    return exact, [(pattern, chinese) for _, pattern, chinese in patterns]
