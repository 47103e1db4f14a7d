"""`receiptd reconcile`, run as a user runs it, against a sandbox."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptd.sandbox import Fault, Sandbox, Scenario
from receiptd.sandbox.configuration import config_toml

LOST = "13900000011"


class Place:
    """A folder with a configuration and a database, beside a sandbox."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder = folder
        self.sandbox = sandbox
        text = config_toml(sandbox.url, database_url=f"sqlite:///{folder}/receiptd.db")
        (folder / "config.toml").write_text(text)
        (folder / "config.toml").chmod(0o600)
        self.run("db", "upgrade")

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "receiptd", *words, "--config", f"{self.folder}/config.toml"],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def send(self, phone: str) -> str:
        biz_id = self.sandbox.send_sms([phone])
        pair = {
            "request": {"PhoneNumbers": phone, "SignName": "示例", "TemplateCode": "SMS_1"},
            "response": {"Code": "OK", "Message": "OK", "BizId": biz_id, "RequestId": "R" * 8},
        }
        done = self.run(
            "sends", "record", "--api", "SendSms", "--account", "main", stdin=json.dumps(pair)
        )
        assert done.returncode == 0, done.stderr
        return biz_id

    def accounts(self, *words: str) -> dict[str, dict[str, object]]:
        done = self.run("reconcile", "--json", *words)
        assert done.returncode == 0, done.stderr
        return {one["account"]: one for one in json.loads(done.stdout)["accounts"]}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    scenario = Scenario(phones={LOST: "lost"}, lost_failed=0.0)
    with Sandbox(scenario=scenario) as sandbox:
        yield Place(tmp_path, sandbox)


def test_what_is_not_due_yet_is_left_alone_unless_a_time_is_named(place: Place) -> None:
    place.send(LOST)

    assert place.accounts()["main"]["sends"] == 0
    assert place.sandbox.request_counts["query_details"] == 0

    found = place.accounts("--since", "2026-01-01")["main"]
    assert (found["sends"], found["left"], found["calls"]) == (1, 0, {"answered": 1})
    assert place.accounts("--since", "2026-01-01")["main"]["sends"] == 0


def test_a_dry_run_asks_nothing_and_masks_numbers(place: Place) -> None:
    biz_id = place.send(LOST)

    done = place.run("reconcile", "--since", "2026-01-01", "--account", "main", "--dry-run")

    assert done.returncode == 0
    assert biz_id in done.stdout
    assert "139****0011" in done.stdout
    assert LOST not in done.stdout
    assert place.sandbox.request_counts["query_details"] == 0


def test_a_provider_that_is_away_is_told_by_the_exit_code(place: Place) -> None:
    place.send(LOST)
    place.sandbox.set_fault(Fault(kind="status", status=503, operation="query_details"))

    done = place.run("reconcile", "--since", "2026-01-01", "--account", "main")

    assert done.returncode == 69
    assert "3 unavailable" in done.stdout


def test_an_account_that_is_not_there_is_named_with_those_that_are(place: Place) -> None:
    done = place.run("reconcile", "--account", "nobody")

    assert done.returncode == 78
    assert "accounts.nobody" in done.stderr
    assert "there are: main" in done.stderr


def test_a_time_that_is_none_is_a_usage_error(place: Place) -> None:
    done = place.run("reconcile", "--since", "yesterday")

    assert done.returncode == 2
    assert "2024-05-06" in done.stderr
