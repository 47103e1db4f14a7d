"""Help that teaches: examples that work, and completion for the shells that people use."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from receiptd.cli import exit_codes, main
from receiptd.cli.app import command

RECEIPTD = f"{sys.executable} -m receiptd"
# They end one command of a line.
_SHELL_WORDS = re.compile(r"[;|<>&]+")


def walk(one: Any, name: str = "receiptd") -> Iterator[tuple[str, Any]]:
    """Yield all commands and groups from `one` down, with their full names."""
    yield name, one
    for key, below in getattr(one, "commands", {}).items():
        yield from walk(below, f"{name} {key}")


COMMANDS = dict(walk(command()))


def examples(name: str) -> list[list[str]]:
    """Return the arguments of each call of receiptd in the examples of a command."""
    lines = re.findall(r"^Example: (.+)$", COMMANDS[name].epilog or "", re.MULTILINE)
    found: list[list[str]] = []
    for line in lines:
        calls: list[list[str]] = [[]]
        for token in _words(line):
            if _SHELL_WORDS.fullmatch(token):
                calls.append([])
            else:
                calls[-1].append(token)
        found += [call[1:] for call in calls if call[:1] == ["receiptd"]]
    return found


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|<>&")
    lexer.whitespace_split = True
    return list(lexer)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_and_shows_an_example(name: str) -> None:
    assert COMMANDS[name].help
    assert examples(name)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "receiptd"])
def test_every_example_is_one_of_its_command(name: str) -> None:
    words = name.split()[1:]

    assert all(arguments[: len(words)] == words for arguments in examples(name))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_has_only_options_that_exist(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in examples(name):
        # Unknown commands and options are refused before the help is shown.
        code = main([*arguments, "--help"])
        captured = capsys.readouterr()
        assert code == exit_codes.OK, captured.err
        assert "Usage: receiptd" in captured.out


def test_the_test_would_see_an_option_that_does_not_exist() -> None:
    assert main(["check", "--no-such", "--help"]) == exit_codes.USAGE


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_text(name: str) -> None:
    without = [
        option.name
        for option in COMMANDS[name].params
        if option.param_type_name == "option" and not option.help
    ]

    assert not without


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_begins_with_a_whole_sentence(name: str) -> None:
    assert (COMMANDS[name].help or "").strip().split("\n\n")[0].endswith(".")


# --- completion ---


def completed(shell: str, **environ: str) -> str:
    """Return what the program answers to a shell."""
    done = subprocess.run(
        [sys.executable, "-m", "receiptd"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "_RECEIPTD_COMPLETE": shell, **environ},
    )
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell_asks_the_program(shell: str) -> None:
    script = completed(f"source_{shell}")

    assert f"_RECEIPTD_COMPLETE=complete_{shell}" in script
    assert "receiptd" in script


def test_bash_completes_commands_and_options() -> None:
    words = completed("complete_bash", COMP_WORDS="receiptd che", COMP_CWORD="1")
    assert words.split() == ["check"]
    words = completed("complete_bash", COMP_WORDS="receiptd check --on", COMP_CWORD="2")
    assert words.split() == ["--online"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete_commands_with_what_they_do(shell: str) -> None:
    words = completed(
        f"complete_{shell}",
        _TYPER_COMPLETE_ARGS="receiptd db ",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )

    assert "upgrade" in words
    assert "Bring the schema up" in words


def test_bash_takes_the_script(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is needed, which runs the completion: apt-get install bash")
    (tmp_path / "script").write_text(completed("source_bash"))
    (tmp_path / "receiptd").write_text(f'#!/bin/sh\nexec {RECEIPTD} "$@"\n')
    (tmp_path / "receiptd").chmod(0o755)
    ask = (
        f"source {tmp_path}/script; COMP_WORDS=(receiptd db up); COMP_CWORD=2;"
        f" _receiptd_completion {tmp_path}/receiptd; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run([bash, "-c", ask], capture_output=True, text=True, check=True)

    assert done.stdout == "upgrade\n"


def test_the_script_can_be_shown_and_installed() -> None:
    options = {flag for option in COMMANDS["receiptd"].params for flag in option.opts}

    assert {"--install-completion", "--show-completion"} <= options
