"""The documents say what the program does: commands, keys, exit codes."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from receiptd.cli import exit_codes
from receiptd.cli.app import command
from receiptd.config import Settings
from receiptd.config.loading import load
from receiptd.config.settings import Table, is_table_of_tables, table_model
from receiptd.log import EVENTS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CONFIG = ROOT / "config.toml"

# A commented-out table or key, as against a sentence.
_EXAMPLE = re.compile(r"# (\[[a-z_.]+\]|[a-z_]+ = .*)")


def tables() -> dict[str, type[Table]]:
    """Return the model of each table, `accounts` and the like by their name alone."""
    models = {key: table_model(Settings, key) for key in Settings.model_fields}
    return {key: model for key, model in models.items() if model is not None}


def keys() -> list[str]:
    return [f"{table}.{key}" for table, model in tables().items() for key in model.model_fields]


def commands() -> list[str]:
    """Return every command's full name."""
    return [name for name, _ in walk(command(), "receiptd") if name not in _GROUPS]


_GROUPS = {"receiptd", "receiptd db"}


def walk(group: Any, name: str) -> list[tuple[str, Any]]:
    """Return all commands and groups from `group` down, with their full names."""
    found = [(name, group)]
    for key, one in getattr(group, "commands", {}).items():
        found += walk(one, f"{name} {key}")
    return found


def uncommented() -> dict[str, Any]:
    """Return config.toml with every example in force."""
    lines = CONFIG.read_text().splitlines()
    text = "\n".join(line[2:] if _EXAMPLE.match(line) else line for line in lines)
    return tomllib.loads(text)


def test_the_shipped_configuration_loads_and_is_the_default() -> None:
    assert load(CONFIG, {}) == Settings()


def test_the_shipped_examples_load_and_show_the_defaults() -> None:
    settings = Settings.model_validate(uncommented())

    for name in ("accounts", "sources", "notify"):
        for table in getattr(settings, name).values():
            for key, field in type(table).model_fields.items():
                if not field.is_required():
                    assert getattr(table, key) == field.get_default(call_default_factory=True)


@pytest.mark.parametrize("key", keys())
def test_the_shipped_configuration_has_every_key(key: str) -> None:
    table, _, name = key.partition(".")
    shown = uncommented()[table]
    entries = shown.values() if is_table_of_tables(Settings, table) else [shown]

    assert any(name in entry for entry in entries)


@pytest.mark.parametrize("key", keys())
def test_every_key_of_the_shipped_configuration_has_a_comment(key: str) -> None:
    name = key.partition(".")[2]
    lines = [line for line in CONFIG.read_text().splitlines() if re.match(rf"(# )?{name} = ", line)]
    comments = [line.lstrip("# ").partition("#")[2] for line in lines]

    assert any(comments) or name.endswith("_file") or name in _PLAIN


# Said by their name.
_PLAIN = {"topic"}


def test_tables_without_effect_say_so() -> None:
    text = CONFIG.read_text()

    for table in ("[reconcile]", "[http]", "# [notify.app]"):
        [line] = [line for line in text.splitlines() if line.startswith(table)]
        assert line.endswith("takes effect in a later version") or "later version;" in line


@pytest.mark.parametrize("name", [name for name, _ in walk(command(), "receiptd")])
def test_every_command_has_help_and_an_example(name: str) -> None:
    [one] = [one for found, one in walk(command(), "receiptd") if found == name]

    assert one.help
    assert re.search(r"^Example: receiptd ", one.epilog)


@pytest.mark.parametrize("name", commands())
def test_every_example_is_of_its_command(name: str) -> None:
    [one] = [one for found, one in walk(command(), "receiptd") if found == name]

    assert name in one.epilog


# --- the README ---


@pytest.fixture(scope="module")
def readme() -> str:
    return README.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", commands())
def test_the_readme_names_every_command(readme: str, name: str) -> None:
    assert f"`{name}" in readme


@pytest.mark.parametrize("key", keys())
def test_the_readme_names_every_configuration_key(readme: str, key: str) -> None:
    table, _, name = key.partition(".")

    assert f"`{name}`" in readme
    assert table in readme


@pytest.mark.parametrize(("code", "meaning"), list(exit_codes.MEANINGS.items()))
def test_the_readme_names_every_exit_code(readme: str, code: int, meaning: str) -> None:
    assert re.search(rf"\| *`?{code}`? *\|.*{re.escape(meaning.split()[0])}", readme)


def logged_events() -> list[str]:
    """Return the events that some module logs; the table may hold some for later."""
    source = "".join(file.read_text() for file in (ROOT / "receiptd").rglob("*.py"))
    # The table itself is one occurrence.
    return sorted(event for event in EVENTS if source.count(f'"{event}"') > 1)


@pytest.mark.parametrize("event", logged_events())
def test_the_readme_names_every_log_event(readme: str, event: str) -> None:
    assert f"`{event}`" in readme


def test_every_make_target_that_the_documents_name_is_there(readme: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = readme + (ROOT / "CONTRIBUTING.md").read_text()

    for target in set(re.findall(r"`?make ([a-z]+)", text)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
