"""/livez, /readyz and /metrics: by what got done."""

import threading
from datetime import timedelta

import pytest

from receiptd.clock import ManualClock
from receiptd.gate import Gate
from receiptd.metrics import Lags
from receiptd.pulse import Pulse
from receiptd.tally import Counts, Tally
from receiptd.web import probes
from receiptd.web.health import AWAY_ALLOWANCE_S, PULL_ALLOWANCE_S, Health, SourceView
from tests.acceptance.process import eventually
from tests.web.http_harness import own, running

WAIT_S = 30


class Source:
    """One source whose counts are set by hand."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.lags = Lags()
        self.gate = Gate(clock, spread=lambda: 0.5)
        self.values = Counts(last_pull_at=clock.now())
        self.expires_at = None

    def counts(self) -> Counts:
        return self.values

    def view(self) -> SourceView:
        return SourceView(
            name="sms",
            puller="mns",
            account="main",
            wait_s=WAIT_S,
            tally=self,
            gate=self.gate,
            expires_at=lambda: self.expires_at,
        )

    def lose(self) -> None:
        with self.gate.attempt(threading.Event()) as attempt:
            attempt.failed()

    def recover(self) -> None:
        self.clock.advance(30)
        with self.gate.attempt(threading.Event()) as attempt:
            attempt.succeeded()
        self.values.last_pull_at = self.clock.now()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def source(clock):
    return Source(clock)


@pytest.fixture
def health(clock, source):
    health = Health(clock=clock, store_gate=Gate(clock, spread=lambda: 0.5), pulses=[])
    health.sources = [source.view()]
    health.is_serving = True
    return health


def test_a_daemon_whose_source_was_polled_is_ready(health):
    report = health.report()

    assert report.ready
    assert report.sources["sms"].ready


def test_it_is_not_ready_before_the_first_poll_has_returned(health, source):
    source.values.last_pull_at = None

    assert health.report().reason == "source sms: no poll has returned yet"
    source.lose()
    assert health.report().reason == "source sms: it does not answer"


def test_a_source_that_is_away_for_a_moment_is_a_hiccup_and_for_longer_a_reason(
    health, source, clock
):
    source.lose()
    clock.advance(AWAY_ALLOWANCE_S)
    hiccup = health.report().ready
    clock.advance(1)
    away = health.report()
    source.recover()

    assert hiccup
    assert away.reason == "source sms: away for 16 s"
    assert health.report().ready


def test_a_poll_that_does_not_return_is_a_reason_though_nothing_failed(health, clock):
    clock.advance(WAIT_S + PULL_ALLOWANCE_S)
    patient = health.report().ready
    clock.advance(1)

    assert patient
    assert "no poll has returned for 106 s" in health.report().reason


def test_a_token_that_has_ended_is_a_reason(health, source, clock):
    source.expires_at = clock.now() + timedelta(seconds=1)
    valid = health.report().ready
    source.expires_at = clock.now()

    assert valid
    assert "token has ended" in health.report().reason


def test_a_stop_and_a_start_are_not_ready(health):
    health.is_serving = False
    assert "starts" in health.report().reason
    health.is_stopping = True
    assert "stops" in health.report().reason


def test_a_stuck_worker_turns_off_live_and_ready(url):
    clock = ManualClock()
    with running(url, clock=clock) as server:
        source = Source(clock)
        server.http.serve([source.view()])
        pulse = Pulse("sms/1", clock)
        server.pulses.append(pulse)
        pulse.beat(5)
        well = server.get("/livez").status, server.get("/readyz").status
        clock.advance(6)
        live, ready = server.get("/livez"), server.get("/readyz")

    assert well == (200, 200)
    assert (live.status, live.json) == (503, {"live": False, "stuck": ["sms/1"]})
    assert (ready.status, ready.json["reason"]) == (503, "source sms: a worker is stuck")


def test_a_database_that_is_away_turns_off_ready_and_not_live(server):
    well = server.get("/readyz").status
    with server.gate.attempt(threading.Event()) as attempt:
        attempt.failed()
    ready, live = server.get("/readyz"), server.get("/livez")

    assert well == 200
    assert ready.status == 503
    assert ready.json["reason"].startswith("database: away for")
    assert live.status == 200


def test_a_database_that_cannot_be_read_is_seen_though_nobody_wants_to_store(server):
    server.store.close()

    assert server.get("/readyz").json["reason"] == "database: it cannot be read"


def test_a_database_that_hangs_is_seen_and_holds_nobody_up(server, monkeypatch):
    monkeypatch.setattr(probes, "_LIMIT_S", 0.1)
    hanging = threading.Event()
    with running(str(server.store._url)) as other:
        monkeypatch.setattr(probes.DatabaseProbe, "_select", lambda self: hanging.wait(20))
        answers = [other.get("/readyz").json["reason"] for _ in range(2)]
        hanging.set()

    assert answers == ["database: it does not answer in time"] * 2


def told(server):
    """Return each value of /metrics by its name and labels."""
    lines = server.get("/metrics").body.decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_metrics_hold_what_the_database_knows_once_it_was_asked(server):
    server.record(own(1), own(2, submitted_at="2020-01-01T00:00:00Z"))

    eventually(lambda: 'receiptd_awaited{account="main"}' in told(server), 10)
    found = told(server)
    assert found['receiptd_awaited{account="main"}'] == "2.0"
    assert float(found['receiptd_hours_to_loss{account="main"}']) < 0


def test_metrics_say_that_the_database_is_away_though_nobody_wants_to_store(url):
    clock = ManualClock()
    with running(url, clock=clock) as server:
        well = told(server)["receiptd_database_up"]
        server.store.close()
        clock.advance(60)
        away = told(server)["receiptd_database_up"]

    assert (well, away) == ("1.0", "0.0")


def test_metrics_say_that_nothing_can_be_stored_though_the_database_can_be_read(server):
    with server.gate.attempt(threading.Event()) as attempt:
        attempt.failed()

    assert told(server)["receiptd_database_up"] == "0.0"


def test_metrics_are_told_while_the_database_hangs(server, monkeypatch):
    monkeypatch.setattr(probes, "_LIMIT_S", 0.1)
    hanging = threading.Event()
    with running(str(server.store._url)) as other:
        monkeypatch.setattr(probes.DatabaseProbe, "_select", lambda self: hanging.wait(20))
        found = told(other)["receiptd_database_up"]
        hanging.set()

    assert found == "0.0"


def test_at_the_start_a_database_is_away_once_it_has_failed_and_not_known_before(health, clock):
    health.is_serving = False
    unknown = health.is_database_up()
    with health._store_gate.attempt(threading.Event()) as attempt:
        attempt.failed()
    clock.advance(1)

    assert unknown is None
    assert health.is_database_up() is False


def test_a_tally_is_what_the_figures_of_a_source_need(server):
    tally = Tally(instance="i", source="sms", store=server.store, clock=server.clock)
    view = SourceView(
        name="sms",
        puller="mns",
        account="main",
        wait_s=30,
        tally=tally,
        gate=server.gate,
        expires_at=lambda: None,
    )
    server.http.serve([view])

    assert b'receiptd_inflight{source="sms"} 0.0' in server.get("/metrics").body
