"""The importable client over HTTP: the same rows as straight into the database, without it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from receiptd.client import Recorder, record_send
from receiptd.errors import ConfigError, StoreUnavailable
from receiptd.ledger import Recorded, UnreadableSend
from tests.databases import ask
from tests.web.http_harness import TOKEN, Running, running

AT = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = {"PhoneNumbers": "13900000002", "TemplateCode": "SMS_1"}
ACCEPTED = {"Code": "OK", "BizId": "900000000000000001^0"}


@pytest.fixture
def guarded(url: str) -> Iterator[Running]:
    with running(url, token=TOKEN) as one:
        yield one


def address(server: Running) -> str:
    return f"http://127.0.0.1:{server.http.port}"


def test_a_send_becomes_an_awaited_row(server: Running, url: str) -> None:
    recorded = record_send("SendSms", REQUEST, ACCEPTED, account="main", url=address(server))

    assert recorded == Recorded(rows=1, accepted=1, changed=1)
    [row] = ask(url, "SELECT provider, account, biz_id, status, send_api FROM receipts")
    assert row == ("aliyun", "main", "900000000000000001^0", "awaited", "SendSms")


@pytest.mark.parametrize("answer", [{}, None])
def test_a_send_without_an_answer_and_then_with_one_is_one_row(
    server: Running, url: str, answer: dict[str, object] | None
) -> None:
    with Recorder(account="main", url=address(server)) as recorder:
        first = recorder.record("SendSms", REQUEST, answer, submitted_at=AT)
        again = recorder.record("SendSms", REQUEST, ACCEPTED, submitted_at=AT)

    assert (first.unanswered, again.accepted) == (1, 1)
    assert ask(url, "SELECT biz_id FROM receipts") == [("900000000000000001^0",)]


def test_the_token_is_shown_and_a_wrong_one_is_told(guarded: Running) -> None:
    with pytest.raises(ConfigError, match=r"token.*http\.token"):
        record_send("SendSms", REQUEST, ACCEPTED, account="main", url=address(guarded))

    recorded = record_send(
        "SendSms", REQUEST, ACCEPTED, account="main", url=address(guarded), token=TOKEN
    )
    assert recorded.accepted == 1


def test_what_cannot_be_booked_is_refused_with_its_rule_and_cure(server: Running) -> None:
    with pytest.raises(UnreadableSend, match="no such send API") as caught:
        record_send("SendFax", REQUEST, ACCEPTED, account="main", url=address(server))
    assert "SendSms" in caught.value.cure

    with pytest.raises(UnreadableSend, match="there is no such account"):
        record_send("SendSms", REQUEST, ACCEPTED, account="nobody", url=address(server))
    with pytest.raises(UnreadableSend, match="no JSON"):
        record_send("SendSms", {"x": object()}, ACCEPTED, account="main", url=address(server))


def test_a_daemon_that_is_away_is_unavailable(url: str) -> None:
    with running(url) as server:
        gone = address(server)

    with pytest.raises(StoreUnavailable, match="unreachable"):
        record_send("SendSms", REQUEST, ACCEPTED, account="main", url=gone)


def test_another_program_at_the_address_is_told(server: Running) -> None:
    with pytest.raises(ConfigError, match=r"url.*no receiptd answers there"):
        record_send("SendSms", REQUEST, ACCEPTED, account="main", url=address(server) + "/other")
