"""Aliyun SMS: what its messages and its APIs say. The clients are imported by who opens one."""

from collections.abc import Mapping

from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.errors import Problem
from receiptd.model import Credentials, CredentialsSource, Kind
from receiptd.providers.accounts import check_endpoints, check_keys
from receiptd.providers.aliyun.messages import KINDS, NORMALIZERS
from receiptd.providers.aliyun.sends import SEND_READERS, refusal
from receiptd.providers.base import (
    Normalizer,
    Provider,
    QueryApi,
    Refusal,
    SendApi,
    SendReader,
)
from receiptd.providers.keys import StaticCredentials

__all__ = ["PROVIDER", "SMS_API_VERSION", "AliyunProvider"]

# Dysmsapi and Dybaseapi share it (wire-formats 4 and 8.1).
SMS_API_VERSION = "2017-05-25"
ENDPOINTS = ("dybase", "dysms", "mns")


class AliyunProvider:
    """The entry point `aliyun`; a source names its message type, because queues hold one each."""

    name: str = "aliyun"
    normalizers: Mapping[str, Normalizer] = NORMALIZERS
    default_message_type: str | None = None
    message_kinds: Mapping[str, Kind] = KINDS
    send_readers: Mapping[str, SendReader] = SEND_READERS
    receipts_provider: str = "aliyun"

    def problems(self, name: str, account: AccountSettings) -> list[Problem]:
        """Return what is wrong with the access key and the endpoints of `[accounts.<name>]`."""
        keys = (
            ("access_key_id", account.access_key_id),
            ("access_key_secret", account.access_key_secret.get_secret_value()),
        )
        return check_keys(name, keys, needed=True) + check_endpoints(name, account, ENDPOINTS)

    def credentials(
        self, account: AccountSettings, kind: str, message_type: str, clock: Clock
    ) -> CredentialsSource:
        """Return the account's own key, or a token of QueryTokenForMnsQueue, renewed in time."""
        if kind != "token":
            return StaticCredentials(
                Credentials(account.access_key_id, account.access_key_secret.get_secret_value())
            )
        # Here, so that nobody without a token pays for the HTTP client's import.
        from receiptd.providers.aliyun.token import open_token

        return open_token(account, message_type, clock)

    def service_urls(self, account: AccountSettings) -> Mapping[str, str]:
        """Return where Dysmsapi (query and send) and Dybaseapi (tokens) are."""
        from receiptd.providers.aliyun import query, token

        return {
            "query": account.endpoints.get("dysms") or query.ENDPOINT,
            "token": token.site(account)[0],
        }

    def refusal(self, code: str) -> Refusal | None:
        """Return what an error code of SendSms, SendBatchSms or the gateway means."""
        return refusal(code)

    def open_query(self, name: str, account: AccountSettings, clock: Clock) -> QueryApi | None:
        """Return a client of QuerySendDetails and QuerySendStatistics."""
        from receiptd.providers.aliyun.query import open_query

        return open_query(name, account, clock)

    def open_send(self, api: str, account: AccountSettings, clock: Clock) -> SendApi | None:
        """Return a client of SendSms or SendBatchSms; SendMessageToGlobe is read only."""
        from receiptd.providers.aliyun.send import open_send

        return open_send(api, account, clock)


PROVIDER: Provider = AliyunProvider()
