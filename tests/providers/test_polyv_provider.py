"""What the entry point `polyv` says of its account, and what it does not have."""

import subprocess
import sys

import pytest

from receiptd.clock import ManualClock
from receiptd.config import AccountSettings
from receiptd.model import Credentials
from receiptd.providers.polyv import PROVIDER

GOOD = {"provider": "polyv", "app_id": "frlr1zazn3", "app_secret": "s3cr3t"}
GOOD |= {"receipts_account": "main"}


def places(**changes: object) -> list[str]:
    account = AccountSettings.model_validate({**GOOD, **changes})
    found = PROVIDER.problems("live", account)
    return [problem.place.removeprefix("accounts.live.") for problem in found]


def test_a_good_account_has_no_problems() -> None:
    assert places() == []
    assert places(endpoints={"polyv": "http://127.0.0.1:8700"}) == []


def test_every_missing_key_is_named_at_once() -> None:
    assert places(app_id="", app_secret="") == ["app_id", "app_secret"]


def test_without_a_receipts_account_it_still_sends() -> None:
    assert places(receipts_account="") == []


@pytest.mark.parametrize("service", ["dysms", "top"])
def test_another_providers_endpoint_is_a_mistake(service: str) -> None:
    assert places(endpoints={service: "http://127.0.0.1:1"}) == [f"endpoints.{service}"]


def test_it_has_no_queue_and_no_query_of_its_own() -> None:
    account = AccountSettings.model_validate(GOOD)

    assert PROVIDER.normalizers == {}
    assert PROVIDER.default_message_type is None
    assert PROVIDER.receipts_provider == "aliyun"
    assert PROVIDER.open_query("live", account, ManualClock()) is None
    source = PROVIDER.credentials(account, "access_key", "", ManualClock())
    assert source.current() == Credentials("", "")


@pytest.mark.parametrize("provider", ["aliyun", "jushita", "polyv"])
def test_importing_a_provider_imports_no_http_client(provider: str) -> None:
    code = f"import sys, receiptd.providers.{provider}; print(*sys.modules)"

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"httpcore", "h11", "ssl", "phonenumbers"}.isdisjoint(shown.stdout.split())
