"""QuerySendDetails and QuerySendStatistics: what is asked, page by page, and what goes wrong (R1 to
R3, R8 of the fault matrix)."""

from datetime import date

import msgspec
import pytest

from receiptd.clock import SystemClock
from receiptd.config import AccountSettings
from receiptd.errors import SourceCancelled, SourceError, SourceRefused, SourceUnavailable
from receiptd.model import Origin, Status
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.aliyun.query import PAGES_MAX, AliyunQuery
from receiptd.providers.base import DayCounts, QueryApi
from tests.providers.api_harness import ASKED, answering_with, whole
from tests.providers.loopback import Loopback, Script, answering, response
from tests.providers.rpc_harness import drip_body, hang, hang_up, make_client, short_body

DAY = date(2024, 5, 6)
ROW = {
    "PhoneNum": "13912345678",
    "SendStatus": 3,
    "ErrCode": "DELIVRD",
    "TemplateCode": "SMS_1",
    "SendDate": "2024-05-06 15:08:09",
    "ReceiveDate": "2024-05-06 15:08:14",
    "OutId": "order-42",
}


def details(*rows: object, total: object = 1) -> dict[str, object]:
    return {"Code": "OK", "TotalCount": total, "SmsSendDetailDTOs": {"SmsSendDetailDTO": rows}}


def test_one_number_one_day_and_the_biz_id_are_asked_for() -> None:
    with answering_with(details(ROW)) as (url, seen), make_client(url, timeout_s=10) as client:
        page = AliyunQuery(client, "main").page(ASKED, DAY, 1)

    form = seen.forms[0]
    assert form["Action"] == "QuerySendDetails"
    assert form["PhoneNumber"] == "13912345678"
    assert form["SendDate"] == "20240506"
    assert form["BizId"] == ASKED.biz_id
    assert (form["PageSize"], form["CurrentPage"]) == ("50", "1")
    (receipt,) = page.receipts
    assert receipt.status is Status.DELIVERED
    assert receipt.origin is Origin.QUERY
    assert (receipt.biz_id, receipt.phone) == (ASKED.biz_id, ASKED.phone)


@pytest.mark.parametrize(
    ("phone", "number"),
    [("+85291234567", "85291234567"), ("+13105551234", "13105551234"), ("+8613900000001", "139")],
)
def test_other_countries_numbers_carry_their_code(phone: str, number: str) -> None:
    asked = msgspec.structs.replace(ASKED, phone=phone)
    with answering_with(details()) as (url, seen), make_client(url, timeout_s=10) as client:
        AliyunQuery(client, "main").page(asked, DAY, 1)

    assert seen.forms[0]["PhoneNumber"].startswith(number)


@pytest.mark.parametrize("phone", ["139****5678", "1768909", "+86139****5678", ""])
def test_a_number_that_cannot_be_asked_for_costs_no_call(phone: str) -> None:
    asked = msgspec.structs.replace(ASKED, phone=phone)
    with answering_with(details(ROW)) as (url, seen), make_client(url) as client:
        page = AliyunQuery(client, "main").page(asked, DAY, 1)

    assert page.receipts == ()
    assert page.is_last
    assert seen.requests == []


def test_an_unanswered_send_is_asked_for_without_a_biz_id() -> None:
    asked = msgspec.structs.replace(ASKED, biz_id="unanswered:0123")
    with answering_with(details(ROW)) as (url, seen), make_client(url, timeout_s=10) as client:
        page = AliyunQuery(client, "main").page(asked, DAY, 1)

    assert "BizId" not in seen.forms[0]
    assert page.receipts[0].biz_id == "unanswered:0123"


def test_all_pages_are_read_whatever_the_total_says() -> None:
    full = details(*[ROW] * 50, total=3)
    with (
        answering_with(full, full, details(ROW, total=0)) as (url, seen),
        make_client(url, timeout_s=10) as client,
    ):
        query = AliyunQuery(client, "main")
        pages = [query.page(ASKED, DAY, number) for number in (1, 2, 3)]

    assert [page.is_last for page in pages] == [False, False, True]
    assert [form["CurrentPage"] for form in seen.forms] == ["1", "2", "3"]


def test_an_empty_page_after_a_full_one_is_the_last() -> None:
    with (
        answering_with(details(*[ROW] * 50), details(total=99)) as (url, _),
        make_client(url, timeout_s=10) as client,
    ):
        query = AliyunQuery(client, "main")
        assert not query.page(ASKED, DAY, 1).is_last
        assert query.page(ASKED, DAY, 2).is_last


def test_a_service_without_end_is_left_after_twenty_pages() -> None:
    full = details(*[ROW] * 50)
    with answering_with(full) as (url, seen), make_client(url, timeout_s=10) as client:
        query = AliyunQuery(client, "main")
        number = 1
        while not query.page(ASKED, DAY, number).is_last:
            number += 1

    assert number == PAGES_MAX == len(seen.requests)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html>maintenance</html>", "200 OK"),
        (b'{"Code":"OK","SmsSendDetailDTOs":{"SmsSendDet', "200 OK"),
        (b"[]", "200 OK"),
        (b"", "200 OK"),
        (b'{"Code":"OK","SmsSendDetailDTOs":[]}', "200 OK"),
        (b'{"Code":"OK","SmsSendDetailDTOs":{"SmsSendDetailDTO":{}}}', "200 OK"),
        (b"<html>", "502 Bad Gateway"),
    ],
)
def test_an_answer_that_makes_no_sense_is_not_an_empty_one(body: bytes, status: str) -> None:
    error = failure(answering(response(body, status=status)))

    assert isinstance(error, SourceUnavailable)
    assert error.code == "bad_answer"


@pytest.mark.parametrize("script", [short_body, hang_up, hang, drip_body], ids=lambda s: s.__name__)
def test_an_answer_that_does_not_come_whole_is_none(script: Script) -> None:
    assert isinstance(failure(script), SourceUnavailable)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("Throttling.User", SourceUnavailable),
        ("isv.BUSINESS_LIMIT_CONTROL", SourceUnavailable),
        ("isv.INVALID_PARAMETERS", SourceRefused),
        ("isp.RAM_PERMISSION_DENY", SourceRefused),
    ],
)
def test_a_refusal_is_not_an_empty_answer(code: str, kind: type[SourceError]) -> None:
    error = failure(answering(whole({**details(), "Code": code})))

    assert type(error) is kind
    assert error.code == code


def failure(script: Script) -> SourceError:
    with Loopback(script) as server, make_client(server.url) as client:
        with pytest.raises(SourceError) as caught:
            AliyunQuery(client, "main").page(ASKED, DAY, 1)
        assert "139" not in str(caught.value)
        return caught.value


def counted(total: object, *, day: str = "20240506") -> dict[str, object]:
    return {
        "SendDate": day,
        "TotalCount": total,
        "RespondedSuccessCount": 17,
        "RespondedFailCount": 2,
        "NoRespondedCount": 1,
    }


def statistics(*rows: object) -> dict[str, object]:
    return {"Code": "OK", "Data": {"TotalSize": 20, "TargetList": rows}}


def test_a_days_counts_are_those_of_mainland_and_abroad() -> None:
    with (
        answering_with(
            statistics(counted(20), counted(9, day="20240507")), statistics(counted("20"))
        ) as (url, seen),
        make_client(url, timeout_s=10) as client,
    ):
        counts = AliyunQuery(client, "main").statistics(DAY)

    assert counts == DayCounts(DAY, sent=40, delivered=34, failed=4, waiting=2)
    assert [form["IsGlobe"] for form in seen.forms] == ["1", "2"]
    assert {(form["StartDate"], form["EndDate"]) for form in seen.forms} == {
        ("20240506", "20240506")
    }


@pytest.mark.parametrize("answer", [{"Code": "OK"}, {"Code": "OK", "Data": {}}, statistics()])
def test_a_day_without_counts_is_a_day_without_sends(answer: dict[str, object]) -> None:
    with answering_with(answer) as (url, _), make_client(url, timeout_s=10) as client:
        counts = AliyunQuery(client, "main").statistics(DAY)

    assert counts == DayCounts(DAY, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "answer",
    [
        {"Code": "OK", "Data": []},
        {"Code": "OK", "Data": {"TargetList": {}}},
        statistics("x"),
        statistics(counted(-1)),
        statistics(counted(None)),
        statistics(counted({})),
    ],
)
def test_counts_that_make_no_sense_are_not_nought(answer: dict[str, object]) -> None:
    with answering_with(answer) as (url, _), make_client(url, timeout_s=10) as client:
        query = AliyunQuery(client, "main")
        with pytest.raises(SourceUnavailable) as caught:
            query.statistics(DAY)

    assert caught.value.code == "bad_answer"


def test_the_provider_opens_a_client_on_the_accounts_endpoint_that_can_be_cancelled() -> None:
    with answering_with(details(ROW)) as (url, seen):
        account = AccountSettings.model_validate(
            {
                "provider": "aliyun",
                "access_key_id": "id",
                "access_key_secret": "secret",
                "endpoints": {"dysms": url},
            }
        )
        query: QueryApi | None = PROVIDER.open_query("main", account, SystemClock())
        assert query is not None
        assert query.page(ASKED, DAY, 1).receipts[0].account == "main"
        query.cancel()
        with pytest.raises(SourceCancelled):
            query.page(ASKED, DAY, 1)
        query.close()

    assert len(seen.requests) == 1
