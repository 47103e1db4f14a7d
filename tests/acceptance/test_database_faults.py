"""A daemon whose database server goes away in every way that a network knows, and comes back."""

import pytest
from sqlalchemy import make_url

from receiptd.sandbox import Sandbox, Scenario
from receiptd.sandbox.configuration import config_toml
from tests.acceptance.process import Receiptd, eventually
from tests.acceptance.scene import await_polls, fates, left, outcomes, phones, watched_acks
from tests.chaos_proxy import ChaosProxy, Fault
from tests.databases import SERVERS, fresh_url


@pytest.fixture(params=SERVERS)
def url(request):
    with fresh_url(request.param) as url:
        yield make_url(url)


@pytest.fixture
def proxy(url):
    with ChaosProxy((url.host, url.port)) as proxy:
        yield proxy


@pytest.fixture
def sandbox():
    with Sandbox(scenario=Scenario(seed=7), visibility_s=3, invisible_s=3) as sandbox:
        yield sandbox


@pytest.fixture
def receiptd(tmp_path, sandbox, url, proxy):
    through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    daemon = Receiptd(tmp_path, config_toml(sandbox.url), url=through)
    yield daemon
    daemon.end()


def count(receiptd, event):
    return receiptd.log.read_text().count(f'"{event}"')


def await_loss(receiptd, before):
    eventually(lambda: count(receiptd, "store.lost") > before, 30, "store.lost")


def drop(proxy):
    proxy.down()


def refuse_to_answer(proxy):
    proxy.is_black_hole = True
    proxy.stall()


def stall_at_the_commit(proxy):
    # Not at a statement: psycopg prepares what it repeats, and then its text is not sent again.
    proxy.is_black_hole = True
    proxy.when(b"COMMIT", Fault.STALL)


def cut_the_commit(proxy):
    proxy.when(b"COMMIT", Fault.CUT_REPLY)


def reset(proxy):
    proxy.reset()


def mend(proxy, was):
    if was is drop:
        proxy.up()
    proxy.is_black_hole = False
    proxy.reset()


@pytest.mark.timeout(300)
def test_every_fault_of_a_database_server_is_survived_and_nothing_is_acked_early(
    sandbox, receiptd, url, proxy
):
    receiptd.start()
    await_polls(sandbox)
    sandbox.send_sms(phones(20))
    eventually(lambda: left(sandbox) == 0, 20)
    direct = url.render_as_string(hide_password=False)
    with watched_acks(sandbox, direct) as early:
        for turn, fault in enumerate(
            [drop, refuse_to_answer, stall_at_the_commit, cut_the_commit, reset], start=1
        ):
            lost = count(receiptd, "store.lost")
            fault(proxy)
            sandbox.send_sms(phones(20, first=turn * 100))
            sandbox.send_sms(phones(20, first=turn * 100 + 50), jushita=True)
            if fault in (drop, refuse_to_answer, stall_at_the_commit):
                await_loss(receiptd, lost)
                assert left(sandbox) > 0
                mend(proxy, fault)

            took_s = eventually(lambda: left(sandbox) == 0, 60, fault.__name__)

            assert took_s < 30, fault.__name__
            assert receiptd.is_running
        code, _ = receiptd.stop()

    assert code == 0
    assert early == []
    receiptd.url = direct
    assert outcomes(receiptd) == fates(sandbox)


def test_sigterm_while_the_database_is_silent_ends_the_process_within_eight_seconds(
    sandbox, receiptd, proxy
):
    receiptd.start()
    await_polls(sandbox)
    refuse_to_answer(proxy)
    sandbox.send_sms(phones(20))
    eventually(lambda: sandbox.requests and left(sandbox) == 20, 10)

    code, took_s = receiptd.stop()

    assert code in {0, 75}
    assert took_s <= 8.5
    assert left(sandbox) == 20
