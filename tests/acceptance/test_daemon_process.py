"""`receiptd run` as its users run it: a process, signals, kill -9, and a broker that misbehaves."""

import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from receiptd.sandbox import Fault, Sandbox, Scenario
from receiptd.sandbox.configuration import config_toml
from tests.acceptance.process import Receiptd, eventually
from tests.acceptance.scene import (
    await_acks,
    await_empty,
    await_polls,
    fates,
    left,
    outcomes,
    phones,
    watched_acks,
)
from tests.glibc import only_glibc


@pytest.fixture
def sandbox():
    with Sandbox(visibility_s=3, invisible_s=3) as sandbox:
        yield sandbox


@pytest.fixture
def receiptd(tmp_path, sandbox):
    daemon = Receiptd(tmp_path, config_toml(sandbox.url))
    yield daemon
    daemon.end()


def test_two_mns_sources_and_one_rocketmq_source_become_rows(sandbox, receiptd):
    sandbox.scenario = Scenario(seed=1, failed=0.2, replies=0.1)
    receiptd.start()
    sandbox.send_sms(phones(200), out_id="order-1")
    sandbox.send_sms(phones(100, first=500), out_id="order-2", jushita=True)

    eventually(lambda: receiptd.is_running and left(sandbox) == 0 and sandbox.acked, 20)
    eventually(lambda: receiptd.count("SELECT count(*) FROM receipts") == 300, 10)
    code, _ = receiptd.stop()

    assert code == 0
    assert outcomes(receiptd) == fates(sandbox)
    providers = receiptd.rows("SELECT provider, account, count(*) FROM receipts GROUP BY 1, 2")
    assert sorted(providers) == [("aliyun", "main", 200), ("jushita", "shop", 100)]


def test_ten_kills_in_a_row_lose_nothing_and_ack_nothing_early(sandbox, receiptd):
    sandbox.scenario = Scenario(
        seed=2, failed=0.1, duplicates=0.1, poison=0.03, poison_on_the_wire=True, reordered=0.3
    )
    receiptd.start()
    await_polls(sandbox)
    with watched_acks(sandbox, receiptd.url) as early:
        for kill in range(10):
            sandbox.send_sms(phones(100, first=kill * 100))
            sandbox.send_sms(phones(50, first=kill * 50), jushita=True)
            await_acks(sandbox, len(sandbox.acked) + 1)
            receiptd.kill()
            receiptd.start()
        await_empty(sandbox)
        code, _ = receiptd.stop()

    assert code == 0
    assert early == []
    assert len(fates(sandbox)) == 1500
    assert outcomes(receiptd) == fates(sandbox)
    assert receiptd.count("SELECT count(*) FROM journal WHERE outcome = 'quarantined'") > 0


def test_sigterm_in_a_long_poll_ends_the_process_within_a_second(sandbox, receiptd):
    receiptd.start()
    await_polls(sandbox)

    code, took_s = receiptd.stop()

    assert code == 0
    assert took_s <= 1


def test_a_second_signal_leaves_at_once(tmp_path, sandbox):
    config = config_toml(sandbox.url)
    receiptd = Receiptd(tmp_path, config).start()
    await_polls(sandbox)
    sandbox.send_sms(phones(1))
    eventually(lambda: left(sandbox) == 0, 10)
    engine = create_engine(receiptd.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as blocker:
        blocker.exec_driver_sql("BEGIN EXCLUSIVE")
        sandbox.send_sms(phones(1, first=1))
        eventually(lambda: "store.lost" in receiptd.log.read_text(), 20)
        receiptd.send(signal.SIGTERM)
        eventually(lambda: "daemon.stopping" in receiptd.log.read_text(), 5)
        code, took_s = receiptd.stop()
        blocker.exec_driver_sql("ROLLBACK")
    engine.dispose()

    assert code == 128 + signal.SIGTERM
    assert took_s <= 1
    assert left(sandbox) == 1


def test_sigterm_while_the_database_is_locked_drains_within_eight_seconds(sandbox, receiptd):
    receiptd.start()
    await_polls(sandbox)
    engine = create_engine(receiptd.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as blocker:
        blocker.exec_driver_sql("BEGIN EXCLUSIVE")
        sandbox.send_sms(phones(1))
        eventually(lambda: "store.lost" in receiptd.log.read_text(), 20)
        code, took_s = receiptd.stop()
        blocker.exec_driver_sql("ROLLBACK")
    engine.dispose()

    assert code == 0
    assert took_s <= 8
    assert left(sandbox) == 1


def test_memory_stays_below_80_mb_and_the_log_holds_no_secret_and_no_phone(sandbox, receiptd):
    sandbox.scenario = Scenario(seed=3, failed=0.2, poison=0.05, poison_on_the_wire=True)
    receiptd.start(RECEIPTD_LOG__LEVEL="debug")
    for first in range(0, 3000, 100):
        sandbox.send_sms(phones(100, first=first))

    eventually(lambda: receiptd.count("SELECT count(*) FROM receipts") == 3000, 40)
    eventually(lambda: left(sandbox) == 0, 10)
    rss_mb = receiptd.rss_mb()
    receiptd.stop()

    print("RSS", rss_mb)
    assert rss_mb <= 80
    log = receiptd.log.read_text()
    assert "testSK" not in log
    assert "STS." not in log
    assert "13900000" not in log


@only_glibc
def test_the_daemon_begins_with_one_heap_and_without_caches_for_each_thread(sandbox, receiptd):
    receiptd.start()
    eventually(lambda: receiptd.has_started, 10)

    # One by one: where glibc has read a value, it puts a NUL behind it.
    environ = Path(f"/proc/{receiptd.process.pid}/environ").read_text()
    tunables = ["arena_max=1", "mmap_threshold=131072", "tcache_count=0"]
    assert [one for one in tunables if f"glibc.malloc.{one}" in environ] == tunables


def test_a_bad_configuration_exits_78_in_under_a_second_and_names_every_error(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        '[accounts.main]\nprovider = "alyun"\naccess_key_id = "k"\n'
        '[sources.a]\npuller = "mns"\naccount = "nobody"\nbatch_size = 17\nquue = "q"\n'
        '[sources.b]\npuller = "mqtt"\naccount = "main"\n'
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        [sys.executable, "-m", "receiptd", "run", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert result.returncode == 78
    # Of the processor: what else runs beside the tests is not its time. The timeout sees a wait.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
    places = (
        "accounts.main.provider",
        "sources.a.account",
        "sources.a.batch_size",
        "sources.a.quue",
        "sources.b.puller",
    )
    for place in places:
        assert place in result.stderr
    assert "Traceback" not in result.stderr


def test_systemd_is_told_of_readiness_progress_and_the_end(tmp_path, sandbox):
    address = str(tmp_path / "notify")
    messages: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(20)
        receiptd = Receiptd(tmp_path, config_toml(sandbox.url))
        receiptd.start(NOTIFY_SOCKET=address, WATCHDOG_USEC="400000")
        while sum("WATCHDOG=1" in message for message in messages) < 3:
            messages.append(listener.recv(4096).decode())
        receiptd.send(signal.SIGTERM)
        while "STOPPING=1" not in messages[-1]:
            messages.append(listener.recv(4096).decode())
        receiptd.stop()

    assert any("READY=1" in message for message in messages)
    assert any("3 of 3 sources well" in message for message in messages)


# Every broker fault of pitfalls.md B and A that a server can produce, in turn, on one process.
FAULTS = {
    "B3 hang before any byte": [Fault.build("hang", ("receive", "consume"))],
    "B4 slow-loris body": [Fault.build("slow_body", ("receive", "consume"), seconds=0.3)],
    "B6 reset in mid body": [Fault.build("reset_mid_body", ("receive", "consume"))],
    "B6 short body": [Fault.build("truncate", ("receive", "consume"))],
    "B6 truncated XML": [Fault.build("cut_xml", ("receive", "consume"))],
    "B7 502 HTML": [Fault.html(502)],
    "B7 503 HTML": [Fault.html(503)],
    "B7 504 HTML": [Fault.html(504)],
    "B7 429": [Fault.html(429)],
    "B7 empty 503": [Fault.build("status", status=503)],
    "B7 captive portal": [Fault.portal(("receive", "consume", "delete", "ack"))],
    "B8 QpsLimitExceeded": [Fault.error("QpsLimitExceeded", ("receive", "consume"))],
    "B8 InternalError": [Fault.error("InternalError", ("receive", "consume"))],
    "B9 redirect": [Fault.redirect("http://127.0.0.1:1/", ("receive", "consume"))],
    "B9 redirect of acks": [Fault.redirect("http://127.0.0.1:1/", ("delete", "ack"))],
    "B10 reset": [Fault.build("reset", ("receive", "consume"))],
    "B10 FIN after each answer": [Fault.build("close_after")],
    "B10 RST on the idle connection": [Fault.build("reset_after")],
    "B11 answer lost": [Fault.build("drop", ("receive", "consume"), when="after", times=2)],
    "B12 huge answer": [Fault.build("huge", ("receive", "consume"), mib=16)],
    "B13 entity bomb": [Fault.build("entity_bomb", ("receive", "consume"))],
    "B13 deep XML": [Fault.build("deep_xml", ("receive", "consume"))],
    "S5 AccessDenied": [Fault.error("AccessDenied", ("receive", "consume"))],
    "S8 TimeExpired": [Fault.error("TimeExpired", ("receive", "consume"))],
    "throttled long poll": [Fault.build("empty", ("receive", "consume"))],
    "A1 partial ack": [Fault.build("partial", ("delete", "ack"), handles=2)],
    "A2 207 for acks": [Fault.build("refuse_handles", ("delete", "ack"), status=207)],
    "A3 expired handles": [Fault.build("refuse_handles", ("delete", "ack"), status=404)],
    "A4 answer to an ack lost": [Fault.build("drop", ("delete", "ack"), when="after", times=2)],
    "A5 acks refused": [Fault.html(503, ("delete", "ack"))],
}
# How long each lasts here: long enough for the first pauses (1, 2, 4 s) to begin.
FAULT_S = 2.0


@pytest.mark.timeout(600)
def test_every_broker_fault_is_survived_without_a_hot_loop_and_drained_after(sandbox, receiptd):
    pause = threading.Event()
    receiptd.start()
    await_polls(sandbox)
    with watched_acks(sandbox, receiptd.url) as early:
        for number, (name, faults) in enumerate(FAULTS.items()):
            before = len(sandbox.requests)
            for fault in faults:
                sandbox.set_fault(fault)
            sandbox.close_connections()
            sandbox.send_sms(phones(20, first=number * 100))
            sandbox.send_sms(phones(20, first=number * 100 + 50), jushita=True)
            pause.wait(FAULT_S)
            attempts = len(sandbox.requests) - before
            sandbox.clear_faults()
            sandbox.close_connections()
            eventually(lambda: left(sandbox) == 0, 30, f"drained after {name}")
            assert receiptd.is_running, name
            # Of two threads for each of three sources; what still works goes on.
            assert attempts <= 24, (name, attempts)
        code, _ = receiptd.stop()

    assert code == 0
    assert early == []
    assert outcomes(receiptd) == fates(sandbox)


def test_a_broker_that_is_down_is_waited_for_and_drained_within_30_s(sandbox, receiptd):
    receiptd.start()
    await_polls(sandbox)
    sandbox.stop()
    sandbox.send_sms(phones(20))
    eventually(lambda: receiptd.log.read_text().count('"source.lost"') == 3, 20)

    sandbox.restart()

    assert eventually(lambda: left(sandbox) == 0, 40) < 30
    eventually(lambda: receiptd.log.read_text().count('"source.recovered"') == 3, 30)
    assert receiptd.stop()[0] == 0
    assert outcomes(receiptd) == fates(sandbox)
