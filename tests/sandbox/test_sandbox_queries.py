"""QuerySendDetails and QuerySendStatistics, asked through the official core SDK."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from receiptd.sandbox import Sandbox, Scenario
from tests.sandbox.clients import SDK_WARNINGS, china_date, details, polyv_call, rows, sdk_call
from tests.sandbox.wire import Wire, sdk_error

pytestmark = SDK_WARNINGS
PHONE = "13900000001"
DAY_S = 86400


def statistics(sandbox: Sandbox, first: int = 0, **more: str) -> dict[str, Any]:
    params = {
        "IsGlobe": "1",
        "StartDate": china_date(sandbox, first),
        "EndDate": china_date(sandbox),
        "PageIndex": "1",
        "PageSize": "50",
    }
    return sdk_call(sandbox, "QuerySendStatistics", params | more)


def at_noon(sandbox: Sandbox) -> None:
    """Turn the clock to the next noon in China."""
    into_the_day = (sandbox.clock.now() + 8 * 3600) % DAY_S
    sandbox.clock.advance((DAY_S / 2 - into_the_day) % DAY_S)


def test_a_delivered_message_is_found_with_all_its_fields(
    frozen: Sandbox, wire: Callable[[Sandbox], Wire]
) -> None:
    biz_id = frozen.send_sms([PHONE], out_id="order-42")
    received = wire(frozen).receive(frozen.queue("SmsReport")).first("MessageBody")
    report = json.loads(base64.b64decode(received))

    answer = details(frozen, PHONE, BizId=biz_id)

    assert (answer["Code"], answer["Message"], answer["TotalCount"]) == ("OK", "OK", 1)
    assert rows(answer) == [
        {
            "PhoneNum": PHONE,
            "SendStatus": 3,
            "ErrCode": "DELIVERED",
            "TemplateCode": "SMS_1",
            "Content": "【示例】SMS_1",
            "SendDate": report["send_time"],
            "ReceiveDate": report["report_time"],
            "OutId": "order-42",
        }
    ]


def test_a_waiting_message_has_no_code_and_no_date_yet() -> None:
    with Sandbox(scenario=Scenario(failed=1, delay_s=60), virtual_time=True) as sandbox:
        at_noon(sandbox)
        sandbox.send_sms([PHONE])
        (waiting,) = rows(details(sandbox, PHONE))
        sandbox.clock.advance(60)
        (failed,) = rows(details(sandbox, PHONE))

        assert waiting["SendStatus"] == 1
        assert waiting.keys() & {"ErrCode", "ReceiveDate", "OutId"} == set()
        assert (failed["SendStatus"], failed["ErrCode"]) == (2, sandbox.dispatches[0].code)


def test_a_lost_receipt_is_known_to_the_query_alone() -> None:
    scenario = Scenario(
        phones={PHONE: "lost", "13900000002": "unanswered"}, lost_failed=1, delay_s=5
    )
    with Sandbox(scenario=scenario, virtual_time=True) as sandbox:
        at_noon(sandbox)
        sandbox.send_sms([PHONE, "13900000002"])
        sandbox.clock.advance(3600)

        (lost,) = rows(details(sandbox, PHONE))
        (unanswered,) = rows(details(sandbox, "13900000002"))

        assert sandbox.depth(sandbox.queue("SmsReport")) == 0
        assert (lost["SendStatus"], unanswered["SendStatus"]) == (2, 1)
        assert [one.outcome for one in sandbox.truth()] == ["failed", None]


def test_a_receipt_id_narrows_to_one_send(frozen: Sandbox) -> None:
    first = frozen.send_sms([PHONE], out_id="a")
    frozen.send_sms([PHONE, "13900000002"], out_id="b")

    everything = rows(details(frozen, PHONE))
    one = rows(details(frozen, PHONE, BizId=first))

    assert [row["OutId"] for row in everything] == ["b", "a"]
    assert [row["OutId"] for row in one] == ["a"]
    assert rows(details(frozen, PHONE, BizId="1^0")) == []


def test_jushitas_messages_are_not_aliyuns_and_polyvs_are(frozen: Sandbox) -> None:
    frozen.send_sms([PHONE], jushita=True)
    serial = polyv_call(frozen, [PHONE])[1]["data"][0]["serialNo"]

    found = rows(details(frozen, PHONE))

    assert len(found) == 1
    assert rows(details(frozen, PHONE, BizId=serial)) == found


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        ("+8613900000001", "13900000001"),
        ("008613900000001", "13900000001"),
        ("0085290000001", "85290000001"),
        ("85290000001", "0085290000001"),
    ],
)
def test_a_number_is_found_however_it_is_written(frozen: Sandbox, sent: str, asked: str) -> None:
    frozen.send_sms([sent])

    (row,) = rows(details(frozen, asked))

    assert row["PhoneNum"] == asked.removeprefix("00")


def test_all_pages_together_hold_every_row_once(frozen: Sandbox) -> None:
    at_noon(frozen)
    for number in range(120):
        frozen.send_sms([PHONE], out_id=str(number))

    pages = [rows(details(frozen, PHONE, CurrentPage=str(page))) for page in (1, 2, 3, 4)]

    assert [len(page) for page in pages] == [50, 50, 20, 0]
    assert [row["OutId"] for page in pages for row in page] == [str(n) for n in range(119, -1, -1)]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"PhoneNumber": "13900000001,13900000002"}, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"PhoneNumber": "12345"}, "isv.MOBILE_NUMBER_ILLEGAL"),
        ({"SendDate": "2024-05-06"}, "isv.INVALID_PARAMETERS"),
        ({"SendDate": "20240230"}, "isv.INVALID_PARAMETERS"),
        ({"SendDate": "20170525"}, "isv.INVALID_PARAMETERS"),
        ({"PageSize": "51"}, "isv.INVALID_PARAMETERS"),
        ({"PageSize": "0"}, "isv.INVALID_PARAMETERS"),
        ({"PageSize": "x"}, "isv.INVALID_PARAMETERS"),
        ({"CurrentPage": "0"}, "isv.INVALID_PARAMETERS"),
        ({"CurrentPage": "-1"}, "isv.INVALID_PARAMETERS"),
    ],
)
def test_a_wrong_question_is_a_business_error(
    sandbox: Sandbox, change: dict[str, str], code: str
) -> None:
    params = {"PhoneNumber": PHONE, "SendDate": china_date(sandbox)}
    params |= {"PageSize": "50", "CurrentPage": "1"}

    answer = sdk_call(sandbox, "QuerySendDetails", params | change)

    assert answer["Code"] == code
    assert "SmsSendDetailDTOs" not in answer


@pytest.mark.parametrize("name", ["PhoneNumber", "SendDate", "PageSize", "CurrentPage"])
def test_a_question_without_a_mandatory_parameter_is_refused(sandbox: Sandbox, name: str) -> None:
    params = {"PhoneNumber": PHONE, "SendDate": china_date(sandbox)}
    params |= {"PageSize": "50", "CurrentPage": "1"}

    error = sdk_error(lambda: sdk_call(sandbox, "QuerySendDetails", params | {name: ""}))

    assert (error.http_status, error.error_code) == (400, f"Missing{name}")


def test_a_message_is_gone_after_thirty_days(frozen: Sandbox) -> None:
    at_noon(frozen)
    day = china_date(frozen)
    biz_id = frozen.send_sms([PHONE])
    frozen.clock.advance(30 * DAY_S - 1)
    on_the_last_day = rows(details(frozen, PHONE, day, BizId=biz_id))
    frozen.clock.advance(1)
    too_late = rows(details(frozen, PHONE, day, BizId=biz_id))
    frozen.clock.advance(DAY_S)

    refused = details(frozen, PHONE, day, BizId=biz_id)

    assert (len(on_the_last_day), too_late) == (1, [])
    assert refused["Code"] == "isv.INVALID_PARAMETERS"
    assert statistics(frozen, -31)["Data"]["TargetList"][0]["TotalCount"] == 1


def test_a_month_of_sends_is_accounted_for_though_old_rows_are_gone(frozen: Sandbox) -> None:
    at_noon(frozen)
    for _ in range(40):
        frozen.send_sms([PHONE])
        frozen.clock.advance(DAY_S)

    found = [rows(details(frozen, PHONE, china_date(frozen, -n))) for n in range(31)]

    # None was sent today, and the message of thirty days ago is just old enough to be gone.
    assert [len(one) for one in found] == [0] + [1] * 29 + [0]
    assert len(frozen.truth()) == statistics(frozen, -60)["Data"]["TotalSize"] == 40


def test_the_day_of_a_message_is_chinas() -> None:
    with Sandbox(scenario=Scenario(delay_s=60), virtual_time=True) as sandbox:
        at_noon(sandbox)
        sandbox.clock.advance(DAY_S / 2 - 0.001)  # the carrier gets it after midnight
        sandbox.send_sms([PHONE])

        before, after = (rows(details(sandbox, PHONE, china_date(sandbox, n))) for n in (0, 1))

        assert (len(before), len(after)) == (0, 1)
        assert after[0]["SendDate"].endswith("00:00:00")


def test_only_as_much_is_remembered_as_history_says() -> None:
    with Sandbox(history=2) as sandbox:
        for phone in ("13900000001", "13900000002", "13900000003"):
            sandbox.send_sms([phone])

        assert rows(details(sandbox, "13900000001")) == []
        assert len(rows(details(sandbox, "13900000003"))) == 1
        assert (len(sandbox.sends), sandbox.state["sends"]) == (2, 3)


def test_the_statistics_count_each_day_by_what_is_known() -> None:
    scenario = Scenario(
        phones={"13900000001": "delivered", "13900000002": "failed", "13900000003": "unanswered"},
        delay_s=60,
    )
    with Sandbox(scenario=scenario, virtual_time=True) as sandbox:
        at_noon(sandbox)
        sandbox.send_sms(["13900000001", "13900000002", "13900000003", "13900000003"])
        at_first = statistics(sandbox)["Data"]
        sandbox.clock.advance(DAY_S)
        sandbox.send_sms(["13900000001", "85290000001"])
        later = statistics(sandbox, -1)["Data"]
        abroad = statistics(sandbox, -1, IsGlobe="2")["Data"]

        assert at_first["TargetList"] == [
            {
                "SendDate": china_date(sandbox, -1),
                "TotalCount": 4,
                "RespondedSuccessCount": 0,
                "RespondedFailCount": 0,
                "NoRespondedCount": 4,
            }
        ]
        assert later["TotalSize"] == 2
        counted = [list(day.values())[1:] for day in later["TargetList"]]
        assert counted == [[4, 1, 1, 2], [1, 0, 0, 1]]
        assert [day["TotalCount"] for day in abroad["TargetList"]] == [1]


def test_the_statistics_follow_a_receipt_that_is_contradicted() -> None:
    with Sandbox(scenario=Scenario(conflicts=1), virtual_time=True) as sandbox:
        at_noon(sandbox)
        sandbox.send_sms([PHONE])
        (first,) = statistics(sandbox)["Data"]["TargetList"]
        sandbox.clock.advance(2)
        (second,) = statistics(sandbox)["Data"]["TargetList"]

        assert (first["RespondedSuccessCount"], first["RespondedFailCount"]) == (1, 0)
        assert (second["RespondedSuccessCount"], second["RespondedFailCount"]) == (0, 1)
        assert rows(details(sandbox, PHONE))[0]["SendStatus"] == 2
        assert sandbox.truth()[0].outcome == "failed"


def test_the_statistics_have_pages_and_a_filter_by_sign_name(frozen: Sandbox) -> None:
    at_noon(frozen)
    for _ in range(3):
        frozen.send_sms([PHONE])
        frozen.clock.advance(DAY_S)
    send = {"PhoneNumbers": PHONE, "SignName": "甲", "TemplateCode": "SMS_2"}
    sdk_call(frozen, "SendSms", send)

    second = statistics(frozen, -3, PageSize="2", PageIndex="2")["Data"]
    filtered = statistics(frozen, -3, SignName="甲")["Data"]

    assert second["TotalSize"] == 4
    assert [day["SendDate"] for day in second["TargetList"]] == [
        china_date(frozen, -1),
        china_date(frozen),
    ]
    assert [day["SendDate"] for day in filtered["TargetList"]] == [china_date(frozen)]


@pytest.mark.parametrize(
    "change",
    [
        {"IsGlobe": "3"},
        {"StartDate": "99991231"},
        {"EndDate": "yesterday"},
        {"PageSize": "51"},
        {"PageIndex": "0"},
        {"TemplateType": "4"},
    ],
)
def test_a_wrong_question_for_statistics_is_refused(
    sandbox: Sandbox, change: dict[str, str]
) -> None:
    assert statistics(sandbox, 0, **change)["Code"] == "isv.INVALID_PARAMETERS"
