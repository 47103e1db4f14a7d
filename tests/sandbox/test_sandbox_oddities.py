"""What the query APIs do against their documents happens when a scenario says so."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from receiptd.sandbox import Fault, Oddities, Sandbox, Scenario
from tests.sandbox.clients import (
    SDK_WARNINGS,
    china_date,
    details,
    polyv_call,
    rows,
    sdk_call,
    top_call,
    top_params,
    top_rows,
)
from tests.sandbox.wire import sdk_error

pytestmark = SDK_WARNINGS
PHONE = "13900000001"
Odd = Callable[..., Sandbox]


@pytest.fixture
def odd() -> Any:
    """Make sandboxes with oddities, whose time stands still."""
    made: list[Sandbox] = []

    def make(scenario: Scenario | None = None, **oddities: Any) -> Sandbox:
        base = scenario or Scenario()
        odd = base.model_copy(update={"seed": 1, "query": Oddities(**oddities)})
        made.append(Sandbox(scenario=odd, virtual_time=True))
        made[-1].start()
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.stop()
        assert sandbox.errors == []


def test_the_oddities_are_a_table_of_the_scenario() -> None:
    scenario = Scenario.from_toml("lost = 0.1\n[query]\ncalls_per_s = 20\nempty_lists = 0.1\n")

    assert scenario.query == Oddities(calls_per_s=20, empty_lists=0.1)
    with pytest.raises(ValidationError, match="calls_per_sec"):
        Scenario.from_toml("[query]\ncalls_per_sec = 20\n")


def test_the_total_can_be_a_text(odd: Odd) -> None:
    assert details(odd(total_count_text=True), PHONE)["TotalCount"] == "0"


def test_the_total_can_lie(odd: Odd) -> None:
    sandbox = odd(wrong_totals=1)
    sandbox.send_sms([PHONE] * 3)

    answer = details(sandbox, PHONE)

    assert len(rows(answer)) == 3
    assert answer["TotalCount"] != 3


def test_the_list_can_be_empty_though_the_total_is_two(odd: Odd) -> None:
    sandbox = odd(empty_lists=1)
    sandbox.send_sms([PHONE] * 2)

    answer = details(sandbox, PHONE)

    assert (answer["TotalCount"], rows(answer)) == (2, [])


def test_pages_can_shift_by_a_row(odd: Odd) -> None:
    sandbox = odd(shifted_pages=1)
    for number in range(30):
        sandbox.send_sms([PHONE], out_id=str(number))

    pages = [
        [row["OutId"] for row in rows(details(sandbox, PHONE, PageSize="10", CurrentPage=page))]
        for page in ("1", "2", "2", "2", "2")
    ]

    assert pages[0] == [str(n) for n in range(29, 19, -1)]
    assert {page[0] for page in pages[1:]} == {"20", "18"}


def test_rows_can_come_in_no_order_yet_each_on_one_page(odd: Odd) -> None:
    sandbox = odd(shuffled=True)
    for number in range(30):
        sandbox.send_sms([PHONE], out_id=str(number))

    found = [
        row["OutId"]
        for page in ("1", "2", "3")
        for row in rows(details(sandbox, PHONE, PageSize="10", CurrentPage=page))
    ]

    assert sorted(map(int, found)) == list(range(30))
    assert found not in (sorted(found, key=int), sorted(found, key=int, reverse=True))


def test_what_the_sender_gave_can_be_missing_in_a_row(odd: Odd) -> None:
    sandbox = odd(without_out_id=1)
    sandbox.send_sms([PHONE], out_id="order-42")

    assert "OutId" not in rows(details(sandbox, PHONE))[0]


def test_fields_of_a_waiting_row_can_be_blank(odd: Odd) -> None:
    sandbox = odd(Scenario(unanswered=1), blank_while_waiting=True)
    sandbox.send_sms([PHONE])

    (row,) = rows(details(sandbox, PHONE))

    assert (row["SendStatus"], row["ErrCode"], row["ReceiveDate"]) == (1, "", "")


def test_the_query_can_know_later_than_the_queue(odd: Odd) -> None:
    sandbox = odd(hidden_s=10, lag_s=60)
    day = china_date(sandbox)
    sandbox.send_sms([PHONE])
    counts = []
    for seconds in (0, 10, 50):
        sandbox.clock.advance(seconds)
        counts.append([row["SendStatus"] for row in rows(details(sandbox, PHONE, day))])

    assert sandbox.depth(sandbox.queue("SmsReport")) == 1
    assert counts == [[], [1], [3]]


def test_the_query_can_tell_the_same_event_in_other_words(odd: Odd) -> None:
    sandbox = odd(delivered_code="DELIVRD", receive_date_off_s=3)
    sandbox.send_sms([PHONE])

    (row,) = rows(details(sandbox, PHONE))

    assert row["ErrCode"] == "DELIVRD"
    assert row["ReceiveDate"] != row["SendDate"]


@pytest.mark.parametrize("code", ["Throttling.User", "isv.BUSINESS_LIMIT_CONTROL"])
def test_calls_beyond_the_rate_are_throttled_until_the_second_is_over(odd: Odd, code: str) -> None:
    sandbox = odd(calls_per_s=2, throttle_code=code)
    sandbox.send_sms([PHONE])
    day = china_date(sandbox)

    def ask() -> str:
        try:
            return str(details(sandbox, PHONE, day)["Code"])
        except Exception as error:
            return str(error.error_code)  # type: ignore[attr-defined]

    answers = [ask() for _ in range(3)]
    sandbox.clock.advance(1)

    assert [*answers, ask()] == ["OK", "OK", code, "OK"]


@pytest.mark.parametrize(
    ("code", "answered"),
    [
        ("Throttling.User", (7, "accesscontrol.limited-by-api-access-count")),
        ("isv.BUSINESS_LIMIT_CONTROL", (15, "isv.BUSINESS_LIMIT_CONTROL")),
    ],
)
def test_top_throttles_in_its_own_words(odd: Odd, code: str, answered: tuple[int, str]) -> None:
    sandbox = odd(calls_per_s=1, throttle_code=code)
    own = {"rec_num": PHONE, "query_date": china_date(sandbox)}
    own |= {"current_page": "1", "page_size": "50"}
    method = "alibaba.aliqin.ta.sms.num.query"
    top_call(sandbox, top_params(method, **own))

    error = top_call(sandbox, top_params(method, **own))["error_response"]

    assert (error["code"], error["sub_code"]) == answered


def test_the_oddities_hold_for_top_as_well(odd: Odd) -> None:
    sandbox = odd(empty_lists=1)
    sandbox.send_sms([PHONE], jushita=True)

    assert top_rows(sandbox, PHONE) == []


def test_questions_do_not_change_the_fates_of_later_sends() -> None:
    fates = []
    for questions in (0, 5):
        with Sandbox(scenario=Scenario(seed=3, failed=0.5)) as sandbox:
            for _ in range(questions):
                details(sandbox, PHONE)
            sandbox.send_sms([f"139{n:08d}" for n in range(100)])
            fates.append([sent.fate for sent in sandbox.sends])

    assert fates[0] == fates[1]


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (Fault.error("Throttling.User", "query_details"), (400, "Throttling.User")),
        (Fault.html(502, "query"), (502, None)),
        (Fault.error("isp.SYSTEM_ERROR", "query_details"), (200, "isp.SYSTEM_ERROR")),
    ],
)
def test_faults_strike_the_queries(sandbox: Sandbox, fault: Fault, answer: Any) -> None:
    sandbox.set_fault(fault)

    if answer[0] == 200:
        seen = 200, details(sandbox, PHONE)["Code"]
    else:
        error = sdk_error(lambda: details(sandbox, PHONE))
        seen = error.http_status, error.error_code if answer[1] else None

    assert seen == answer
    assert sandbox.request_counts["query_details"] == 1


def test_a_fault_strikes_one_page_or_one_api_only(sandbox: Sandbox) -> None:
    sandbox.set_fault(Fault.error("isp.SYSTEM_ERROR", "query_details", target="CurrentPage=2"))

    codes = [details(sandbox, PHONE, CurrentPage=page)["Code"] for page in ("1", "2", "3")]

    assert codes == ["OK", "isp.SYSTEM_ERROR", "OK"]


def test_an_answer_can_be_cut_or_be_something_else_than_an_object(sandbox: Sandbox) -> None:
    sandbox.set_fault(Fault.build("cut_xml", "query_details", times=1))
    with pytest.raises(json.JSONDecodeError):
        details(sandbox, PHONE)
    sandbox.set_fault(Fault.build("status", "query_details", status=200, body="[]"))

    no_object: Any = details(sandbox, PHONE)

    assert no_object == []


def test_faults_know_the_queries_sends_and_gateways_by_their_names(sandbox: Sandbox) -> None:
    statistics = {"IsGlobe": "1", "StartDate": china_date(sandbox), "EndDate": china_date(sandbox)}
    sdk_call(sandbox, "QuerySendStatistics", statistics | {"PageIndex": "1", "PageSize": "1"})
    top_rows(sandbox, PHONE)
    top_call(sandbox, top_params("taobao.jst.sms.message.direct.batchsend"))
    top_call(sandbox, top_params("taobao.no.such.method"))
    polyv_call(sandbox, [PHONE])

    assert sandbox.request_counts == {
        "query_statistics": 1,
        "top_query": 1,
        "top_send": 1,
        "top": 1,
        "polyv_send": 1,
    }


def test_a_fault_speaks_the_language_of_the_gateway_it_strikes(sandbox: Sandbox) -> None:
    sandbox.set_fault(Fault.error("7", "top"))
    limited = top_call(sandbox, top_params("alibaba.aliqin.ta.sms.num.query"))
    sandbox.clear_faults()
    sandbox.set_fault(Fault.error("isp.SYSTEM_ERROR", "top_query"))
    failed = top_call(sandbox, top_params("alibaba.aliqin.ta.sms.num.query"))
    sandbox.set_fault(Fault.error("20009", "polyv", status=500))
    broken = polyv_call(sandbox, [PHONE])

    assert limited["error_response"]["code"] == 7
    assert failed["error_response"]["sub_code"] == "isp.SYSTEM_ERROR"
    assert (broken[0], broken[1]["code"], broken[1]["error"]["code"]) == (500, 500, 20009)
