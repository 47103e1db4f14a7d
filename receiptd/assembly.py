"""From the configuration to plans that can be run: which plug-ins, which credentials, and what is
wrong with them."""

import msgspec

from receiptd.clock import Clock
from receiptd.config import AccountSettings, Settings, SourceSettings
from receiptd.errors import ConfigError, Problem
from receiptd.model import CredentialsSource, Origin
from receiptd.plugins import find_provider, find_puller
from receiptd.providers.base import Context, Normalizer, Provider
from receiptd.pullers.base import PullerKind


class SourcePlan(msgspec.Struct, frozen=True):
    """One source, with all that its workers need."""

    name: str
    settings: SourceSettings
    account: AccountSettings
    kind: PullerKind
    context: Context
    normalize: Normalizer
    credentials: CredentialsSource


def plan(settings: Settings, clock: Clock) -> list[SourcePlan]:
    """Return a plan for each configured source; no I/O.

    Raises ConfigError with everything that is wrong with the accounts and sources at once.
    """
    problems: list[Problem] = []
    providers: dict[str, Provider] = {}
    for name, account in settings.accounts.items():
        provider = find_provider(account.provider, f"accounts.{name}.provider", problems)
        if provider is not None:
            providers[name] = provider
            problems.extend(provider.problems(name, account))
    plans: list[SourcePlan] = []
    # One for all threads and sources of an account and message type: a token is fetched once.
    shared: dict[tuple[str, str, str], CredentialsSource] = {}
    for name, source in settings.sources.items():
        account = settings.accounts[source.account]
        kind = find_puller(source.puller, f"sources.{name}.puller", problems)
        if kind is not None:
            problems.extend(kind.problems(name, source, account))
        provider = providers.get(source.account)
        if kind is None or provider is None:
            continue
        message_type = source.message_type or provider.default_message_type or ""
        normalize = provider.normalizers.get(message_type)
        if normalize is None:
            problems.append(_unknown_message_type(name, source, provider))
            continue
        key = (source.account, source.credentials, message_type)
        if key not in shared:
            shared[key] = provider.credentials(account, source.credentials, message_type, clock)
        plans.append(
            SourcePlan(
                name=name,
                settings=source,
                account=account,
                kind=kind,
                context=Context(
                    provider=provider.name, account=source.account, origin=Origin.QUEUE
                ),
                normalize=normalize,
                credentials=shared[key],
            )
        )
    if problems:
        raise ConfigError(problems)
    return plans


def _unknown_message_type(name: str, source: SourceSettings, provider: Provider) -> Problem:
    return Problem(
        place=f"sources.{name}.message_type",
        rule=f"must be a message type of the provider {provider.name}",
        value=source.message_type,
        cure="one of: " + ", ".join(sorted(provider.normalizers)),
    )
