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


LIVE = AccountSettings(
    provider="polyv", app_id="id", app_secret=SecretStr("secret"), receipts_account="main"
)


def live(receipts_account):
    return LIVE.model_copy(update={"receipts_account": receipts_account})


def receipts_account_problem(accounts):
    with pytest.raises(ConfigError) as caught:
        plans(accounts, {})
    [problem] = caught.value.problems
    assert problem.place == "accounts.live.receipts_account"
    return problem


def test_a_receipts_account_is_one_of_the_provider_that_brings_the_receipts():
    assert plans({"main": ALIYUN, "live": LIVE}, {}) == []

    problem = receipts_account_problem({"main": ALIYUN, "shop": SHOP, "live": live("shop")})
    assert problem.rule.startswith("must be an account of the provider aliyun")
    assert (problem.value, problem.cure) == ("'shop'", "one of: main")


@pytest.mark.parametrize("other", ["live", "nobody"])
def test_a_receipts_account_is_another_one_that_is_configured(other):
    problem = receipts_account_problem({"live": live(other)})

    assert problem.cure == "configure one of aliyun"


def test_a_receipts_account_whose_own_provider_is_a_mistake_is_no_second_problem():
    accounts = {"main": AccountSettings(provider="alyun"), "live": LIVE}

    assert problems(accounts, {}) == {"accounts.main.provider"}


def test_a_receipts_account_means_nothing_where_the_provider_brings_its_own_receipts():
    other = ALIYUN.model_copy(update={"receipts_account": "shop"})

    assert plans({"main": other, "shop": SHOP}, {}) == []


def test_without_a_receipts_account_sends_are_not_reconciled_which_is_said_and_no_error():
    settings = Settings(accounts={"main": ALIYUN, "live": live("")})

    assert assembly.plan(settings, ManualClock()) == []
    [remark] = assembly.remarks(settings)
    assert remark.place == "accounts.live.receipts_account"
    assert "cannot be reconciled" in remark.rule
    assert "aliyun account" in remark.cure
    assert assembly.remarks(Settings(accounts={"main": ALIYUN, "live": LIVE})) == []
