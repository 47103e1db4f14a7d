"""The documents say what the program does: commands, keys, exit codes, metrics, events."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from receiptd.cli import exit_codes
from receiptd.cli.app import command
from receiptd.clock import SystemClock
from receiptd.config import Settings
from receiptd.config.loading import load
from receiptd.config.settings import Table, is_table_of_tables, table_model
from receiptd.log import EVENTS
from receiptd.metrics import Metrics, Open
from tests.test_cli_help import walk

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
    """Return the full name of every command that is no group."""
    found = walk(command())
    return [name for name, one in found if not hasattr(one, "commands")]


class _NothingYet:
    """What an empty database says."""

    open: Mapping[str, Open] = {}
    quarantined: Mapping[str, int] = {}
    notify_pending: Mapping[str, int] = {}


def metrics() -> list[str]:
    """Return the metrics of our own; those of the process are Prometheus' client's."""
    counted = Metrics(SystemClock())
    counted.learned(_NothingYet())
    text = counted.text().decode()
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    return [name for name in names if not name.startswith("receiptd_process_")]


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


# The tables of a later version: named here, so that one that takes effect cannot go on denying it.
_WITHOUT_EFFECT = ["# [notify.app]"]


def test_the_tables_without_effect_say_so_and_no_others() -> None:
    lines = CONFIG.read_text().splitlines()
    saying = [line for line in lines if "later version" in line and re.match(r"(# )?\[", line)]

    assert [line.partition("]")[0] + "]" for line in saying] == _WITHOUT_EFFECT


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


@pytest.mark.parametrize("name", metrics())
def test_the_readme_names_every_metric(readme: str, name: str) -> None:
    assert f"`{name}`" in readme


def test_there_are_metrics() -> None:
    assert "receiptd_build_info" in metrics()
    assert len(metrics()) > 10


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
