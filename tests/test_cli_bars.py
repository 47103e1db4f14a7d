"""Progress bars: where they are shown, and what they leave alone."""

import io
from contextlib import redirect_stderr

import pytest
from rich.progress import BarColumn

from receiptd.cli.bars import bars


class Terminal(io.StringIO):
    """What a terminal was sent."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # What rich would believe rather than the terminal.
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def shown(stderr: io.StringIO, *, hidden: bool = False) -> str:
    """What a command writes to `stderr` whose bar is at one of three."""
    with (
        redirect_stderr(stderr),
        bars("{task.description} at work", BarColumn(), hidden=hidden) as progress,
    ):
        progress.advance(progress.add_task("hard", total=3))
        print("a result")
    return stderr.getvalue()


def test_on_a_terminal_they_are_shown() -> None:
    assert "hard at work" in shown(Terminal())


def test_hidden_they_are_not_shown_on_a_terminal_either() -> None:
    assert "hard at work" not in shown(Terminal(), hidden=True)


def test_where_stderr_is_no_terminal_nothing_is_written() -> None:
    assert shown(io.StringIO()) == ""


def test_results_that_are_printed_meanwhile_stay_on_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "a result" not in shown(Terminal())
    assert capsys.readouterr().out == "a result\n"
