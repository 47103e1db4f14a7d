"""A host that is poor, full, read-only or impatient: a daemon on it loses nothing (K3, S3, S10,
S21)."""

import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from receiptd.clock import ManualClock
from receiptd.model import Origin, Receipt
from receiptd.pipeline import Pipeline
from receiptd.providers.base import Context
from receiptd.sandbox import Sandbox
from receiptd.sandbox.configuration import config_toml
from receiptd.store import open_store
from tests.acceptance.process import Receiptd, eventually
from tests.acceptance.scene import await_polls, fates, left, outcomes, phones
from tests.databases import SQLITE, ask, fresh_url
from tests.fakes import envelope, sms_report

_RUN = [sys.executable, "-m", "receiptd", "run"]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(visibility_s=3, invisible_s=3) as sandbox:
        yield sandbox


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def drains(daemon: Receiptd, sandbox: Sandbox) -> None:
    """Let a daemon take forty receipts and end in an orderly way."""
    try:
        daemon.start()
        await_polls(sandbox)
        sandbox.send_sms(phones(40))
        eventually(lambda: left(sandbox) == 0, 30, "drained")
        code, _ = daemon.stop()
    finally:
        daemon.end()

    assert code == 0
    assert outcomes(daemon) == fates(sandbox)


@pytest.mark.parametrize("spare_kb", [512, 4096])
def test_a_process_that_gets_no_more_memory_loses_nothing(
    sandbox: Sandbox, folder: Path, spare_kb: int
) -> None:
    """K3: it may die, wait or work on; what it could not read is neither acked nor quarantined."""
    daemon = Receiptd(folder, config_toml(sandbox.url))
    try:
        daemon.start()
        await_polls(sandbox)
        assert daemon.process is not None
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        [held_kb] = re.findall(r"VmData:\s+(\d+) kB", status)
        most = (int(held_kb) + spare_kb) << 10
        resource.prlimit(daemon.process.pid, resource.RLIMIT_DATA, (most, most))
        for number in range(64):
            # 48 KB of JSON, which is about what a queue takes.
            body = sms_report(number)[:-1] + b', "padding": [' + b"1.5, " * 9600 + b"1]}"
            sandbox.send_mns(sandbox.queue("SmsReport"), body)
        told = re.compile("source.lost|store.lost|worker.failed")
        eventually(
            lambda: (
                not daemon.is_running
                or left(sandbox) == 0
                or told.search(daemon.log.read_text()) is not None
            ),
            20,
        )
        daemon.end()
        daemon.start()
        eventually(lambda: left(sandbox) == 0, 30, "drained")
    finally:
        daemon.end()

    assert daemon.rows("SELECT biz_id FROM receipts GROUP BY biz_id HAVING count(*) > 1") == []
    assert daemon.count("SELECT count(*) FROM receipts") == 64
    assert daemon.count("SELECT count(*) FROM journal WHERE outcome = 'quarantined'") == 0


def test_memory_that_ran_out_is_no_fault_of_an_envelope(folder: Path) -> None:
    """K3: it is neither stored nor quarantined, so that it is not acked and comes again."""

    def out_of_memory(data: Mapping[str, object], context: Context) -> Receipt:
        raise MemoryError

    clock = ManualClock()
    folder.mkdir()
    with fresh_url(SQLITE, folder) as url:
        store = open_store(url, clock)
        store.upgrade()
        pipeline = Pipeline(
            context=Context(provider="aliyun", account="main", origin=Origin.QUEUE),
            normalize=out_of_memory,
            store=store,
            clock=clock,
        )
        with pytest.raises(MemoryError):
            pipeline.process([envelope(sms_report(1))])
        store.close()

        assert ask(url, "SELECT count(*) FROM journal") == [(0,)]


def test_a_log_that_takes_nothing_stops_nothing(sandbox: Sandbox, folder: Path) -> None:
    """S3: the disk under stdout and stderr is full."""
    full = ["sh", "-c", 'exec "$0" "$@" >/dev/full 2>&1', *_RUN]

    drains(Receiptd(folder, config_toml(sandbox.url), program=full), sandbox)


def test_a_log_whose_reader_left_stops_nothing(sandbox: Sandbox, folder: Path) -> None:
    """S3: stderr is a pipe, and whoever read it has gone."""
    piped = (
        "import os, sys\n"
        "reader, writer = os.pipe()\n"
        "os.dup2(writer, 1)\nos.dup2(writer, 2)\nos.close(reader)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'receiptd', 'run', *sys.argv[1:]])\n"
    )
    program = [sys.executable, "-c", piped]

    drains(Receiptd(folder, config_toml(sandbox.url), program=program), sandbox)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGPIPE, signal.SIGINT])
def test_no_signal_loses_a_receipt(sandbox: Sandbox, folder: Path, number: signal.Signals) -> None:
    """S10: SIGINT drains, SIGPIPE is nothing, and the others end the process as a crash would."""
    daemon = Receiptd(folder, config_toml(sandbox.url)).start()
    try:
        await_polls(sandbox)
        sandbox.send_sms(phones(40))
        daemon.send(number)
        if number is signal.SIGPIPE:
            eventually(lambda: left(sandbox) == 0, 30, "drained")
            assert daemon.stop()[0] == 0
        assert daemon.process is not None
        code = daemon.process.wait(timeout=20)
        if number is signal.SIGINT:
            assert code == 0
        daemon.start()
        await_polls(sandbox)
        eventually(lambda: left(sandbox) == 0, 30, "drained")
        assert daemon.stop()[0] == 0
    finally:
        daemon.end()

    assert outcomes(daemon) == fates(sandbox)


_READ_ONLY = """
mount --make-rprivate / && mount --bind "$0" "$0" && mount -o remount,ro,bind / || exit 77
touch /tmp/receiptd-was-here 2>/dev/null && exit 77
exec "$@"
"""


def test_only_the_database_needs_a_place_to_write(sandbox: Sandbox, folder: Path) -> None:
    """S21: a root file system that is read-only, /tmp too, and no HOME."""
    folder.mkdir()
    inside = ["unshare", "--mount", "sh", "-c", _READ_ONLY, str(folder)]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*inside, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs a mount namespace of its own, which only root has here")
    program = [*inside, "env", "-u", "HOME", "TMPDIR=/nonexistent", *_RUN]

    drains(Receiptd(folder, config_toml(sandbox.url), program=program), sandbox)
