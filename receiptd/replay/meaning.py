"""By which provider's rules a body is read, and under which account and origin it is merged."""

from collections.abc import Mapping

import msgspec

from receiptd import plugins
from receiptd.config import Settings
from receiptd.errors import ConfigError, Problem, ReceiptdError
from receiptd.model import QUERY_SOURCE, RECONCILE_SOURCE, REPLAY_SOURCE, Origin
from receiptd.providers.base import Context, Normalizer, Provider
from receiptd.pullers.base import origin_of
from receiptd.store.journal import JournalRow


class Meaning(msgspec.Struct, frozen=True):
    """How a body is read."""

    context: Context
    normalize: Normalizer


class BadRequest(ReceiptdError):
    """What was asked for makes no sense with this configuration; `option` is at fault."""

    def __init__(self, option: str, rule: str) -> None:
        self.option = option
        super().__init__(rule)


def is_question(source: str) -> bool:
    """Return whether a journal row is receiptd's own question to a provider."""
    return source == RECONCILE_SOURCE or source.startswith(QUERY_SOURCE)


class Meanings:
    """The configured sources, and what the command line says about everything else."""

    def __init__(
        self, settings: Settings, message_type: str | None = None, account: str | None = None
    ) -> None:
        """`message_type` is `aliyun.SmsReport`; without `account`, it is the provider's only one.

        Raises ConfigError for a source that is configured wrongly, BadRequest.
        """
        problems: list[Problem] = []
        self._settings = settings
        self._sources = {
            name: meaning
            for name in settings.sources
            if (meaning := self._configured(name, problems)) is not None
        }
        if problems:
            raise ConfigError(problems)
        self._given = None if message_type is None else self._told(message_type, account)
        if account is not None and message_type is None:
            raise BadRequest("--account", "needs --type, which says what is read")

    @property
    def is_told(self) -> bool:
        """Whether the command line says how to read what no configured source explains."""
        return self._given is not None

    def of_row(self, row: JournalRow) -> Meaning | None:
        """Return how a journal row is read; None if its source is not configured.

        With the origin that its record had. The origin is the last word between two records that
        say the same, so with another one a replay would change rows: it must give the very record
        that a redelivery of the envelope gives, and the two can come in any order.
        """
        if (meaning := self._sources.get(row.source)) is not None or self._given is None:
            return meaning
        if row.source == REPLAY_SOURCE:
            return _with_origin(self._given, Origin.REPLAY)
        # Nobody knows any more what it came through: brokers count pulls, a push does not. In doubt
        # it is the least origin, which changes no row that is there.
        counted = row.pull_count is not None
        return _with_origin(self._given, Origin.QUEUE if counted else Origin.PUSH)

    def of_file(self, source: str | None) -> Meaning | None:
        """Return how a body from a file is read, None if nobody says how; `source` is what an
        exported journal row says."""
        meaning = self._sources.get(source or "") or self._given
        return None if meaning is None else _with_origin(meaning, Origin.REPLAY)

    def _configured(self, name: str, problems: list[Problem]) -> Meaning | None:
        source = self._settings.sources[name]
        account = self._settings.accounts[source.account]
        place = f"accounts.{source.account}.provider"
        provider = plugins.find_provider(account.provider, place, problems)
        kind = plugins.find_puller(source.puller, f"sources.{name}.puller", problems)
        if provider is None or kind is None:
            return None
        place = f"sources.{name}.message_type"
        normalize = plugins.find_normalizer(provider, source.message_type, place, problems)
        if normalize is None:
            return None
        return Meaning(Context(provider.name, source.account, origin_of(kind)), normalize)

    def _told(self, message_type: str, account: str | None) -> Meaning:
        name, _, kind = message_type.partition(".")
        problems: list[Problem] = []
        provider = plugins.find_provider(name, "--type", problems)
        if provider is None:
            raise BadRequest("--type", f"{problems[0].rule}; {problems[0].cure}")
        normalize = provider.normalizers.get(kind)
        if normalize is None:
            raise BadRequest("--type", _known_types(provider))
        return Meaning(Context(name, self._account(name, account), Origin.REPLAY), normalize)

    def _account(self, provider: str, account: str | None) -> str:
        accounts = self._settings.accounts
        known = sorted(name for name in accounts if accounts[name].provider == provider)
        if account is None and len(known) == 1:
            return known[0]
        if account in known:
            return account
        if not known:
            raise BadRequest("--type", f"no account of the provider {provider} is configured")
        raise BadRequest("--account", f"one of {', '.join(known)}")


def _with_origin(meaning: Meaning, origin: Origin) -> Meaning:
    context = meaning.context
    return Meaning(Context(context.provider, context.account, origin), meaning.normalize)


def _known_types(provider: Provider) -> str:
    types: Mapping[str, Normalizer] = provider.normalizers
    if not types:
        return f"the provider {provider.name} has no messages of its own"
    return "one of " + ", ".join(f"{provider.name}.{name}" for name in sorted(types))
