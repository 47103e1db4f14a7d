"""From settings to plans: plug-ins, shared credentials, and every problem at once."""

import pytest
from pydantic import SecretStr

from receiptd import assembly
from receiptd.clock import ManualClock
from receiptd.config import AccountSettings, Settings, SourceSettings
from receiptd.errors import ConfigError

ALIYUN = AccountSettings(
    provider="aliyun", access_key_id="id", access_key_secret=SecretStr("secret")
)
SHOP = AccountSettings(
    provider="jushita", access_key_id="id", access_key_secret=SecretStr("secret")
)


def mns(**values):
    return SourceSettings(
        puller="mns",
        account="main",
        credentials="token",
        **{"queue": "Q-SmsReport", "message_type": "SmsReport", **values},
    )


def plans(accounts, sources):
    return assembly.plan(Settings(accounts=accounts, sources=sources), ManualClock())


def problems(accounts, sources):
    with pytest.raises(ConfigError) as caught:
        plans(accounts, sources)
    return {problem.place for problem in caught.value.problems}


def test_sources_of_one_account_and_type_share_their_token():
    one, two, other = plans(
        {"main": ALIYUN},
        {
            "a": mns(queue="A"),
            "b": mns(queue="B"),
            "c": mns(queue="C", message_type="SmsUp"),
        },
    )

    assert one.credentials is two.credentials
    assert one.credentials is not other.credentials


def test_a_jushita_source_needs_no_message_type():
    source = SourceSettings(
        puller="rocketmq", account="shop", endpoint="https://h", topic="t", group="g"
    )

    (plan,) = plans({"shop": SHOP}, {"jst": source})

    assert plan.context.provider == "jushita"


def test_everything_that_is_wrong_is_told_at_once():
    places = problems(
        {"main": AccountSettings(provider="aliyun"), "other": AccountSettings(provider="alyun")},
        {
            "a": mns(message_type="SmsReprot"),
            "b": SourceSettings(puller="mqtt", account="main"),
            "c": SourceSettings(puller="rocketmq", account="other"),
        },
    )

    assert places >= {
        "accounts.main.access_key_id",
        "accounts.main.access_key_secret",
        "accounts.other.provider",
        "sources.a.message_type",
        "sources.b.puller",
        "sources.c.endpoint",
        "sources.c.topic",
        "sources.c.group",
    }
