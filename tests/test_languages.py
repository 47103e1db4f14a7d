"""English and Chinese: nothing that an operator reads lacks its Chinese, and only he reads it."""

import io
import string
import sys

import pytest

from receiptd import errors
from receiptd.cli import languages, main
from receiptd.config import loading
from tests.english_texts import texts
from tests.test_cli_help import COMMANDS

CATALOGUE = languages.catalogue()
# Said by the steps and branches of `check --online`, which are words and no sentences.
STEPS = ["token", "queue", "name", "connect", "tls", "clock", "details", "statistics"]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)


def placeholders(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_every_english_text_has_a_chinese_one() -> None:
    found = texts()
    missing = [f"{where}: {text}" for text, where in found.items() if text not in CATALOGUE]

    assert len(found) > 200
    assert not missing, "add them to receiptd/locale/zh.toml"


@pytest.mark.parametrize("word", [*STEPS, "permission", "messages", "done", "usage"])
def test_every_word_of_the_online_check_has_a_chinese_one(word: str) -> None:
    assert word in CATALOGUE


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "receiptd"])
def test_every_command_has_a_chinese_summary(name: str) -> None:
    assert name in languages.summaries()


def test_the_list_of_commands_is_chinese_and_the_rest_of_the_help_english(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert main(["--help"]) == 0

    out = capsys.readouterr().out
    assert languages.summaries()["receiptd check"] in out
    assert "Usage: receiptd [OPTIONS] COMMAND" in out


def test_a_chinese_text_has_the_placeholders_of_the_english_one() -> None:
    for english, chinese in CATALOGUE.items():
        if "{" in english and '{"' not in english:
            assert placeholders(chinese) == placeholders(english), english


def test_every_template_is_found_by_what_it_became() -> None:
    values = {"a": "'x' y", "b": "7", "c": "z/w"}
    for english, chinese in CATALOGUE.items():
        became = languages.to_chinese(english.format_map(values))
        assert became == chinese.format_map(values), english


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh"}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_TW.UTF-8"}, True),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh_CN:en"}, True),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en"}, False),
        ({"LANGUAGE": "zh"}, True),
        ({"LC_ALL": "C", "LANGUAGE": "zh"}, False),
        ({"LC_ALL": "C.UTF-8", "LANG": "zh_CN.UTF-8"}, False),
        ({"LC_ALL": "", "LANG": "zh_CN.UTF-8"}, True),
    ],
)
def test_the_environment_decides_as_in_gettext(environ: dict[str, str], expected: bool) -> None:
    assert languages.is_chinese(environ) is expected


def test_a_terminal_that_cannot_show_chinese_gets_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN")
    assert languages.translated("unknown key") == "未知的配置项"

    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), "latin-1"))
    assert languages.translated("unknown key") == "unknown key"


def test_a_text_without_an_entry_stays_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")

    assert languages.translated("of another program") == "of another program"
    assert languages.translated("a; b: c") == "a; b: c"


def test_known_texts_in_a_row_are_told_one_by_one() -> None:
    assert languages.to_chinese("1040: out of memory") == "1040：内存不足"
    assert languages.to_chinese("is empty; set it") == "为空；请设置"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            errors.ConfigError(
                [errors.Problem("a.b", "is required"), errors.Problem("c", "x", "7", "set it")]
            ),
            "a.b：必填\nreceiptd: c：x（当前值：7）；请设置\n",
        ),
        (
            errors.SourceRefused("QueueNotExist", http_status=404, cure="check the endpoint"),
            "QueueNotExist; http 404；请检查接入点\n",
        ),
        (errors.SourceUnavailable("timeout"), "timeout\n"),
        (errors.StoreUnavailable("53300: out of memory"), "53300：内存不足\n"),
    ],
)
def test_an_error_ends_a_command_in_chinese(
    error: errors.ReceiptdError,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failing() -> None:
        raise error

    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.setattr(loading, "json_schema", failing)
    main(["check", "--schema"])

    assert capsys.readouterr().err == f"receiptd: {told}"
