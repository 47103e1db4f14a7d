"""What a host can get wrong: its zone, its clock, and the end of a token (S5 to S8)."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from receiptd.clock import ManualClock
from receiptd.errors import SourceError, SourceRefused, SourceUnavailable
from receiptd.model import Envelope
from receiptd.providers.aliyun.token import TokenCredentials
from receiptd.sandbox import Fault, Sandbox
from receiptd.store import Store
from tests.databases import SQLITE, ask, fresh_url
from tests.fakes import FakePuller, FakeQueue, sms_report
from tests.providers.test_token import LIFETIME_S, Gateway
from tests.reliability.rig import Broker, hired

ZONES = ["UTC", "Asia/Shanghai", "America/New_York"]


@pytest.mark.parametrize("zone", ZONES)
def test_the_zone_of_the_host_changes_no_time_anywhere(zone: str, tmp_path: Path) -> None:
    with fresh_url(SQLITE, tmp_path) as url:
        told = subprocess.run(
            [sys.executable, "-m", "tests.reliability.zoned", url],
            env={**os.environ, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert json.loads(told.stdout) == {
            "token_ends": "2026-05-06T07:10:00+00:00",
            "aliyun": "2026-05-06T07:08:14+00:00",
            "aliyun_in_the_query": "2026-05-06T07:08:14+00:00",
            "international": "2026-05-06T07:08:14+00:00",
            "jushita": "2026-05-06T07:08:14+00:00",
            "china_days": ["20260506", "20260507"],
            "row": "2026-05-06T07:08:14+00:00",
            "brokers": ["2026-05-06T07:08:14+00:00"] * 3,
            "exported": "2026-05-06T07:08:14Z",
            "log_is_in_utc": True,
        }
        # And the file itself, as another program would read it.
        assert ask(url, "SELECT reported_at FROM receipts") == [("2026-05-06 07:08:14.000000",)]


class JumpingClock(ManualClock):
    """The wall clock jumps a quarter of an hour to and fro; time itself goes on evenly."""

    def __init__(self) -> None:
        super().__init__()
        self._looks = 0

    def now(self) -> datetime:
        self._looks += 1
        return super().now() + timedelta(minutes=15 if self._looks % 2 else -15)


def test_jumps_of_the_wall_clock_expire_no_handle_and_stop_nothing(
    store: Store, tmp_path: Path
) -> None:
    queue = FakeQueue(JumpingClock())
    for number in range(64):
        queue.put(sms_report(number))
    puller = FakePuller(queue)
    worker = hired(store, puller, queue.clock)
    puller.pull_faults = [SourceUnavailable("timeout")] * 3

    while queue.bodies and puller.pulls < 20:
        worker.run_once()

    assert puller.pulls == 3 + 3 + 1  # of 16, 16 and 32; the last one looks whether there is more
    assert max(queue.pulls.values()) == 1
    assert queue.clock.monotonic() < 10  # the pauses of three failures, and no quarter of an hour
    assert not worker._pulse.is_late
    assert ask(f"sqlite:///{tmp_path}/receiptd.db", "SELECT count(*) FROM receipts") == [(64,)]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda broker: broker.mns().pull(1, 0), id="mns"),
        pytest.param(lambda broker: broker.rocketmq().pull(1, 0), id="rocketmq"),
        pytest.param(lambda broker: broker.tokens().current(), id="token"),
    ],
)
@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_clock_that_is_too_far_off_is_named_with_its_size(
    broker: Broker, sandbox: Sandbox, minutes: int, call: Callable[[Broker], object]
) -> None:
    sandbox.skew_s = minutes * 60.0  # the broker's clock against ours

    with pytest.raises(SourceError) as caught:
        call(broker)

    assert "clock" in caught.value.cure
    seconds = [int(word) for word in caught.value.cure.split() if word.lstrip("+-").isdigit()]
    ahead = seconds[0] if "behind" not in caught.value.cure else -seconds[0]
    assert abs(ahead + minutes * 60) <= 2


@pytest.mark.parametrize("minutes", [-14, 14])
def test_a_clock_that_is_somewhat_off_delays_and_expires_nothing(
    broker: Broker, sandbox: Sandbox, store: Store, minutes: int
) -> None:
    sandbox.skew_s = minutes * 60.0
    sandbox.send_sms(["13900000002"])
    worker = hired(store, broker.mns(broker.tokens()), ManualClock(datetime.now(UTC)))

    worker.run_once()

    assert len(sandbox.acked) == 1
    assert sandbox.request_counts["receive"] == 1


def test_a_broker_that_refuses_in_other_words_is_still_told_to_have_another_time(
    broker: Broker, sandbox: Sandbox
) -> None:
    sandbox.skew_s = 3600.0
    sandbox.set_fault(Fault.error("SignatureDoesNotMatch", ("receive",)))

    with pytest.raises(SourceError) as caught:
        broker.mns().pull(1, 0)

    assert caught.value.code == "SignatureDoesNotMatch"
    # A second may pass between the broker's clock and ours.
    assert re.search(r"clock is -(3600|3599) s off the broker's", caught.value.cure)


def test_a_token_that_ends_in_mid_poll_costs_one_call_and_no_receipt(
    broker: Broker, sandbox: Sandbox, store: Store
) -> None:
    worker = hired(store, broker.mns(broker.tokens()), ManualClock(), wait_s=20)
    sandbox.send_sms(["13900000002"])
    worker.run_once()
    poll = threading.Thread(target=worker.run_once)
    calls = sandbox.request_counts["token"]

    with capture_logs() as lines:
        poll.start()
        assert sandbox.wait_until(lambda: sandbox.polls_waiting() == 1)
        sandbox.expire_tokens()
        sandbox.send_sms(["13900000003"])
        poll.join(20)

    assert len(sandbox.acked) == 2
    assert max(sandbox.deliveries.values()) == 1
    assert sandbox.request_counts["token"] - calls == 1
    assert not [line for line in lines if line["log_level"] != "debug"]


class SignedPuller(FakePuller):
    """A puller that needs a token for every call, and whose broker knows when it has ended."""

    def __init__(self, queue: FakeQueue, tokens: TokenCredentials) -> None:
        super().__init__(queue)
        self.tokens = tokens

    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        used = self.tokens.current()
        if self.tokens.expires_at and self.tokens.expires_at <= self.queue.clock.now():
            self.tokens.refused(used)
            raise SourceRefused("AccessDenied", http_status=403)
        return super().pull(batch_size, wait_s)


def test_while_the_token_api_is_down_for_an_hour_nothing_spins_and_nothing_is_lost(
    store: Store,
) -> None:
    queue = FakeQueue(ManualClock())
    clock = queue.clock
    gateway = Gateway(clock)
    puller = SignedPuller(queue, TokenCredentials(gateway, "SmsReport", clock))
    worker = hired(store, puller, clock)
    worker.run_once()
    gateway.down = SourceUnavailable("timeout")
    down_at = clock.monotonic()
    calls = len(gateway.calls)

    with capture_logs() as lines:
        while clock.monotonic() - down_at < LIFETIME_S - 60:
            queue.put(sms_report(1))
            worker.run_once()  # with the old token, for as long as it lasts
            clock.advance(1)
        worked = len(queue.acked)
        while clock.monotonic() - down_at < 3600:
            worker.run_once()
        queue.put(sms_report(2))
        gateway.down = None
        up_at = clock.monotonic()
        while queue.bodies and clock.monotonic() - up_at < 120:
            worker.run_once()

    assert worked > 100
    assert len(gateway.calls) - calls <= 12 * 60
    assert not queue.bodies
    assert clock.monotonic() - up_at <= 30 + 20  # the token's pause, then the source's
    told = [line["event"] for line in lines if line["event"] != "source.progress"]
    told = [event for event in told if event.startswith("source.")]
    assert told == ["source.refused", "source.recovered"]
