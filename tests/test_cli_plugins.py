"""Plug-ins: found by name through entry points; a broken one is a problem, not a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from receiptd import plugins
from receiptd.cli import exit_codes, main
from receiptd.errors import Problem


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with one good puller and several bad ones."""
    info = tmp_path / "thirdparty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[receiptd.pullers]\n"
        "good = thirdparty:KIND\n"
        "missing = thirdparty_missing:KIND\n"
        "nameless = thirdparty:NONE\n"
        "broken = thirdparty_broken:KIND\n"
        "empty = thirdparty:EMPTY\n"
        "mns = thirdparty:KIND\n"
        "[receiptd.providers]\n"
        "receives_only = thirdparty:RECEIVES_ONLY\n"
    )
    (tmp_path / "thirdparty.py").write_text(
        "class Kind:\n    def problems(self): ...\n    def open(self): ...\n"
        "KIND = Kind()\nEMPTY = object()\n"
        "class ReceivesOnly:\n    name = 'x'\n    normalizers = {}\n"
        "    default_message_type = None\n"
        "    def problems(self): ...\n    def credentials(self): ...\n"
        "RECEIVES_ONLY = ReceivesOnly()\n"
    )
    (tmp_path / "thirdparty_broken.py").write_text("raise RuntimeError('secretInTheText')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_built_in_ones_are_declared_like_any_other() -> None:
    assert plugins.pullers() == ["mns", "push", "rocketmq"]
    assert plugins.providers() == ["aliyun", "jushita", "polyv"]


def test_a_third_partys_puller_is_found(third_party: Path) -> None:
    problems: list[Problem] = []

    found = plugins.find_puller("good", "sources.s.puller", problems)

    assert type(found).__name__ == "Kind"
    assert problems == []


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("missing", "cannot be imported: No module named 'thirdparty_missing'"),
        ("nameless", "cannot be imported: module 'thirdparty' has no attribute 'NONE'"),
        ("broken", "cannot be imported: RuntimeError"),
        ("empty", "lacks problems, open"),
        ("mns", "more than one puller has this name"),
        ("nothing", "no such puller is installed"),
    ],
)
def test_a_plug_in_that_is_no_use_is_a_problem(third_party: Path, name: str, rule: str) -> None:
    problems: list[Problem] = []

    assert plugins.find_puller(name, "sources.s.puller", problems) is None

    [problem] = problems
    assert problem.place == "sources.s.puller"
    assert rule in problem.rule
    assert problem.value == repr(name)
    assert "secretInTheText" not in str(problem)


def test_a_provider_has_all_that_is_used_of_it(third_party: Path) -> None:
    problems: list[Problem] = []

    assert plugins.find_provider("receives_only", "accounts.x.provider", problems) is None

    [problem] = problems
    lacking = "lacks send_readers, receipts_provider, refusal, open_query, open_send"
    assert problem.rule == f"the provider thirdparty:RECEIVES_ONLY {lacking}"


@pytest.mark.parametrize("name", plugins.providers())
def test_the_built_in_providers_have_it(name: str) -> None:
    problems: list[Problem] = []

    assert plugins.find_provider(name, "accounts.x.provider", problems) is not None
    assert problems == []


def test_an_unknown_name_lists_the_installed_ones() -> None:
    problems: list[Problem] = []

    assert plugins.find_provider("aliyum", "accounts.main.provider", problems) is None
    assert problems[0].cure == "installed: aliyun, jushita, polyv"


def test_only_what_is_named_is_imported() -> None:
    code = (
        "import sys; from receiptd.plugins import find_puller; found = []; "
        "assert find_puller('mns', 'p', found), found; "
        "assert 'receiptd.pullers.mns' in sys.modules; "
        "assert 'mq_http_sdk' not in sys.modules and 'sqlalchemy' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_check_says_whose_sends_cannot_be_reconciled_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    account = '[accounts.live]\nprovider = "polyv"\napp_id = "a"\napp_secret = "b"\n'
    (tmp_path / "config.toml").write_text(f'[database]\nurl = "sqlite:///x.db"\n{account}')
    (tmp_path / "config.toml").chmod(0o600)

    code = main(["check", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert (code, told["problems"]) == (exit_codes.OK, [])
    [remark] = [line for line in told["passed"] if "cannot be reconciled" in line]
    assert remark.startswith("accounts.live.receipts_account: is empty")
