import pytest
from pydantic import SecretStr

from receiptd.config import AccountSettings
from receiptd.providers.aliyun import PROVIDER as ALIYUN
from receiptd.providers.base import Provider
from receiptd.providers.jushita import PROVIDER as JUSHITA

GOOD = {"provider": "x", "access_key_id": "LTAI5t.A_b-1", "access_key_secret": "s3cr3tValue"}


def _places(provider: Provider, **changes: object) -> list[str]:
    account = AccountSettings.model_validate({**GOOD, **changes})
    return [problem.place for problem in provider.problems("main", account)]


@pytest.mark.parametrize("provider", [ALIYUN, JUSHITA])
def test_a_good_account_has_no_problems(provider: Provider) -> None:
    assert _places(provider) == []


@pytest.mark.parametrize("provider", [ALIYUN, JUSHITA])
def test_every_missing_key_is_named_at_once(provider: Provider) -> None:
    assert _places(provider, access_key_id="", access_key_secret="") == [
        "accounts.main.access_key_id",
        "accounts.main.access_key_secret",
    ]


@pytest.mark.parametrize("provider", [ALIYUN, JUSHITA])
@pytest.mark.parametrize("secret", ["canary\n", " canary", "can ary", "canary\r", "канарейка"])
def test_a_key_that_would_sign_wrongly_is_refused_and_not_shown(
    provider: Provider, secret: str
) -> None:
    # Not validated: the configuration strips and checks too, but a provider does not rely on it.
    good = AccountSettings.model_validate(GOOD)
    account = good.model_copy(update={"access_key_secret": SecretStr(secret)})

    (problem,) = provider.problems("main", account)

    assert problem.place == "accounts.main.access_key_secret"
    assert secret.strip() not in str(problem)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8700", "https://dysmsapi.aliyuncs.com", "https://h/", "http://[::1]:8"],
)
def test_an_endpoint_is_a_url_without_a_path(url: str) -> None:
    assert _places(ALIYUN, endpoints={"dysms": url, "dybase": url, "mns": url}) == []
    assert _places(JUSHITA, endpoints={"top": url}) == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "dysmsapi.aliyuncs.com",
        "127.0.0.1:1",
        "ftp://h",
        "https://",
        "https://h/path",
        "https://h?x=1",
        "https://h#x",
        "https://h:port",
        "https://h:99999",
        "https://h ",
        "https://h\n",
        "https://user:canary@h",
        "https://[::1",
        "//h",
    ],
)
def test_anything_else_is_no_endpoint_and_is_not_shown(url: str) -> None:
    account = AccountSettings.model_validate({**GOOD, "endpoints": {"dysms": url}})

    (problem,) = ALIYUN.problems("main", account)

    assert problem.place == "accounts.main.endpoints.dysms"
    assert "canary" not in str(problem)


def test_an_unknown_service_is_an_error_because_its_calls_would_go_to_the_real_one() -> None:
    assert _places(ALIYUN, endpoints={"dysm": "https://h"}) == ["accounts.main.endpoints.dysm"]


def test_half_a_top_key_is_a_problem_and_none_is_not() -> None:
    assert _places(JUSHITA, app_key="12345678") == ["accounts.main.app_secret"]
    assert _places(JUSHITA, app_key="12345678", app_secret="topSecret") == []


def test_only_jushita_sources_need_no_message_type() -> None:
    assert ALIYUN.default_message_type is None
    assert JUSHITA.default_message_type in JUSHITA.normalizers
    assert set(ALIYUN.normalizers) == {
        "SmsReport",
        "SmsUp",
        "GlobeSmsReport",
        "DypnsSmsVerifyReport",
        "SignSmsReport",
        "TemplateSmsReport",
    }
