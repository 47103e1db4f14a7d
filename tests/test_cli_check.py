"""`receiptd check`: its three levels, its exit codes, and its words in two languages."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptd.cli import exit_codes, main
from receiptd.config import loading
from receiptd.sandbox import Fault, Sandbox
from receiptd.sandbox.configuration import config_toml
from tests.canaries import assert_holds_no_canary

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def sandbox(folder: Path) -> Iterator[Sandbox]:
    """A running sandbox, with its configuration in the working directory."""
    with Sandbox() as running:
        (folder / "config.toml").write_text(config_toml(running.url))
        yield running


def test_the_shipped_configuration_passes_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", "--config", str(ROOT / "config.toml")])

    captured = capsys.readouterr()
    assert captured.err == ""
    assert code == exit_codes.OK
    assert captured.out.startswith("OK  configuration\n")


def test_check_prints_its_result_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "config.toml").write_text('[log]\nlevel = "loud"\n')

    assert main(["check", "--json"]) == exit_codes.CONFIG

    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out) == {
        "ok": False,
        "passed": [],
        "problems": [
            {
                "place": "log.level",
                "rule": "must be one of 'debug', 'info', 'warning' or 'error'",
                "value": "'loud'",
                "cure": "",
            }
        ],
    }


def test_check_says_what_takes_no_effect_yet(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config.toml").write_text('[notify.app]\nurl = "https://app.internal/sms"\n')

    assert main(["check"]) == exit_codes.OK
    assert "SKIP  notify.app: takes effect in a later version\n" in capsys.readouterr().out
    assert main(["check", "--json"]) == exit_codes.OK
    assert json.loads(capsys.readouterr().out)["unused"] == ["notify.app"]


def test_check_prints_the_schema_without_a_configuration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", "--schema"]) == exit_codes.OK
    assert json.loads(capsys.readouterr().out)["properties"]["sources"]


def test_check_finds_what_the_plug_ins_and_the_database_say(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config.toml").write_text(
        """
        [database]
        upgrade_on_start = false
        [accounts.main]
        provider = "tencent"
        [sources.s]
        puller = "kafka"
        account = "main"
        """
    )

    assert main(["check"]) == exit_codes.CONFIG

    err = capsys.readouterr().err
    assert "accounts.main.provider: no such provider is installed (is: 'tencent')" in err
    assert "installed: aliyun, jushita" in err
    assert "sources.s.puller: no such puller is installed (is: 'kafka')" in err
    assert "installed: mns, " in err
    assert "run `receiptd db upgrade`" in err


def test_a_database_that_is_away_is_told_together_with_the_rest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "config.toml").write_text(
        '[database]\nurl = "postgresql+psycopg://a@127.0.0.1:1/x?connect_timeout=2"\n'
    )

    assert main(["check"]) == exit_codes.UNAVAILABLE

    captured = capsys.readouterr()
    assert "OK  configuration\n" in captured.out
    assert "receiptd: database: " in captured.err
    assert captured.err.endswith("exit code 69: a service is unavailable\n")


def test_online_all_is_well(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--online"]) == exit_codes.OK

    captured = capsys.readouterr()
    assert captured.err == ""
    assert f"\naccount main, query  {sandbox.url}\n" in captured.out
    assert "\nsource sms_report, token" in captured.out
    assert_holds_no_canary(captured.out)
    assert "testSK" not in captured.out


def test_without_online_nobody_is_asked(sandbox: Sandbox) -> None:
    assert main(["check"]) == exit_codes.OK

    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.error("SignatureDoesNotMatch", "mns"), exit_codes.CREDENTIALS_REFUSED),
        (Fault.error("QueueNotExist", "mns"), exit_codes.CONFIG),
        (Fault.html(502, "mns"), exit_codes.UNAVAILABLE),
    ],
)
def test_online_each_fault_has_its_exit_code(
    sandbox: Sandbox, fault: Fault, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.set_fault(fault)

    assert main(["check", "--online"]) == code

    captured = capsys.readouterr()
    assert "  FAIL  queue" in captured.out
    assert "        -> " in captured.out
    assert f"receiptd: exit code {code}: {exit_codes.MEANINGS[code]}\n" == captured.err


def test_of_several_faults_the_configuration_decides(sandbox: Sandbox) -> None:
    sandbox.set_fault(Fault.html(502, "mq"))
    sandbox.set_fault(Fault.error("QueueNotExist", "mns"))
    sandbox.set_fault(Fault.error("SignatureDoesNotMatch", "query_details"))

    assert main(["check", "--online"]) == exit_codes.CONFIG


def test_online_prints_its_result_as_json(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    sandbox.set_fault(Fault.error("QueueNotExist", "mns"))

    assert main(["check", "--online", "--source", "sms_up", "--json"]) == exit_codes.CONFIG

    captured = capsys.readouterr()
    assert captured.err == ""
    told = json.loads(captured.out)
    assert told["ok"] is False
    token, queue = told["online"]
    assert (token["kind"], token["name"], token["service"]) == ("source", "sms_up", "token")
    assert token["endpoint"] == sandbox.url
    assert [step["step"] for step in token["steps"]] == ["name", "connect", "clock", "token"]
    assert queue["steps"][0]["outcome"] == "fail"
    assert queue["steps"][0]["fault"] == "configuration"
    assert queue["steps"][0]["detail"].startswith("QueueNotExist, http 404, request ")
    assert queue["steps"][0]["cure"].startswith("check queue, region and endpoint")


def test_online_one_account_is_asked_with_its_sources(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--online", "--account", "shop", "--json"]) == exit_codes.OK

    told = json.loads(capsys.readouterr().out)["online"]
    assert [branch["name"] for branch in told] == ["shop", "jushita"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--account", "main"],
        ["--online", "--account", "nobody"],
        ["--online", "--source", "nobody"],
        ["--online", "--timeout", "soon"],
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(sandbox: Sandbox, arguments: list[str]) -> None:
    assert main(["check", *arguments]) == exit_codes.USAGE


def test_a_queue_of_another_type_is_found_without_asking(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config_toml("http://127.0.0.1:1").replace('message_type = "SmsUp"', 'message_type = "X"')
    (folder / "config.toml").write_text(text.replace('"X"', '"SmsReport"'))

    assert main(["check"]) == exit_codes.CONFIG
    assert "sources.sms_up.message_type: is not the type in the queue" in capsys.readouterr().err


def test_online_nobody_is_asked_before_the_configuration_is_right(
    sandbox: Sandbox, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "config.toml").read_text().replace('puller = "rocketmq"', 'puller = "kafka"')
    (folder / "config.toml").write_text(text)

    assert main(["check", "--online"]) == exit_codes.CONFIG
    assert "SKIP  online: not asked" in capsys.readouterr().out
    assert sandbox.requests == []


def test_an_operator_reads_chinese_if_the_environment_says_so(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    sandbox.set_fault(Fault.error("QueueNotExist", "mns"))

    assert main(["check", "--online"]) == exit_codes.CONFIG

    captured = capsys.readouterr()
    assert "\n账号 main，查询接口  http" in captured.out
    assert "域名" in captured.out
    assert "短信控制台" in captured.out
    assert captured.err == "receiptd: 退出码 78: 配置\n"


def test_problems_are_told_in_chinese(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    (folder / "config.toml").write_text('[log]\nlevle = "loud"\n')

    assert main(["db", "current"]) == main(["check"]) == exit_codes.CONFIG
    err = capsys.readouterr().err
    assert err.count("log.levle：未知的配置项；是否想写 level？\n") == 2
