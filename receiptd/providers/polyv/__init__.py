"""Polyv (保利威) SMS: sends only. Receipts arrive through the Aliyun account that it sends by."""

from collections.abc import Mapping

from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.errors import Problem
from receiptd.model import Credentials, CredentialsSource, Kind
from receiptd.providers.accounts import check_endpoints, check_keys
from receiptd.providers.base import (
    Normalizer,
    Provider,
    QueryApi,
    Refusal,
    SendApi,
    SendReader,
)
from receiptd.providers.keys import StaticCredentials
from receiptd.providers.polyv.sends import SEND_READERS, is_about_credentials, refusal

__all__ = ["PROVIDER", "PolyvProvider"]

ENDPOINTS = ("polyv",)


class PolyvProvider:
    """The entry point `polyv`: it has no queue, no message and no query of its own."""

    name: str = "polyv"
    normalizers: Mapping[str, Normalizer] = {}
    default_message_type: str | None = None
    message_kinds: Mapping[str, Kind] = {}
    send_readers: Mapping[str, SendReader] = SEND_READERS
    receipts_provider: str = "aliyun"

    def problems(self, name: str, account: AccountSettings) -> list[Problem]:
        """Return what is wrong with app_id, app_secret and the endpoint of `[accounts.<name>]`."""
        keys = (
            ("app_id", account.app_id),
            ("app_secret", account.app_secret.get_secret_value()),
        )
        return check_keys(name, keys, needed=True) + check_endpoints(name, account, ENDPOINTS)

    def credentials(
        self, account: AccountSettings, kind: str, message_type: str, clock: Clock
    ) -> CredentialsSource:
        """Return an empty key: there is no message type, so no source can come to use it."""
        return StaticCredentials(Credentials("", ""))

    def service_urls(self, account: AccountSettings) -> Mapping[str, str]:
        """Return where the send API is."""
        from receiptd.providers.polyv.send import ENDPOINT

        return {"send": account.endpoints.get("polyv") or ENDPOINT}

    def refusal(self, code: str) -> Refusal | None:
        """Return what an error code, or a number's status, means."""
        return refusal(code)

    def is_about_credentials(self, message: str) -> bool:
        """Return whether a refusal in these words is one of app_id, app_secret or the clock."""
        return is_about_credentials(message)

    def open_query(self, name: str, account: AccountSettings, clock: Clock) -> QueryApi | None:
        """Return None: its sends are asked for at the receipts_account."""
        return None

    def open_send(self, api: str, account: AccountSettings, clock: Clock) -> SendApi | None:
        """Return a client of /live/v4/user/sms/send, here called `polyv`."""
        if api not in SEND_READERS:
            return None
        from receiptd.providers.polyv.send import open_send

        return open_send(account, clock)


PROVIDER: Provider = PolyvProvider()
