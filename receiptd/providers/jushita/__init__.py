"""Taobao Jushita (聚石塔) SMS: what its messages say."""

from collections.abc import Mapping

from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.errors import Problem
from receiptd.model import Credentials, CredentialsSource
from receiptd.providers.accounts import check_endpoints, check_keys
from receiptd.providers.base import Normalizer, Provider
from receiptd.providers.jushita.messages import NORMALIZERS
from receiptd.providers.keys import StaticCredentials

__all__ = ["PROVIDER", "JushitaProvider"]

ENDPOINTS = ("top",)


class JushitaProvider:
    """The entry point `jushita`; a source needs no message type, because the keys tell."""

    name: str = "jushita"
    normalizers: Mapping[str, Normalizer] = NORMALIZERS
    default_message_type: str | None = "sms"

    def problems(self, name: str, account: AccountSettings) -> list[Problem]:
        """Return what is wrong with `[accounts.<name>]`.

        The access key reads the queue; app_key and app_secret are of TOP, and only looked at
        where they are given.
        """
        queue_keys = (
            ("access_key_id", account.access_key_id),
            ("access_key_secret", account.access_key_secret.get_secret_value()),
        )
        top_keys = (
            ("app_key", account.app_key),
            ("app_secret", account.app_secret.get_secret_value()),
        )
        return (
            check_keys(name, queue_keys, needed=True)
            + check_keys(name, top_keys, needed=any(value for _, value in top_keys))
            + check_endpoints(name, account, ENDPOINTS, with_path=ENDPOINTS)
        )

    def credentials(
        self, account: AccountSettings, kind: str, message_type: str, clock: Clock
    ) -> CredentialsSource:
        """Return the application's own key."""
        return StaticCredentials(
            Credentials(account.access_key_id, account.access_key_secret.get_secret_value())
        )


PROVIDER: Provider = JushitaProvider()
