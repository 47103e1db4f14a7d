"""What a provider says of its configuration, its codes and its clients: without a network, because
most of it must do without one, and the rest must say that there is none."""

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from datetime import date
from urllib.parse import urlsplit

import pytest

from receiptd.clock import SystemClock
from receiptd.config import AccountSettings
from receiptd.errors import (
    Problem,
    SourceCancelled,
    SourceError,
    SourceUnavailable,
)
from receiptd.model import Credentials, ErrClass, Status
from receiptd.plugins import find_provider
from receiptd.providers.base import Addressed, Asked, InvalidSend, QueryPage, SendApi, SendOrder
from receiptd.testing.samples import SUBMITTED_AT, Samples, meaning

DAY = date(2024, 5, 6)
# Of each API that can be called, one of them at least is taken.
ORDERS = tuple(
    SendOrder(
        phones=("+8613900000001", "+8613900000002")[:numbers],
        params=({"code": "1234"},),
        sign_names=("示例",),
        template_code="SMS_123456789",
    )
    for numbers in (2, 1)
)
_ODD_CODES = ("", " ", "no such code", "x" * 10_000, "a\0b", "\ud800", "[" * 100)
_CLOCK = SystemClock()


class ClientConformance:
    """The contract of `receiptd.providers.base.Provider` and its clients, as tests."""

    def test_it_is_installed_under_its_name(self, samples: Samples) -> None:
        problems: list[Problem] = []

        assert find_provider(samples.provider.name, "", problems) is samples.provider, problems
        assert find_provider(samples.provider.receipts_provider, "", problems), problems

    def test_an_account_is_checked_without_a_network(
        self, samples: Samples, tried: list[object]
    ) -> None:
        empty = AccountSettings(provider=samples.provider.name)

        found = samples.provider.problems("main", empty)

        assert samples.provider.problems("main", samples.account) == []
        for problem in found:
            assert problem.place.startswith("accounts.main."), problem
            assert problem.rule, problem
            assert problem.cure, problem
        assert tried == []

    def test_there_are_credentials_for_every_message_type(
        self, samples: Samples, tried: list[object]
    ) -> None:
        for message_type in samples.provider.normalizers:
            source = samples.provider.credentials(
                samples.account, "access_key", message_type, _CLOCK
            )
            assert tried == []
            with suppress(SourceError):  # it asks for them, and there is no network
                assert isinstance(source.current(), Credentials)
            source.cancel()
            tried.clear()

    def test_a_refusal_says_what_it_means_and_what_to_do(self, samples: Samples) -> None:
        seen = {
            row.err_code
            for sample in samples.some_sends()
            if not isinstance(sample.means, str)
            for row in samples.rows(sample)
            if row.status is Status.FAILED and row.err_code
        }
        meant = [found for code in sorted(seen) if (found := samples.provider.refusal(code))]

        for refusal in meant:
            assert isinstance(refusal.err_class, ErrClass), refusal
            assert refusal.err_class is not ErrClass.OK, refusal
            assert refusal.meaning, refusal
            assert refusal.cure, refusal
        assert [samples.provider.refusal(code) for code in _ODD_CODES] == [None] * len(_ODD_CODES)
        if not meant:
            pytest.skip("it knows none of the codes that its samples were refused with")

    def test_a_query_that_cannot_be_asked_is_no_empty_answer(
        self, samples: Samples, tried: list[object]
    ) -> None:
        query = samples.provider.open_query("main", samples.account, _CLOCK)
        if query is None:
            pytest.skip(f"the provider {samples.provider.name} has no query API")
        assert tried == []
        with closing(query):
            _fails(SourceUnavailable, query.page, _asked("+8613900000001"), DAY, 1)
            assert tried
            tried.clear()
            masked = query.page(_asked("139****0001"), DAY, 1)
            query.cancel()
            _fails(SourceCancelled, query.page, _asked("+8613900000001"), DAY, 1)
            with suppress(SourceCancelled):
                assert query.statistics(DAY) is None, "it has none, or it was cancelled"

        assert masked == QueryPage((), is_last=True)
        assert tried == []

    def test_a_send_that_cannot_be_sent_is_no_answer(
        self, samples: Samples, tried: list[object]
    ) -> None:
        for api in samples.provider.send_readers:
            client = samples.provider.open_send(api, samples.account, _CLOCK)
            if client is None:
                continue
            with closing(client):
                order, request = _written(client)
                assert tried == []
                rows = samples.rows_of(api, request, {})
                assert [row.phone for row in rows] == list(order.phones)
                _fails(SourceUnavailable, client.send, request)
                assert tried
                tried.clear()
                client.cancel()
                _fails(SourceCancelled, client.send, request)
            assert tried == []

    def test_what_an_online_check_asks_for_is_told_without_a_network(
        self, samples: Samples, tried: list[object]
    ) -> None:
        provider = samples.provider
        if not isinstance(provider, Addressed):
            pytest.skip(f"the provider {samples.provider.name} offers nothing to an online check")
        for use, url in provider.service_urls(samples.account).items():
            assert use in {"query", "token", "send"}
            assert urlsplit(url).scheme in {"http", "https"}, url
            assert urlsplit(url).hostname, url
        assert set(provider.message_kinds) <= set(provider.normalizers)
        kinds: dict[str, set[object]] = {}
        for sample in samples.messages:
            if not isinstance(sample.means, str):
                kind = meaning(samples.read(sample))["kind"]
                kinds.setdefault(sample.message_type, set()).add(kind)
        for message_type, kind in provider.message_kinds.items():
            assert kind.value in kinds[message_type], message_type
        assert tried == []


def _asked(phone: str) -> Asked:
    return Asked(biz_id="900000000000000001^0", phone=phone, submitted_at=SUBMITTED_AT)


def _written(client: SendApi) -> tuple[SendOrder, Mapping[str, object]]:
    """Return an order that the API takes, and its parameters for it."""
    for order in ORDERS:
        try:
            return order, client.request(order)
        except InvalidSend as refused:
            for problem in refused.problems:
                assert problem.cure, problem
                assert "139000000" not in str(problem)
    raise AssertionError("it takes no order at all")


def _fails(with_what: type[SourceError], call: Callable[..., object], *args: object) -> None:
    with pytest.raises(SourceError) as caught:
        call(*args)
    assert type(caught.value) is with_what, repr(caught.value)
