"""The error codes of the send APIs: every one of the seeds, with its meaning and a cure."""

import csv
import pkgutil

import pytest

from receiptd.model import ErrClass
from receiptd.providers import codes
from receiptd.providers.aliyun import PROVIDER as ALIYUN
from receiptd.providers.base import Provider, Wordy
from receiptd.providers.jushita import PROVIDER as JUSHITA
from receiptd.providers.polyv import PROVIDER as POLYV
from receiptd.providers.refusals import load

# The seeds' table, S0 and S1, word for word.
SEEDS = {
    "isp.RAM_PERMISSION_DENY": "RAM权限DENY",
    "isv.OUT_OF_SERVICE": "业务停机",
    "isv.PRODUCT_UN_SUBSCRIPT": "未开通云通信产品的阿里云客户",
    "isv.PRODUCT_UNSUBSCRIBE": "产品未开通",
    "isv.ACCOUNT_NOT_EXISTS": "账户不存在",
    "isv.ACCOUNT_ABNORMAL": "账户异常",
    "isv.SMS_TEMPLATE_ILLEGAL": "短信模板不合法",
    "isv.SMS_SIGNATURE_ILLEGAL": "短信签名不合法",
    "isv.INVALID_PARAMETERS": "参数异常",
    "isp.SYSTEM_ERROR": "系统错误",
    "isv.MOBILE_NUMBER_ILLEGAL": "非法手机号",
    "isv.MOBILE_COUNT_OVER_LIMIT": "手机号码数量超过限制",
    "isv.TEMPLATE_MISSING_PARAMETERS": "模板缺少变量",
    "isv.BUSINESS_LIMIT_CONTROL": "业务限流",
    "isv.INVALID_JSON_PARAM": "JSON参数不合法,只接受字符串值",
    "isv.BLACK_KEY_CONTROL_LIMIT": "黑名单管控",
    "isv.PARAM_LENGTH_LIMIT": "参数超出长度限制",
    "isv.PARAM_NOT_SUPPORT_URL": "不支持URL",
    "isv.AMOUNT_NOT_ENOUGH": "账户余额不足",
}
PACKAGES = [f"receiptd.providers.{name}" for name in ("aliyun", "jushita", "polyv")]


@pytest.mark.parametrize("code", SEEDS)
def test_every_code_of_the_seeds_has_its_meaning_and_a_cure(code: str) -> None:
    found = ALIYUN.refusal(code)

    assert found is not None
    assert found.meaning == SEEDS[code]
    assert found.cure
    assert found.err_class not in (ErrClass.OK, ErrClass.UNKNOWN)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_row_is_whole_and_stands_once(package: str) -> None:
    lines = (pkgutil.get_data(package, "errors.csv") or b"").decode().splitlines()
    rows = list(csv.DictReader(lines))

    assert len(rows) == len(load(package))
    for row in rows:
        assert None not in row
        assert all(row.values())
        assert row["credentials"] in ("yes", "no")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_send_and_a_receipt_with_one_code_are_of_one_class(package: str) -> None:
    of_receipts = codes.load()

    for code, refusal in load(package).items():
        if code.startswith(("isv.", "isp.")) and code in of_receipts:
            assert of_receipts[code] is refusal.err_class, code


@pytest.mark.parametrize(
    ("provider", "code", "err_class"),
    [
        (ALIYUN, "Throttling.User", ErrClass.LIMIT),
        (ALIYUN, "InvalidAccessKeyId.NotFound", ErrClass.CONFIG),
        (JUSHITA, "isv.OUT_OF_SERVICE", ErrClass.CONFIG),
        (JUSHITA, "25", ErrClass.CONFIG),
        (JUSHITA, "accesscontrol.limited-by-api-access-count", ErrClass.LIMIT),
        (POLYV, "-1", ErrClass.LIMIT),
        (POLYV, "-2", ErrClass.INVALID_NUMBER),
        (POLYV, "11", ErrClass.CARRIER),
        (POLYV, "20001", ErrClass.CONFIG),
    ],
)
def test_a_code_is_found_where_it_belongs(
    provider: Provider, code: str, err_class: ErrClass
) -> None:
    found = provider.refusal(code)

    assert found is not None
    assert found.err_class is err_class


@pytest.mark.parametrize(
    ("provider", "codes"),
    [
        (
            ALIYUN,
            "SignatureDoesNotMatch InvalidAccessKeyId.NotFound InvalidTimeStamp.Expired "
            "Forbidden.RAM isp.RAM_PERMISSION_DENY",
        ),
        (JUSHITA, "11 24 25 26 27 28 29 30 31 isp.RAM_PERMISSION_DENY"),
        (POLYV, "20001"),
    ],
)
def test_a_refusal_of_who_sends_is_about_credentials(provider: Provider, codes: str) -> None:
    for code in codes.split():
        found = provider.refusal(code)
        assert found is not None
        assert found.is_about_credentials, code


@pytest.mark.parametrize(
    ("provider", "codes"),
    [
        # A signature is also what begins a text, and a nonce is no key.
        (ALIYUN, "isv.SMS_SIGNATURE_ILLEGAL SignatureNonceUsed isv.AMOUNT_NOT_ENOUGH Throttling"),
        (JUSHITA, "7 40 isv.SMS_SIGNATURE_ILLEGAL"),
        (POLYV, "-1 -2 11"),
    ],
)
def test_a_refusal_of_what_is_sent_is_not(provider: Provider, codes: str) -> None:
    for code in codes.split():
        found = provider.refusal(code)
        assert found is not None
        assert not found.is_about_credentials, code


@pytest.mark.parametrize(
    ("message", "is_about_credentials"),
    [
        ("invalid signature.", True),
        ("timestamp expired.", True),
        ("daily limit of the user exceeded.", False),
        ("", False),
    ],
)
def test_of_polyv_the_words_say_what_has_no_code(message: str, is_about_credentials: bool) -> None:
    assert isinstance(POLYV, Wordy)
    assert POLYV.is_about_credentials(message) is is_about_credentials


@pytest.mark.parametrize(
    ("provider", "code"),
    [(ALIYUN, "25"), (ALIYUN, "isv.NEVER_SEEN"), (JUSHITA, "Throttling"), (POLYV, "25")],
)
def test_a_code_of_no_table_means_nothing(provider: Provider, code: str) -> None:
    assert provider.refusal(code) is None


def test_jushitas_limit_is_its_own() -> None:
    found = JUSHITA.refusal("isv.MOBILE_COUNT_OVER_LIMIT")

    assert found is not None
    assert "200" in found.cure
