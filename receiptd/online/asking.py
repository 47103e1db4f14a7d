"""What is asked of accounts and sources once their services are reached."""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from typing import Protocol
from urllib.parse import urlsplit

from receiptd.china import china_day
from receiptd.clock import Clock
from receiptd.config import AccountSettings, SourceSettings
from receiptd.model import CredentialsSource
from receiptd.online.messages import compare
from receiptd.online.reaching import reach
from receiptd.online.refusals import bounded
from receiptd.online.steps import Branch, Outcome, Step, Verdict, in_turn, ok, skip
from receiptd.plugins import find_provider
from receiptd.providers.base import Addressed as AddressedProvider
from receiptd.providers.base import Asked, Context, Normalizer, Provider, QueryApi
from receiptd.pullers.base import Addressed, Probing, Puller, PullerKind, Seen
from receiptd.pullers.checks import Endpoint, parse_endpoint

# A mainland number of the right form that nobody sends to: the answer is an empty list.
_NOBODY = "+8613000000000"
_NO_SEND = "0^0"


class Source(Protocol):
    """One source to check; what `assembly.plan` returns."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> SourceSettings: ...
    @property
    def account(self) -> AccountSettings: ...
    @property
    def kind(self) -> PullerKind: ...
    @property
    def context(self) -> Context: ...
    @property
    def normalize(self) -> Normalizer: ...
    @property
    def credentials(self) -> CredentialsSource: ...


def check_online(
    accounts: Mapping[str, AccountSettings],
    sources: Collection[Source],
    clock: Clock,
    seconds: float,
) -> Iterator[Branch]:
    """Yield a branch per service of each account and source, as soon as its steps are done.

    Each step takes at most `seconds`. Nothing is sent, taken, hidden or changed anywhere. A service
    that several use is reached once; where that failed, all that would ask it is skipped.
    """
    visit = _Visit(clock, seconds)
    for name, account in accounts.items():
        yield from visit.account(name, account)
    for source in sources:
        yield from visit.source(source)


class _Visit:
    """One round through all services; remembers which were reached."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._reached: dict[tuple[bool, str, int], str] = {}  # -> the step that failed, "" if none

    def account(self, name: str, account: AccountSettings) -> Iterator[Branch]:
        provider = find_provider(account.provider, f"accounts.{name}.provider", [])
        if provider is None:  # the check of the configuration has said so
            return
        urls = _service_urls(provider, account)
        api = provider.open_query(name, account, self._clock)
        if api is not None:
            try:
                acts = [
                    ("details", lambda: self._asked(api.cancel, lambda: self._details(api))),
                    ("statistics", lambda: self._asked(api.cancel, lambda: self._statistics(api))),
                ]
                yield self._branch("account", name, "query", urls.get("query", ""), acts)
            finally:
                api.close()
        if url := urls.get("send"):
            unasked = skip("not asked: the API can only send an SMS")
            yield self._branch("account", name, "send", url, [("permission", lambda: unasked)])

    def source(self, source: Source) -> Iterator[Branch]:
        no_token = False
        if source.settings.credentials == "token":
            provider = find_provider(source.account.provider, f"sources.{source.name}", [])
            url = _service_urls(provider, source.account).get("token", "") if provider else ""
            branch = self._branch(
                "source", source.name, "token", url, [("token", lambda: self._token(source))]
            )
            yield branch
            no_token = branch.steps[-1].verdict.outcome is not Outcome.OK
        url = ""
        if isinstance(source.kind, Addressed):
            url = source.kind.endpoint(source.settings, source.account)
        puller = source.kind.open(
            source.name, source.settings, source.account, source.credentials, self._clock
        )
        try:
            yield self._branch(
                "source", source.name, "queue", url, self._queue_acts(source, puller, no_token)
            )
        finally:
            puller.close()

    def _queue_acts(
        self, source: Source, puller: Puller, no_token: bool
    ) -> list[tuple[str, Callable[[], Verdict]]]:
        if not isinstance(puller, Probing):
            return [("queue", lambda: skip("not asked: this puller has nothing to ask"))]
        if no_token:
            return [(name, lambda: skip("skipped: no token")) for name in ("queue", "messages")]
        seen: list[Seen] = []

        def probe() -> Verdict:
            seen.append(puller.probe())
            return ok("key and names are accepted")

        return [
            ("queue", lambda: self._asked(puller.cancel, probe)),
            ("messages", lambda: compare(source, seen[0])),
        ]

    def _asked(self, cancel: Callable[[], None], act: Callable[[], Verdict]) -> Verdict:
        return bounded(act, cancel, self._seconds)

    def _token(self, source: Source) -> Verdict:
        def fetch() -> Verdict:
            source.credentials.current()
            return ok("the key may fetch tokens")

        return bounded(fetch, source.credentials.cancel, self._seconds)

    def _details(self, api: QueryApi) -> Verdict:
        yesterday = self._clock.now() - timedelta(days=1)
        asked = Asked(biz_id=_NO_SEND, phone=_NOBODY, submitted_at=yesterday)
        api.page(asked, china_day(yesterday), 1)
        return ok("the key may ask what became of a send")

    def _statistics(self, api: QueryApi) -> Verdict:
        yesterday = self._clock.now() - timedelta(days=1)
        counts = api.statistics(china_day(yesterday))
        if counts is None:
            return skip("not asked: the provider has no counts")
        return ok("the key may ask for the counts of a day")

    def _branch(
        self,
        kind: str,
        name: str,
        service: str,
        url: str,
        acts: list[tuple[str, Callable[[], Verdict]]],
    ) -> Branch:
        """Reach the service, unless it was, and then do `acts` in turn."""
        steps = self._reach(url) if url else []
        failed = next((step.name for step in steps if step.failed), "")
        if not failed and url:
            failed = self._reached[_key(_endpoint(url))]
        if failed:
            steps += [Step(what, skip(f"skipped: {failed} failed")) for what, _ in acts]
        else:
            steps += in_turn(acts, self._clock)
        return Branch(kind, name, service, url, tuple(steps))

    def _reach(self, url: str) -> list[Step]:
        """Return the steps to a service; none if they were made before."""
        endpoint = _endpoint(url)
        if _key(endpoint) in self._reached:
            return []
        steps = reach(endpoint, self._clock, self._seconds)
        self._reached[_key(endpoint)] = next((step.name for step in steps if step.failed), "")
        return steps


def _service_urls(provider: Provider, account: AccountSettings) -> Mapping[str, str]:
    return provider.service_urls(account) if isinstance(provider, AddressedProvider) else {}


def _endpoint(url: str) -> Endpoint:
    """Return where `url` leads, whatever path it has."""
    parts = urlsplit(url if "://" in url else f"https://{url}")
    return parse_endpoint(f"{parts.scheme}://{parts.netloc}")


def _key(endpoint: Endpoint) -> tuple[bool, str, int]:
    return endpoint.https, endpoint.host.lower(), endpoint.port
