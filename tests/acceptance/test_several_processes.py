"""Several daemons on one broker and one database, and each database under kill -9."""

import threading

import pytest

from receiptd.sandbox import Sandbox, Scenario
from receiptd.sandbox.configuration import config_toml
from tests.acceptance.process import Receiptd, eventually
from tests.acceptance.scene import (
    await_acks,
    await_empty,
    await_polls,
    fates,
    outcomes,
    phones,
    watched_acks,
)
from tests.databases import databases, fresh_url

KILL_EVERY_S = 2.0
SCENARIO = Scenario(
    seed=5, failed=0.1, duplicates=0.1, poison=0.03, poison_on_the_wire=True, reordered=0.3
)


@pytest.fixture(params=databases())
def url(request):
    with fresh_url(request.param) as url:
        yield url


@pytest.fixture
def sandbox():
    with Sandbox(scenario=SCENARIO, visibility_s=3, invisible_s=3) as sandbox:
        yield sandbox


@pytest.fixture
def crew(tmp_path, sandbox, url):
    """Return four daemons, none of them started."""
    config = config_toml(sandbox.url)
    daemons = [Receiptd(tmp_path / str(number), config, url=url) for number in range(4)]
    yield daemons
    for daemon in daemons:
        daemon.end()


def send(sandbox, turn):
    sandbox.send_sms(phones(100, first=turn * 100))
    sandbox.send_sms(phones(50, first=turn * 50), jushita=True)


def test_kills_in_a_row_lose_nothing_and_ack_nothing_early_on_each_database(sandbox, crew):
    receiptd = crew[0].start()
    await_polls(sandbox)
    with watched_acks(sandbox, receiptd.url) as early:
        for kill in range(4):
            send(sandbox, kill)
            await_acks(sandbox, len(sandbox.acked) + 1)
            receiptd.kill()
            receiptd.start()
        await_empty(sandbox)
        code, _ = receiptd.stop()

    assert code == 0
    assert early == []
    assert outcomes(receiptd) == fates(sandbox)


def test_four_processes_share_the_work_while_one_is_killed_every_two_seconds(sandbox, crew):
    crew[0].start()
    await_polls(sandbox)
    for daemon in crew[1:]:
        daemon.start()
    eventually(lambda: sandbox.polls_waiting() >= 4 * 3, 30, "four daemons")
    pause = threading.Event()
    with watched_acks(sandbox, crew[0].url) as early:
        for turn in range(8):
            send(sandbox, turn)
            pause.wait(KILL_EVERY_S)
            victim = crew[turn % 4]
            victim.kill()
            victim.start()
        await_empty(sandbox)
        # A signal before its handlers are set ends the last one at once.
        eventually(lambda: all(daemon.has_started for daemon in crew), 30, "four daemons")
        codes = [daemon.stop()[0] for daemon in crew]

    assert codes == [0, 0, 0, 0]
    assert early == []
    assert outcomes(crew[0]) == fates(sandbox)
    instances = crew[0].rows("SELECT DISTINCT instance FROM progress WHERE acked > 0")
    assert len(instances) >= 2
