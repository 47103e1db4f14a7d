"""From the configuration to plans that can be run: which plug-ins, which credentials, and what is
wrong with them."""

from collections.abc import Iterator, Mapping

import msgspec

from receiptd.clock import Clock
from receiptd.config import AccountSettings, Settings, SourceSettings
from receiptd.errors import ConfigError, Problem
from receiptd.model import CredentialsSource
from receiptd.plugins import find_normalizer, find_provider, find_puller
from receiptd.providers.base import Context, Normalizer, Provider, QueryApi, message_type_of
from receiptd.pullers.base import PullerKind, origin_of


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
    problems.extend(_wrong_receipts_accounts(settings, providers))
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
        place = f"sources.{name}.message_type"
        normalize = find_normalizer(provider, source.message_type, place, problems)
        if normalize is None:
            continue
        message_type = message_type_of(provider, source.message_type)
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
                    provider=provider.name,
                    account=source.account,
                    origin=origin_of(kind),
                ),
                normalize=normalize,
                credentials=shared[key],
            )
        )
    if problems:
        raise ConfigError(problems)
    return plans


class QueryPlan(msgspec.Struct, frozen=True):
    """One account whose provider can be asked what became of a send. `provider` and `account` are
    those of its rows."""

    provider: str
    account: str
    api: QueryApi


def plan_queries(settings: Settings, clock: Clock) -> list[QueryPlan]:
    """Return a client of its query API, to be closed by the caller, for each account that has one;
    no I/O. Raises ConfigError for a provider that is not there."""
    problems: list[Problem] = []
    plans: list[QueryPlan] = []
    for name, account in settings.accounts.items():
        provider = find_provider(account.provider, f"accounts.{name}.provider", problems)
        api = provider.open_query(name, account, clock) if provider is not None else None
        if provider is not None and api is not None:
            plans.append(QueryPlan(provider.receipts_provider, name, api))
    if problems:
        raise ConfigError(problems)
    return plans


def remarks(settings: Settings) -> list[Problem]:
    """Return what is no mistake, but may not be what was meant. Providers that are not there are
    passed over."""
    found = []
    for name, account in settings.accounts.items():
        provider = find_provider(account.provider, "", [])
        if provider is None or provider.receipts_provider == provider.name:
            continue
        if not account.receipts_account:
            rule = "is empty, so sends of this account cannot be reconciled and end as lost"
            cure = f"name the {provider.receipts_provider} account that brings their receipts"
            found.append(Problem(f"accounts.{name}.receipts_account", rule, cure=cure))
    return found


def _wrong_receipts_accounts(
    settings: Settings, providers: Mapping[str, Provider]
) -> Iterator[Problem]:
    """Yield a problem for each account whose sends would stand where no receipt ever comes."""
    for name, provider in providers.items():
        other = settings.accounts[name].receipts_account
        wanted = provider.receipts_provider
        if not other or wanted == provider.name:
            continue
        if other in settings.accounts and other not in providers:
            continue  # its provider is a problem already
        if other not in providers or providers[other].name != wanted:
            fitting = sorted(one for one, its in providers.items() if its.name == wanted)
            yield Problem(
                f"accounts.{name}.receipts_account",
                f"must be an account of the provider {wanted}, which brings its receipts",
                value=repr(other),
                cure=f"one of: {', '.join(fitting)}" if fitting else f"configure one of {wanted}",
            )
