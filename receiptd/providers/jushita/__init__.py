"""Taobao Jushita (聚石塔) SMS: what its messages and its APIs say. The clients are imported by who
opens one."""

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
from receiptd.providers.jushita.messages import NORMALIZERS
from receiptd.providers.jushita.sends import SEND_READERS, refusal
from receiptd.providers.keys import StaticCredentials

__all__ = ["PROVIDER", "JushitaProvider"]

ENDPOINTS = ("top",)


class JushitaProvider:
    """The entry point `jushita`; a source needs no message type, because the keys tell."""

    name: str = "jushita"
    normalizers: Mapping[str, Normalizer] = NORMALIZERS
    default_message_type: str | None = "sms"
    message_kinds: Mapping[str, Kind] = {}
    send_readers: Mapping[str, SendReader] = SEND_READERS
    receipts_provider: str = "jushita"

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

    def service_urls(self, account: AccountSettings) -> Mapping[str, str]:
        """Return where TOP is; nothing without an app_key."""
        from receiptd.providers.jushita.top import ENDPOINT

        return {"query": account.endpoints.get("top") or ENDPOINT} if account.app_key else {}

    def refusal(self, code: str) -> Refusal | None:
        """Return what a code or sub_code of TOP means."""
        return refusal(code)

    def open_query(self, name: str, account: AccountSettings, clock: Clock) -> QueryApi | None:
        """Return a client of alibaba.aliqin.ta.sms.num.query, None without an app_key."""
        from receiptd.providers.jushita.query import open_query

        return open_query(name, account, clock)

    def open_send(self, api: str, account: AccountSettings, clock: Clock) -> SendApi | None:
        """Return a client of taobao.jst.sms.message.direct.batchsend, here called `jushita`; None
        without an app_key."""
        if api not in SEND_READERS or not account.app_key:
            return None
        from receiptd.providers.jushita.send import open_send

        return open_send(account, clock)


PROVIDER: Provider = JushitaProvider()
