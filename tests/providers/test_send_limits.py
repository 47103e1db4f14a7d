"""All limits of the seeds are looked at before anything is sent; each problem has place, rule and
cure, and none a number."""

import json
from collections.abc import Mapping

import pytest

from receiptd.clock import ManualClock
from receiptd.errors import Problem
from receiptd.providers.aliyun.send import SendBatchSms, SendSms
from receiptd.providers.base import InvalidSend, SendApi, SendOrder
from receiptd.providers.jushita.send import JushitaSend
from receiptd.providers.polyv.send import PolyvSend


class NoGateway:
    """Fails the test if anything is sent."""

    def ask(self, action: str, parameters: Mapping[str, str]) -> Mapping[str, object]:
        raise AssertionError("sent")

    def cancel(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""


SMS, BATCH, JUSHITA = (kind(NoGateway()) for kind in (SendSms, SendBatchSms, JushitaSend))
POLYV = PolyvSend("app", "secret", ManualClock(), endpoint="http://127.0.0.1:1")
APIS: tuple[SendApi, ...] = (SMS, BATCH, JUSHITA, POLYV)
PLACES = {"SendSms": "PhoneNumbers", "SendBatchSms": "PhoneNumberJson"}
PLACES |= {"JushitaSend": "rec_num", "PolyvSend": "phoneNumbers"}


def phones(count: int) -> list[str]:
    return [f"+86139{number:08d}" for number in range(count)]


def order(count: int = 2, **changes: object) -> SendOrder:
    values: dict[str, object] = {
        "phones": phones(count),
        "sign_names": ["示例"],
        "template_code": "SMS_1",
        "params": [{"code": "1234"}],
        **changes,
    }
    return SendOrder(**values)  # type: ignore[arg-type]


def problems(api: SendApi, asked: SendOrder) -> tuple[Problem, ...]:
    with pytest.raises(InvalidSend) as caught:
        api.request(asked)
    for problem in caught.value.problems:
        assert problem.place
        assert problem.rule
        assert problem.cure
    assert "139" not in str(caught.value)
    return caught.value.problems


def place_of(api: SendApi) -> str:
    return PLACES[type(api).__name__]


@pytest.mark.parametrize(
    ("api", "most"),
    [(SMS, 1000), (BATCH, 100), (JUSHITA, 200), (POLYV, 200)],
    ids=lambda one: type(one).__name__,
)
def test_a_call_takes_as_many_numbers_as_the_seeds_say(api: SendApi, most: int) -> None:
    assert api.request(order(most))
    (problem,) = problems(api, order(most + 1))

    assert problem.place == place_of(api)
    assert f"at most {most:,}" in problem.rule


@pytest.mark.parametrize("api", APIS, ids=lambda one: type(one).__name__)
def test_no_numbers_are_too_few(api: SendApi) -> None:
    assert place_of(api) in {problem.place for problem in problems(api, order(0))}


@pytest.mark.parametrize("api", APIS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize(
    "number",
    [
        *("1390000000", "139000000012", "12900000001", "", "abc", "1３900000001", "+861390000000"),
        *("139 0000 0001", "00", "+", "13900000001\n", "0013900000001x", "008613900"),
    ],
)
def test_what_is_no_number_is_named_by_its_place(api: SendApi, number: str) -> None:
    found = problems(api, order(phones=[*phones(1), number]))

    assert [problem.place for problem in found] == [f"{place_of(api)}[1]"]


@pytest.mark.parametrize("number", ["+85291234567", "0085291234567", "85291234567", "+13105551234"])
def test_other_countries_are_aliyuns_alone(number: str) -> None:
    asked = order(phones=[number])

    assert SMS.request(asked)
    assert BATCH.request(asked)
    assert problems(JUSHITA, asked)
    assert problems(POLYV, asked)


@pytest.mark.parametrize("api", APIS, ids=lambda one: type(one).__name__)
def test_a_number_twice_in_one_call_could_not_be_told_apart(api: SendApi) -> None:
    (problem,) = problems(api, order(phones=["+8613900000001", "13900000001"]))

    assert problem.place == place_of(api)
    assert "more than once" in problem.rule


@pytest.mark.parametrize(
    ("api", "sign", "template"),
    [
        (SMS, "SignName", "TemplateCode"),
        (BATCH, "SignNameJson", "TemplateCode"),
        (JUSHITA, "sign_name", "sms_template_code"),
    ],
    ids=lambda one: type(one).__name__ if not isinstance(one, str) else one,
)
def test_signature_and_template_must_be_there(api: SendApi, sign: str, template: str) -> None:
    missing_sign = problems(api, order(sign_names=[""]))
    missing_template = problems(api, order(template_code=" "))

    assert {problem.place.partition("[")[0] for problem in missing_sign} == {sign}
    assert [problem.place for problem in missing_template] == [template]


@pytest.mark.parametrize(
    ("api", "place"),
    [(SMS, "OutId"), (BATCH, "OutId"), (JUSHITA, "extend")],
    ids=lambda one: type(one).__name__ if not isinstance(one, str) else one,
)
def test_an_out_id_has_fewer_than_256_characters(api: SendApi, place: str) -> None:
    assert api.request(order(out_id="x" * 255))[place] == "x" * 255
    (problem,) = problems(api, order(out_id="x" * 256))

    assert problem.place == place


def test_polyv_has_no_place_for_an_out_id() -> None:
    (problem,) = problems(POLYV, order(out_id="order-42"))

    assert problem.place == "out_id"


@pytest.mark.parametrize(
    ("field", "given", "places"),
    [
        ("sign_names", ["a", "b", "c"], {"SignNameJson"}),
        ("params", [{}, {}, {}], {"TemplateParamJson"}),
        ("extend_codes", ["1", "2", "3"], {"SmsUpExtendCodeJson"}),
    ],
)
def test_arrays_are_as_long_as_the_numbers(
    field: str, given: list[object], places: set[str]
) -> None:
    found = problems(BATCH, order(2, **{field: given}))

    assert {problem.place for problem in found} == places


@pytest.mark.parametrize("place", ["SignNameJson", "TemplateParamJson", "SmsUpExtendCodeJson"])
def test_a_request_made_by_hand_is_held_to_the_same_limits(place: str) -> None:
    good = dict(BATCH.request(order(2, extend_codes=["1", "2"])))
    short = json.dumps(json.loads(str(good[place]))[:1])

    for value in (short, "[", "{}", "", 7):
        with pytest.raises(InvalidSend) as caught:
            BATCH.send({**good, place: value})
        assert {problem.place for problem in caught.value.problems} == {place}


@pytest.mark.parametrize("place", ["sms_content", "extend_num"])
def test_jushitas_arrays_are_as_long_as_the_numbers(place: str) -> None:
    good = dict(JUSHITA.request(order(2, extend_codes=["1", "2"])))

    with pytest.raises(InvalidSend) as caught:
        JUSHITA.send({**good, place: json.dumps(json.loads(str(good[place]))[:1])})
    assert [problem.place for problem in caught.value.problems] == [place]


def test_polyvs_names_and_values_are_equally_many_texts() -> None:
    good = dict(POLYV.request(order(1)))

    for place, value in (
        ("templateParamValues", []),
        ("templateParamValues", [9802]),
        ("templateParamNames", [""]),
        ("phoneNumbers", "13900000001"),
    ):
        with pytest.raises(InvalidSend) as caught:
            POLYV.send({**good, place: value})
        assert all(place in problem.place for problem in caught.value.problems[:1])


@pytest.mark.parametrize("value", ["[]", "{", '{"code":1234}', '{"code":null}', 7])
def test_variables_are_an_object_of_texts(value: object) -> None:
    good = dict(SMS.request(order(1)))

    with pytest.raises(InvalidSend) as caught:
        SMS.send({**good, "TemplateParam": value})
    assert [problem.place for problem in caught.value.problems] == ["TemplateParam"]


@pytest.mark.parametrize("code", ["12345678", "12a", "-1"])
def test_an_extension_code_has_one_to_seven_digits(code: str) -> None:
    assert problems(SMS, order(1, extend_codes=[code]))[0].place == "SmsUpExtendCode"
    assert problems(BATCH, order(1, extend_codes=[code]))[0].place == "SmsUpExtendCodeJson[0]"
    assert problems(JUSHITA, order(1, extend_codes=[code]))[0].place == "extend_num[0]"


def test_one_text_for_all_is_all_that_some_apis_can() -> None:
    several = order(2, params=[{"a": "1"}, {"a": "2"}])

    assert problems(SMS, several)[0].place == "TemplateParam"
    assert problems(POLYV, several)[0].place == "templateParamValues"
    assert BATCH.request(several)
    assert JUSHITA.request(several)


def test_every_problem_is_told_at_once() -> None:
    found = problems(SMS, SendOrder(phones=["x"], out_id="y" * 300))

    assert [problem.place for problem in found] == [
        *("PhoneNumbers[0]", "SignName", "TemplateCode", "OutId"),
    ]
