import pytest

from receiptd.model import ErrClass
from receiptd.providers import codes
from receiptd.providers.codes import classify

SOURCES = {
    "aliyun-2019",
    "aliyun-platform",
    "cmpp-table",
    "other",
    "receiptd",
    "wire-formats-1.4",
    "wire-formats-8.3",
}


def test_every_row_of_the_table_keeps_its_rules() -> None:
    rows = codes.rows()
    assert len(rows) > 900
    for row in rows:
        assert row["code"] == row["code"].strip() != "", row
        assert row["carrier"], row
        assert row["err_class"] in set(ErrClass), row
        assert row["confidence"] in {"high", "medium"}, row
        assert row["ambiguous"] in {"", "yes"}, row
        assert row["source"], row
        assert set(row["source"].split("+")) <= SOURCES, row


def test_no_code_stands_twice_for_one_carrier() -> None:
    keys = [(row["code"], row["carrier"]) for row in codes.rows()]

    assert len(keys) == len(set(keys))


def test_the_table_is_sorted_so_that_changes_to_it_are_readable() -> None:
    keys = [(row["code"], row["carrier"]) for row in codes.rows()]

    assert keys == sorted(keys)


def test_rows_that_disagree_are_marked_ambiguous_all_of_them() -> None:
    classes: dict[str, set[str]] = {}
    marks: dict[str, set[str]] = {}
    for row in codes.rows():
        classes.setdefault(row["code"], set()).add(row["err_class"])
        marks.setdefault(row["code"], set()).add(row["ambiguous"])

    for code, found in classes.items():
        assert len(marks[code]) == 1, code
        assert len(found) == 1 or marks[code] == {"yes"}, code


def test_an_ambiguous_code_is_unknown_until_the_text_decides() -> None:
    for code in {row["code"] for row in codes.rows() if row["ambiguous"]}:
        assert classify(code, delivered=False) is ErrClass.UNKNOWN
        assert classify(code, delivered=False, err_msg="用户关机") is ErrClass.ABSENT


def test_a_delivered_sms_is_ok_whatever_its_code() -> None:
    for code in [None, "", "MK:0005", "DELIVRD", "x"]:
        assert classify(code, delivered=True, err_msg="空号") is ErrClass.OK


def test_a_failure_is_never_ok() -> None:
    for row in codes.rows():
        assert classify(row["code"], delivered=False) is not ErrClass.OK


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("IS_CLOSED", ErrClass.CARRIER),
        ("IS_CLOSE", ErrClass.CARRIER),
        ("MOBILE_NOT_ON_SERVICE", ErrClass.ABSENT),
        ("MOBILE_SEND_LIMIT", ErrClass.LIMIT),
        ("MOBILE_IN_BLACK", ErrClass.BLACKLIST),
        ("MOBLLE_TERMINAL_ERROR", ErrClass.ABSENT),
        ("CONTENT_KEYWORD", ErrClass.CONTENT),
        ("INVALID_NUMBER", ErrClass.INVALID_NUMBER),
        ("NO_ROUTE", ErrClass.CARRIER),
        ("SIGNATURE_BLACKLIST", ErrClass.CONFIG),
        ("REQUEST_SUCCESS", ErrClass.UNKNOWN),  # accepted by the carrier, never answered
        ("UNKNOW", ErrClass.UNKNOWN),
        ("UNKNOWN", ErrClass.UNKNOWN),
        ("EXPIRED", ErrClass.EXPIRED),
        ("VALVE:M_MC", ErrClass.LIMIT),
        ("VALVE:NEW", ErrClass.LIMIT),
        ("MK:0001", ErrClass.INVALID_NUMBER),
        ("MK:0005", ErrClass.ABSENT),
        ("MK:9999", ErrClass.UNKNOWN),  # a numbered family says nothing of its other members
        ("Deliver", ErrClass.INVALID_NUMBER),  # a look-alike: telecom's failure
        ("MI:0000", ErrClass.UNKNOWN),  # another
        ("MM:0000", ErrClass.UNKNOWN),
        ("isv.SMS_SIGNATURE_ILLEGAL", ErrClass.CONFIG),
        ("isv.SMS_SI", ErrClass.CONFIG),  # the same, cut to ten characters
        ("isv.SMS_SIGN_SOMETHING_NEW", ErrClass.CONFIG),
        ("isv.PRODUCT_UN_SUBSCRIPT", ErrClass.CONFIG),
        ("isv.PRODUC", ErrClass.CONFIG),
        ("isv.AMOUNT_NOT_ENOUGH", ErrClass.CONFIG),
        ("isv.BUSINESS_LIMIT_CONTROL", ErrClass.LIMIT),
        ("isp.SYSTEM_ERROR", ErrClass.CARRIER),
        ("isp.NEVER_SEEN", ErrClass.UNKNOWN),
        ("no such code", ErrClass.UNKNOWN),
        (None, ErrClass.UNKNOWN),
    ],
)
def test_the_words_and_families_of_the_documents_have_their_class(
    code: str | None, meaning: ErrClass
) -> None:
    assert classify(code, delivered=False) is meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("空号", ErrClass.INVALID_NUMBER),
        ("用户已关机", ErrClass.ABSENT),
        ("欠费停机", ErrClass.ABSENT),
        ("号码在黑名单中", ErrClass.BLACKLIST),
        ("签名不合法", ErrClass.CONFIG),
        ("模板未审核", ErrClass.CONFIG),
        ("命中关键字", ErrClass.CONTENT),
        ("触发流控", ErrClass.LIMIT),
        ("短信过期", ErrClass.EXPIRED),
        ("空号或关机", ErrClass.UNKNOWN),  # two classes decide nothing
        ("失败", ErrClass.UNKNOWN),
        ("", ErrClass.UNKNOWN),
    ],
)
def test_the_text_decides_where_the_code_says_nothing(text: str, meaning: ErrClass) -> None:
    assert classify("UNKNOWN", delivered=False, err_msg=text) is meaning


def test_the_text_does_not_overrule_a_code_that_says_something() -> None:
    assert classify("MK:0001", delivered=False, err_msg="用户关机") is ErrClass.INVALID_NUMBER


def test_the_table_is_read_once_and_only_when_needed() -> None:
    codes.load.cache_clear()

    assert classify("x", delivered=True) is ErrClass.OK
    assert codes.load.cache_info().misses == 0
    classify("x", delivered=False)
    classify("y", delivered=False)
    assert codes.load.cache_info().misses == 1
