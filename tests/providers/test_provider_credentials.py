"""What signs the pulls of a source: the account's own key, or a token."""

import pytest

from receiptd.clock import ManualClock
from receiptd.config import AccountSettings
from receiptd.model import Credentials, CredentialsSource
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Provider
from receiptd.providers.jushita import PROVIDER as JUSHITA
from tests.providers.loopback import Loopback, answering, response


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def _account(**changes: object) -> AccountSettings:
    return AccountSettings.model_validate(
        {"provider": "aliyun", "access_key_id": "id", "access_key_secret": "secret", **changes}
    )


@pytest.mark.parametrize("provider", [PROVIDER, JUSHITA])
def test_an_access_key_is_handed_out_as_it_is_and_never_renewed(
    provider: Provider, clock: ManualClock
) -> None:
    source: CredentialsSource = provider.credentials(_account(), "access_key", "SmsReport", clock)

    assert source.current() == Credentials("id", "secret", "")
    assert source.refused(source.current()) is False
    source.cancel()
    assert source.current() == Credentials("id", "secret", "")


def test_a_token_comes_over_the_accounts_own_endpoint(clock: ManualClock) -> None:
    body = (
        b'{"RequestId":"0000-EXAMPLE","Code":"OK","Message":"OK","MessageTokenDTO":{"AccessKeyId":'
        b'"STS.EXAMPLE","AccessKeySecret":"secret","SecurityToken":"token","CreateTime":'
        b'"2024-05-06 15:00:00","ExpireTime":"2024-05-06 15:10:00"}}'
    )
    date = b"Date: Mon, 06 May 2024 07:00:00 GMT\r\n"

    with Loopback(answering(response(body, headers=date))) as server:
        account = _account(endpoints={"dybase": server.url})
        source = PROVIDER.credentials(account, "token", "SmsReport", clock)
        assert source.current() == Credentials("STS.EXAMPLE", "secret", "token")
        assert source.current() == Credentials("STS.EXAMPLE", "secret", "token")
        assert server.connections == 1
