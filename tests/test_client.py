"""The importable client: three lines beside an existing call of a send API."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from receiptd.client import Recorder, record_send
from receiptd.clock import ManualClock
from receiptd.config import loading
from receiptd.errors import ConfigError, StoreUnavailable
from receiptd.ledger import Recorded, UnreadableSend
from receiptd.store import open_store
from tests.databases import SQLITE, ask, databases, fresh_url

AT = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = {"PhoneNumbers": "13900000001", "TemplateCode": "SMS_1"}
ACCEPTED = {"Code": "OK", "BizId": "900000000000000001^0"}
POLYV = {
    "code": 200,
    "data": [{"serialNo": "6^0", "phoneNumber": "13900000001", "status": 12}],
}


@pytest.fixture(params=databases())
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request.param, tmp_path) as url:
        store = open_store(url, ManualClock(AT))
        store.upgrade()
        store.close()
        yield url


@pytest.fixture
def local_url(tmp_path: Path) -> Iterator[str]:
    with fresh_url(SQLITE, tmp_path) as url:
        store = open_store(url, ManualClock(AT))
        store.upgrade()
        store.close()
        yield url


def test_it_writes_straight_into_the_database(url: str) -> None:
    recorded = record_send("SendSms", REQUEST, ACCEPTED, account="main", database_url=url)

    assert recorded == Recorded(rows=1, accepted=1, changed=1)
    [row] = ask(url, "SELECT provider, account, biz_id, status, send_api FROM receipts")
    assert row == ("aliyun", "main", "900000000000000001^0", "awaited", "SendSms")


def test_it_reads_the_configuration(local_url: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[database]\nurl = "{local_url}"\n[accounts.main]\nprovider = "aliyun"\n'
        '[accounts.live]\nprovider = "polyv"\nreceipts_account = "main"\n'
    )

    record_send("polyv", {"phoneNumbers": ["13900000001"]}, POLYV, account="live", config=config)

    assert ask(local_url, "SELECT provider, account FROM receipts") == [("aliyun", "main")]


def test_an_account_that_is_not_configured_is_told(local_url: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[database]\nurl = "{local_url}"\n[accounts.main]\nprovider = "aliyun"\n')

    with pytest.raises(ConfigError, match=r"accounts\.other: .*main"):
        record_send("SendSms", REQUEST, ACCEPTED, account="other", config=config)


def test_without_any_configuration_it_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")

    with pytest.raises(ConfigError, match="no configuration was found"):
        record_send("SendSms", REQUEST, ACCEPTED, account="main")


def test_a_recorder_takes_many_sends_at_their_time(local_url: str) -> None:
    with Recorder(account="main", database_url=local_url, clock=ManualClock(AT)) as recorder:
        for number in range(3):
            recorder.record("SendSms", REQUEST, ACCEPTED | {"BizId": f"{number}^0"})
        recorder.record(
            "polyv", {"phoneNumbers": ["13900000001"]}, POLYV, submitted_at=AT.replace(day=2)
        )

    assert ask(local_url, "SELECT count(*) FROM receipts WHERE account = 'main'") == [(4,)]
    assert len(ask(local_url, "SELECT DISTINCT submitted_at FROM receipts")) == 2


@pytest.mark.parametrize("answer", [json.dumps(ACCEPTED), json.dumps(ACCEPTED).encode()])
def test_json_text_is_an_answer(local_url: str, answer: str | bytes) -> None:
    recorded = record_send("SendSms", REQUEST, answer, account="main", database_url=local_url)

    assert recorded.accepted == 1


@pytest.mark.parametrize("answer", [None, {}, "", b""])
def test_no_answer_is_recorded_as_such(local_url: str, answer: None) -> None:
    recorded = record_send("SendSms", REQUEST, answer, account="main", database_url=local_url)

    assert recorded.unanswered == 1


def test_what_is_no_answer_is_refused(local_url: str) -> None:
    with pytest.raises(UnreadableSend, match="no JSON object"):
        record_send("SendSms", REQUEST, "<html>", account="main", database_url=local_url)


def test_an_api_that_nobody_has_is_refused(local_url: str) -> None:
    with pytest.raises(UnreadableSend, match="SendBatchSms"):
        record_send("Send", REQUEST, ACCEPTED, account="main", database_url=local_url)


def test_a_closed_recorder_is_unavailable(local_url: str) -> None:
    recorder = Recorder(account="main", database_url=local_url, clock=ManualClock(AT))
    recorder.close()

    with pytest.raises(StoreUnavailable):
        recorder.record("SendSms", REQUEST, ACCEPTED)
