"""The queue token: its times, its single flight, and what happens while the API is away."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

import pytest

from receiptd.clock import ManualClock
from receiptd.errors import SourceCancelled, SourceError, SourceRefused, SourceUnavailable
from receiptd.model import Credentials
from receiptd.providers.aliyun.rpc import RpcAnswer
from receiptd.providers.aliyun.token import TokenCredentials

SHANGHAI = timedelta(hours=8)
LIFETIME_S = 600.0


class Gateway:
    """The token API: hands out T1, T2, … for ten minutes, or fails as told. Bounded, as it says."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.down: SourceError | None = None
        self.skew = timedelta()  # of the server's clock against ours
        self.on_call: Callable[[], None] = lambda: None
        self.cancelled = False
        self.tells_date = True

    def call(self, action: str, parameters: Mapping[str, str]) -> RpcAnswer:
        self.calls.append((action, dict(parameters)))
        self.on_call()
        if self.cancelled:
            raise SourceCancelled("cancelled")
        if self.down is not None:
            raise self.down
        now = self.clock.now() + self.skew
        token = {
            "AccessKeyId": f"STS.{len(self.calls)}",
            "AccessKeySecret": "secret",
            "SecurityToken": f"T{len(self.calls)}",
            "CreateTime": shanghai(now),
            "ExpireTime": shanghai(now + timedelta(seconds=LIFETIME_S)),
        }
        answer = {"Code": "OK", "MessageTokenDTO": token}
        return RpcAnswer(answer, now if self.tells_date else None)

    def cancel(self) -> None:
        self.cancelled = True


def shanghai(moment: datetime) -> str:
    return (moment + SHANGHAI).strftime("%Y-%m-%d %H:%M:%S")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def gateway(clock: ManualClock) -> Gateway:
    return Gateway(clock)


@pytest.fixture
def source(gateway: Gateway, clock: ManualClock) -> TokenCredentials:
    return TokenCredentials(gateway, "SmsReport", clock, jitter=lambda: 0.0)


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Shanghai"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_the_call_names_the_message_type_and_the_queue_if_there_is_one(
    gateway: Gateway, clock: ManualClock
) -> None:
    TokenCredentials(gateway, "SmsUp", clock).current()
    TokenCredentials(gateway, "SmsUp", clock, queue="Alicom-Queue-1-SmsUp").current()

    assert gateway.calls == [
        ("QueryTokenForMnsQueue", {"MessageType": "SmsUp"}),
        ("QueryTokenForMnsQueue", {"MessageType": "SmsUp", "QueueName": "Alicom-Queue-1-SmsUp"}),
    ]


def test_a_token_is_used_until_two_minutes_before_its_end(
    source: TokenCredentials, gateway: Gateway, clock: ManualClock
) -> None:
    assert source.current() == Credentials("STS.1", "secret", "T1")

    clock.advance(LIFETIME_S - 121)
    assert source.current().security_token == "T1"
    clock.advance(1)
    assert source.current().security_token == "T2"
    assert len(gateway.calls) == 2


def test_jitter_makes_the_margin_longer_and_never_shorter(
    gateway: Gateway, clock: ManualClock
) -> None:
    source = TokenCredentials(gateway, "SmsReport", clock, jitter=lambda: 1.0)
    source.current()

    clock.advance(LIFETIME_S - 151)
    assert source.current().security_token == "T1"
    clock.advance(1)
    assert source.current().security_token == "T2"


def test_expire_time_is_shanghai_time_in_every_zone(
    zone: str, source: TokenCredentials, gateway: Gateway, clock: ManualClock
) -> None:
    source.current()

    assert source.expires_at == clock.now() + timedelta(seconds=LIFETIME_S)
    clock.advance(LIFETIME_S - 119)
    assert source.current().security_token == "T2"


@pytest.mark.parametrize("tells_date", [True, False])
@pytest.mark.parametrize("hours", [-20, -1, 1, 20])
def test_a_skewed_host_clock_changes_nothing(
    hours: int, tells_date: bool, source: TokenCredentials, gateway: Gateway, clock: ManualClock
) -> None:
    gateway.skew = timedelta(hours=hours)
    gateway.tells_date = tells_date
    source.current()

    clock.advance(LIFETIME_S - 121)
    assert source.current().security_token == "T1"
    clock.advance(2)
    assert source.current().security_token == "T2"


def test_a_token_shorter_than_the_margin_is_used_for_half_its_life(
    gateway: Gateway, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "LIFETIME_S", 60.0)
    source = TokenCredentials(gateway, "SmsReport", clock, jitter=lambda: 0.0)
    source.current()

    clock.advance(29)
    assert source.current().security_token == "T1"
    clock.advance(1)
    assert source.current().security_token == "T2"


def _together(count: int, work: Callable[[], object]) -> list[object]:
    """Run `work` in `count` threads that start at once; an error counts as a result."""
    gate = threading.Barrier(count)
    results: list[object] = []

    def run() -> None:
        gate.wait()
        try:
            results.append(work())
        except SourceError as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture
def slow(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the API take so long that all other threads come to stand before it."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def give_way() -> None:
        for _ in range(3000):
            os.sched_yield()

    monkeypatch.setattr(gateway, "on_call", give_way)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("slow")
def test_the_first_token_is_fetched_once_for_32_threads(
    source: TokenCredentials, gateway: Gateway
) -> None:
    results = _together(32, source.current)

    assert results == [Credentials("STS.1", "secret", "T1")] * 32
    assert len(gateway.calls) == 1


@pytest.mark.usefixtures("slow")
def test_an_expired_token_is_renewed_once_for_32_threads(
    source: TokenCredentials, gateway: Gateway, clock: ManualClock
) -> None:
    source.current()
    clock.advance(LIFETIME_S + 1)

    results = _together(32, source.current)

    assert results == [Credentials("STS.2", "secret", "T2")] * 32
    assert len(gateway.calls) == 2


@pytest.mark.usefixtures("slow")
def test_a_failed_fetch_is_made_once_for_32_threads_and_told_to_all(
    source: TokenCredentials, gateway: Gateway
) -> None:
    gateway.down = SourceUnavailable("timeout")

    results = _together(32, source.current)

    assert len(gateway.calls) == 1
    assert [str(result) for result in results] == ["timeout"] * 32
    assert len({id(result) for result in results}) == 32  # no traceback is shared


def test_nobody_waits_for_an_early_renewal(
    source: TokenCredentials, gateway: Gateway, clock: ManualClock
) -> None:
    source.current()
    clock.advance(LIFETIME_S - 60)
    during: list[Credentials] = []
    gateway.on_call = lambda: during.append(_in_a_thread(source.current))

    assert source.current().security_token == "T2"
    assert [token.security_token for token in during] == ["T1"]


def _in_a_thread(work: Callable[[], Credentials]) -> Credentials:
    results: list[Credentials] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(10)
    return results[0]


@pytest.mark.usefixtures("slow")
def test_a_refused_token_is_renewed_once_for_32_threads(
    source: TokenCredentials, gateway: Gateway
) -> None:
    used = source.current()

    assert _together(32, lambda: source.refused(used)) == [True] * 32
    assert len(gateway.calls) == 2
    assert source.current().security_token == "T2"


def test_refusals_that_a_fresh_token_does_not_mend_renew_once_in_60_s(
    source: TokenCredentials, gateway: Gateway, clock: ManualClock
) -> None:
    answers = []
    for _ in range(120):
        answers.append(source.refused(source.current()))
        clock.advance(1)

    assert answers.count(True) == 2
    assert len(gateway.calls) == 3
    assert (answers[0], answers[60]) == (True, True)


def test_a_late_refusal_of_a_token_already_replaced_costs_no_call(
    source: TokenCredentials, gateway: Gateway
) -> None:
    old = source.current()
    source.refused(old)

    assert source.refused(old) is True
    assert len(gateway.calls) == 2


def test_the_old_token_is_used_while_the_api_is_away_even_past_its_end(
    source: TokenCredentials, gateway: Gateway, clock: ManualClock
) -> None:
    source.current()
    gateway.down = SourceUnavailable("unreachable")

    for _ in range(int(LIFETIME_S) + 300):
        clock.advance(1)
        assert source.current().security_token == "T1"

    # 420 s of outage: a call with each doubling pause, then one per longest pause.
    assert 10 <= len(gateway.calls) - 1 <= 60


def test_a_refused_token_with_the_api_away_is_not_handed_out_again(
    source: TokenCredentials, gateway: Gateway, clock: ManualClock
) -> None:
    used = source.current()
    gateway.down = SourceUnavailable("unreachable", cure="look at egress")

    assert source.refused(used) is False
    with pytest.raises(SourceUnavailable, match="look at egress"):
        source.current()
    assert source.refused(used) is False

    gateway.down = None
    clock.advance(60)
    assert source.current().security_token == f"T{len(gateway.calls)}"


def test_refused_credentials_of_the_account_keep_their_kind_and_cure(
    source: TokenCredentials, gateway: Gateway
) -> None:
    gateway.down = SourceRefused("Forbidden.RAM", http_status=403, request_id="r", cure="grant it")

    with pytest.raises(SourceRefused) as caught:
        source.current()

    assert str(caught.value) == "Forbidden.RAM; http 403; request r; grant it"


def test_an_outage_is_not_met_with_a_hot_loop(
    source: TokenCredentials, gateway: Gateway, clock: ManualClock
) -> None:
    gateway.down = SourceUnavailable("timeout")

    for _ in range(600):
        with pytest.raises(SourceUnavailable):
            source.current()
        clock.advance(0.1)

    assert len(gateway.calls) <= 12  # in one minute


def test_the_api_is_found_again_within_30_s_of_its_return(
    source: TokenCredentials, gateway: Gateway, clock: ManualClock
) -> None:
    gateway.down = SourceUnavailable("timeout")
    for _ in range(600):
        with pytest.raises(SourceUnavailable):
            source.current()
        clock.advance(1)
    gateway.down = None

    clock.advance(30)

    assert source.current().security_token


def test_cancel_keeps_the_token_for_the_last_acks_and_fetches_no_other(
    source: TokenCredentials, gateway: Gateway, clock: ManualClock
) -> None:
    source.current()

    source.cancel()
    clock.advance(LIFETIME_S)

    assert source.current().security_token == "T1"
    assert source.refused(source.current()) is False
    with pytest.raises(SourceCancelled):
        source.current()


def test_there_is_no_end_to_tell_before_the_first_token(source: TokenCredentials) -> None:
    assert source.expires_at is None
