"""Record a send from the program that made it: three lines beside an existing call.

    from receiptd.client import record_send

    response = client.send_sms(request)
    record_send("SendSms", request.to_map(), response.body.to_map(), account="main")

With a send that was refused, or that nobody answered:

    submitted_at = datetime.now(UTC)
    try:
        answer = client.send_sms(request).body.to_map()
    except TeaException as exc:  # refused: its code says why
        answer = {"Code": exc.code, "Message": exc.message}
    except RequestException:  # no answer: it may have been sent
        answer = {}
    record_send("SendSms", request.to_map(), answer, account="main", submitted_at=submitted_at)

Beside a daemon (a sidecar), without the database: `url="http://127.0.0.1:8650"`, and its `token`.

Many sends share a connection: `with Recorder(account="main") as recorder: recorder.record(...)`.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType

from receiptd import plugins
from receiptd.client_http import Sidecar
from receiptd.clock import Clock, SystemClock
from receiptd.config import Settings
from receiptd.config.loading import load
from receiptd.errors import ConfigError, Problem
from receiptd.ledger import Books, Ledger, Recorded, UnreadableSend, books_of, find_books
from receiptd.ledger_import import as_object
from receiptd.providers.base import Provider
from receiptd.store import open_store
from receiptd.store.plan import FIRST_AFTER

__all__ = ["Recorded", "Recorder", "record_send"]


def record_send(
    api: str,
    request: Mapping[str, object],
    response: Mapping[str, object] | str | bytes | None,
    *,
    account: str,
    submitted_at: datetime | None = None,
    database_url: str | None = None,
    config: str | Path | None = None,
    url: str | None = None,
    token: str = "",
) -> Recorded:
    """Write one call of a send API into the ledger; return once it is durable.

    `request` holds the API's parameters, `response` its answer (an object, or JSON text of one),
    `{}` or None where none came. `submitted_at` is when it was called (aware; now if not given).

    Finds the database as the daemon does: `config`, $RECEIPTD_CONFIG, ./config.toml or
    /etc/receiptd/config.toml. With `database_url` it reads no configuration, and `account` is the
    one whose queue brings the receipts, for a Polyv send too. With `url` it goes over HTTP to the
    daemon that listens there, with its `token` if it has one.

    Raises ReceiptdError: UnreadableSend for what is no such call, StoreUnavailable if the database
    is away, ConfigError. The SMS was sent all the same: catch it, log it, record it again later.
    """
    with Recorder(
        account=account, database_url=database_url, config=config, url=url, token=token
    ) as recorder:
        return recorder.record(api, request, response, submitted_at=submitted_at)


class Recorder:
    """`record_send` for many sends of one account, on one connection. Thread-safe; to be opened
    after a fork, not before."""

    def __init__(
        self,
        *,
        account: str,
        database_url: str | None = None,
        config: str | Path | None = None,
        url: str | None = None,
        token: str = "",
        clock: Clock | None = None,
    ) -> None:
        """Raises ConfigError; does not connect yet."""
        self._account = account
        self._clock = clock or SystemClock()
        self._sidecar = None if url is None else Sidecar(url, token, self._clock)
        if self._sidecar is not None:
            return
        self._accounts: Mapping[str, Books] | None = None
        self._ask_after = FIRST_AFTER
        if database_url is None:
            settings = load(None if config is None else Path(config), os.environ)
            database_url = settings.database.url.get_secret_value()
            self._accounts = accounts(settings)
            self._ask_after = settings.reconcile.first_after
            find_books(self._accounts, account)
        self._store = open_store(database_url, self._clock)

    def record(
        self,
        api: str,
        request: Mapping[str, object],
        response: Mapping[str, object] | str | bytes | None,
        *,
        submitted_at: datetime | None = None,
    ) -> Recorded:
        """Write one call into the ledger; see `record_send`."""
        answer = as_object(response or {})
        if answer is None:
            raise UnreadableSend("the response is no JSON object", "give it as the API has it")
        at = submitted_at or self._clock.now()
        if self._sidecar is not None:
            return self._sidecar.record(api, self._account, request, answer, at)
        known = self._accounts
        if known is None:
            known = {self._account: books_of(_provider_with(api), self._account)}
        ledger = Ledger(self._store, known, self._clock, ask_after=self._ask_after)
        return ledger.record(api, self._account, request, answer, at)

    def close(self) -> None:
        """Close the connection."""
        if self._sidecar is not None:
            self._sidecar.close()
        else:
            self._store.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def accounts(settings: Settings) -> dict[str, Books]:
    """Return the books of every configured account. Raises ConfigError for a provider that is not
    there; keys are not looked at: nothing is called."""
    problems: list[Problem] = []
    found: dict[str, Books] = {}
    for name, account in settings.accounts.items():
        provider = plugins.find_provider(account.provider, f"accounts.{name}.provider", problems)
        if provider is not None:
            found[name] = books_of(provider, name, account.receipts_account)
    if problems:
        raise ConfigError(problems)
    return found


def _provider_with(api: str) -> Provider:
    names: list[str] = []
    for name in plugins.providers():
        provider = plugins.find_provider(name, "provider", [])
        if provider is not None:
            if api in provider.send_readers:
                return provider
            names += provider.send_readers
    raise UnreadableSend("no provider has such a send API", f"one of: {', '.join(sorted(names))}")
