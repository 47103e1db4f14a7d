"""The command line: what is printed where, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from receiptd import __version__, errors
from receiptd.cli import exit_code, exit_codes, main
from receiptd.config import loading
from receiptd.config.loading import load
from tests.canaries import CANARY_CONTENT, CANARY_SECRET, assert_holds_no_canary

ROOT = Path(__file__).parent.parent
# Typer itself loads pydantic once a command takes options.
HEAVY = {"mns", "mq_http_sdk", "sqlalchemy", "alembic", "httpx", "structlog", "phonenumbers"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    return tmp_path


def receiptd(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run receiptd as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "receiptd", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environ},
    )


def modules_after(*arguments: str) -> set[str]:
    """Return the modules that are loaded when the command has ended."""
    code = "import sys; from receiptd.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == exit_codes.OK
    assert capsys.readouterr().out == f"receiptd {__version__}\n"


@pytest.mark.parametrize("arguments", [["chek"], ["check", "--no-such"], ["db", "drop"], ["--x"]])
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == exit_codes.USAGE

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: receiptd" in captured.err


@pytest.mark.parametrize("command", ["demo", "run", "check", "sandbox", "db", "db upgrade"])
def test_help_needs_nothing_heavy(command: str) -> None:
    assert not modules_after(*command.split(), "--help") & HEAVY


def test_a_bad_configuration_loads_no_sdk_and_no_database(folder: Path) -> None:
    (folder / "bad.toml").write_text("[databse]\n")

    loaded = modules_after("check", "--config", "bad.toml")

    assert "pydantic" in loaded
    assert not loaded & {"mns", "mq_http_sdk", "sqlalchemy", "alembic", "httpx", "structlog"}


def test_all_problems_are_printed_one_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config.toml").write_text(
        f'[databse]\n[log]\nlevel = "loud"\n[accounts.main]\naccess_key_secret = "{CANARY_SECRET} "'
    )

    assert main(["db", "current"]) == exit_codes.CONFIG

    captured = capsys.readouterr()
    assert captured.out == ""
    assert_holds_no_canary(captured.err)
    lines = captured.err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("receiptd: ") for line in lines)
    assert "receiptd: databse: unknown key; did you mean database?" in lines


def test_without_a_configuration_it_says_where_it_looked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run"]) == exit_codes.CONFIG
    assert "$RECEIPTD_CONFIG" in capsys.readouterr().err


def test_run_without_a_source_says_so(folder: Path) -> None:
    done = receiptd(
        "run", "--config", str(ROOT / "config.toml"), RECEIPTD_DATABASE__URL="sqlite:///x.db"
    )

    assert done.returncode == exit_codes.CONFIG
    assert "at least one source is needed" in done.stderr
    assert done.stdout == ""
    assert not (folder / "x.db").exists()


def test_run_says_what_takes_no_effect_yet(folder: Path) -> None:
    (folder / "config.toml").write_text('[notify.app]\nurl = "https://app.internal/sms"\n')

    done = receiptd("run", RECEIPTD_LOG__FORMAT="json")

    unused = [line for line in done.stderr.splitlines() if "config.unused" in line]
    assert [json.loads(line)["place"] for line in unused] == ["notify.app"]


def test_the_database_is_upgraded_and_says_its_revision(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config.toml").write_text('[database]\nurl = "sqlite:///x.db"\n')

    assert main(["db", "current"]) == exit_codes.OK
    assert capsys.readouterr().out == "none\n"
    assert main(["db", "upgrade"]) == exit_codes.OK
    applied = capsys.readouterr().out.split()
    assert applied
    assert main(["db", "upgrade"]) == exit_codes.OK
    assert capsys.readouterr().out == ""
    assert main(["db", "current", "--json"]) == exit_codes.OK
    assert json.loads(capsys.readouterr().out) == {"revision": applied[-1]}
    assert main(["check"]) == exit_codes.OK
    assert "OK  database\n" in capsys.readouterr().out


def test_the_sandbox_prints_a_configuration_that_passes_the_check(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sandbox", "--print-config", "--access-key", "anAK:aSK", "--topic", "t"]) == 0
    (folder / "config.toml").write_text(capsys.readouterr().out)

    settings = load(None, {})

    assert settings.accounts["main"].access_key_secret.get_secret_value() == "aSK"
    assert settings.sources["jushita"].topic == "t"
    assert main(["check"]) == exit_codes.OK, capsys.readouterr().err
    assert "OK  source jushita (rocketmq)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["--listen", "8700"], ["--listen", "x:y"], ["--access-key", "one"], ["--top-key", ":x"]],
)
def test_a_wrong_address_or_key_of_the_sandbox_is_wrong_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sandbox", *arguments]) == exit_codes.USAGE
    assert arguments[0] in capsys.readouterr().err


def test_a_scenario_that_is_none_is_a_configuration_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "scenario.toml").write_text("no_such_key = 1\n")

    code = main(["sandbox", "--listen", "127.0.0.1:0", "--scenario", "scenario.toml"])

    assert code == exit_codes.CONFIG
    assert "scenario.toml: is no scenario" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError([errors.Problem("a.b", "is wrong")]), exit_codes.CONFIG),
        (errors.SourceUnavailable("timeout"), exit_codes.UNAVAILABLE),
        (errors.SourceCancelled("cancelled"), exit_codes.UNAVAILABLE),
        (errors.SourceRefused("AccessDenied"), exit_codes.CREDENTIALS_REFUSED),
        (errors.StoreUnavailable("locked"), exit_codes.UNAVAILABLE),
        (errors.StoreRejected("row"), exit_codes.DATA_REFUSED),
        (errors.InvalidEnvelope("not_json"), exit_codes.DATA_REFUSED),
        (errors.ReceiptdError("else"), exit_codes.BUG),
    ],
)
def test_each_error_has_its_exit_code(
    error: errors.ReceiptdError,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail(monkeypatch, error)

    assert main(["check", "--schema"]) == code == exit_code(error)
    assert capsys.readouterr().err == f"receiptd: {error}\n"


def test_a_bug_is_told_without_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(monkeypatch, ValueError(CANARY_CONTENT))

    assert main(["check", "--schema"]) == exit_codes.BUG

    err = capsys.readouterr().err
    assert_holds_no_canary(err)
    assert "a bug: ValueError at test_cli.py:" in err
    assert err.count("\n") == 1


def test_debug_shows_the_traceback_of_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(monkeypatch, ValueError("why"))

    assert main(["--debug", "check", "--schema"]) == exit_codes.BUG
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, KeyboardInterrupt())

    assert main(["check", "--schema"]) == exit_codes.INTERRUPTED


def test_a_closed_stderr_changes_no_exit_code(folder: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m receiptd check >/dev/full 2>&-"], check=False
    )

    assert done.returncode == exit_codes.CONFIG


def test_exit_codes_have_meanings() -> None:
    codes = {
        value for name, value in vars(exit_codes).items() if name.isupper() and name != "MEANINGS"
    }

    assert codes == set(exit_codes.MEANINGS)


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `check --schema` fail with `error`."""

    def failing() -> None:
        raise error

    monkeypatch.setattr(loading, "json_schema", failing)
