"""P17: a body that kills whoever reads it ends a process made for it, and not the daemon."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from receiptd.clock import ManualClock, SystemClock
from receiptd.config import Settings
from receiptd.model import Envelope, Origin, Reason
from receiptd.pipeline import Pipeline
from receiptd.plugins import find_provider
from receiptd.providers.base import Context
from receiptd.replay.batches import quarantined
from receiptd.replay.meaning import Meanings
from receiptd.sandbox import Sandbox
from receiptd.sandbox.configuration import config_toml
from receiptd.store import open_store
from receiptd.store.journal import Selection
from receiptd.trial import PULLS_BEFORE_TRIAL, ReadAs, Trial
from tests.acceptance.process import Receiptd, eventually
from tests.databases import SQLITE, ask, fresh_url
from tests.fakes import VISIBILITY_S, FakePuller, FakeQueue, envelope, sms_report
from tests.reliability.rig import hired

# A provider that is Aliyun's, but for the words in `out_id` that kill.
_PLUG_IN = r"""
import os, signal
from pathlib import Path
from receiptd.providers.aliyun import PROVIDER as ALIYUN

DEATHS = Path(__file__).with_name("deaths")

def normalize(data, context):
    word = data.get("out_id")
    if word in ("exit", "kill", "abort", "hang", "memory"):
        with DEATHS.open("a") as file:
            file.write(f"{os.getpid()}\n")
    if word == "exit":
        os._exit(0)
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "abort":
        os.abort()
    if word == "hang":
        while True: pass
    if word == "memory":
        [bytearray(2**20) for _ in range(2048)]
    if word == "raise":
        raise ZeroDivisionError
    if word == "environment":
        Path(__file__).with_name("environment").write_text(repr(dict(os.environ)))
    return ALIYUN.normalizers["SmsReport"](data, context)

class Deadly:
    name = "aliyun"
    normalizers = {**ALIYUN.normalizers, "SmsReport": normalize}
    default_message_type = "SmsReport"
    def __getattr__(self, name): return getattr(ALIYUN, name)

PROVIDER = Deadly()
"""


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the provider `deadly`, installed here and in the processes that we start."""
    info = tmp_path / "deadly-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[receiptd.providers]\ndeadly = deadly:PROVIDER\n")
    (tmp_path / "deadly.py").write_text(_PLUG_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def trial(plug_in: Path) -> Iterator[Trial]:
    read_as = ReadAs(provider="deadly", message_type="", account="main", origin=Origin.QUEUE)
    trial = Trial(read_as, SystemClock(), patience_s=0.5)
    yield trial
    trial.close()


def report(out_id: str, number: int = 1) -> bytes:
    return sms_report(number).replace(f"order-{number}".encode(), out_id.encode())


def pulled(body: bytes, pull_count: int, envelope_id: str = "m1") -> Envelope:
    return msgspec.structs.replace(envelope(body, envelope_id), pull_count=pull_count)


def deaths(plug_in: Path) -> set[str]:
    file = plug_in / "deaths"
    return set(file.read_text().split()) if file.exists() else set()


@pytest.mark.parametrize("word", ["exit", "kill", "abort", "hang", "memory"])
def test_a_body_that_ends_two_readers_is_not_read_here(
    trial: Trial, plug_in: Path, word: str
) -> None:
    [sifted] = trial.sift([pulled(report(word), PULLS_BEFORE_TRIAL + 1)])

    assert sifted.flaw == Reason.KILLS_READER
    assert sifted.body == report(word)
    assert len(deaths(plug_in)) == 2


def test_only_what_was_pulled_more_than_five_times_is_tried(trial: Trial, plug_in: Path) -> None:
    batch = [pulled(report("kill"), PULLS_BEFORE_TRIAL), envelope(report("kill"))]

    assert trial.sift(batch) == batch
    assert not deaths(plug_in)


def test_what_was_only_delivered_often_is_read_as_usual(trial: Trial) -> None:
    # After acks failed for an hour every message has come many times, and all are readable.
    batch = [pulled(report(f"order-{n}", n), 100, f"m{n}") for n in range(300)]
    batch.append(pulled(report("raise"), 100, "a bug that the pipeline survives"))
    batch.append(pulled(b"no JSON", 100, "no JSON"))

    assert trial.sift(batch) == batch


def test_the_neighbours_of_a_killer_are_tried_by_the_next_reader(trial: Trial) -> None:
    words = ["one", "kill", "two", "exit", "three"]

    sifted = trial.sift([pulled(report(word), 9, word) for word in words])

    assert [one.envelope_id for one in sifted if one.flaw] == ["kill", "exit"]
    assert [one.envelope_id for one in sifted] == words


def test_a_reader_that_cannot_start_condemns_nobody(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, plug_in: Path
) -> None:
    monkeypatch.setattr("sys.executable", str(plug_in / "no_such_python"))
    batch = [pulled(report("order-1"), 9)]

    assert trial.sift(batch) == batch


def test_a_reader_that_was_ended_from_outside_condemns_nobody(trial: Trial) -> None:
    batch = [pulled(report("order-1"), 9)]
    trial.sift(batch)
    assert trial._reader is not None
    trial._reader._process.kill()

    assert trial.sift(batch) == batch


def test_that_a_reader_was_ended_from_outside_is_no_death_of_a_body(
    trial: Trial, plug_in: Path
) -> None:
    trial.sift([pulled(report("order-1"), 9)])
    assert trial._reader is not None
    trial._reader._process.kill()
    trial._reader._process.wait()

    [sifted] = trial.sift([pulled(report("kill"), 9)])

    assert sifted.flaw == Reason.KILLS_READER
    assert len(deaths(plug_in)) == 2


def test_a_reader_knows_no_secret(
    trial: Trial, plug_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECEIPTD_ACCOUNTS__MAIN__ACCESS_KEY_SECRET", "canary")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/canary")

    trial.sift([pulled(report("environment"), 9)])

    seen = (plug_in / "environment").read_text()
    assert "PYTHONPATH" in seen
    assert "canary" not in seen


def test_a_killer_is_quarantined_unread_and_its_neighbours_are_stored(
    trial: Trial, plug_in: Path
) -> None:
    clock = ManualClock()
    queue = FakeQueue(clock)
    killer = queue.put(report("kill"))
    for number in range(2, 17):
        queue.put(sms_report(number))
    # Five processes took the batch and died of it.
    for _ in range(PULLS_BEFORE_TRIAL):
        queue.receive(16)
        clock.advance(VISIBILITY_S + 1)
    provider = find_provider("deadly", "", [])
    assert provider is not None
    with fresh_url(SQLITE, plug_in) as url:
        store = open_store(url, clock)
        store.upgrade()
        worker = hired(
            store,
            FakePuller(queue),
            clock,
            wait_s=30.0,
            normalize=provider.normalizers["SmsReport"],
            sift=trial.sift,
        )
        worker.run_once()
        store.close()

        assert not queue.bodies
        assert ask(url, "SELECT count(*) FROM receipts") == [(15,)]
        quarantined = "SELECT envelope_id, reason, body FROM journal WHERE outcome = 'quarantined'"
        assert ask(url, quarantined) == [(killer, "kills_reader", report("kill").decode())]


def test_a_daemon_that_a_body_kills_again_and_again_outlives_it_in_the_end(
    plug_in: Path, tmp_path: Path
) -> None:
    with Sandbox(visibility_s=1) as sandbox:
        config = config_toml(sandbox.url).replace('"aliyun"', '"deadly"')
        daemon = Receiptd(tmp_path / "data", config)
        queue = sandbox.queue("SmsReport")
        for number in range(2, 17):
            sandbox.send_mns(queue, sms_report(number))
        sandbox.send_mns(queue, report("kill"))
        starts = 0
        try:
            while sandbox.depth(queue) and starts < 10:
                daemon.start()
                starts += 1
                eventually(lambda: not daemon.is_running or not sandbox.depth(queue), 30)
            code, _ = daemon.stop()
        finally:
            daemon.end()

        assert code == 0
        assert starts >= PULLS_BEFORE_TRIAL
        assert daemon.count("SELECT count(*) FROM receipts") == 15
        assert daemon.rows("SELECT DISTINCT reason FROM journal WHERE outcome = 'quarantined'") == [
            ("kills_reader",)
        ]


def test_a_replay_reads_a_killer_only_if_it_is_asked_for_by_its_name(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "accounts": {"main": {"provider": "aliyun", "access_key_id": "k"}},
            "sources": {"fake": {"puller": "mns", "account": "main", "message_type": "SmsReport"}},
        }
    )
    killer = msgspec.structs.replace(envelope(sms_report(1)), flaw=Reason.KILLS_READER)
    with fresh_url(SQLITE, tmp_path) as url, closing(open_store(url, ManualClock())) as store:
        store.upgrade()
        provider = find_provider("aliyun", "", [])
        assert provider is not None
        Pipeline(
            context=Context(provider="aliyun", account="main", origin=Origin.QUEUE),
            normalize=provider.normalizers["SmsReport"],
            store=store,
            clock=ManualClock(),
        ).process([killer, envelope(b"no JSON", "m2")])
        meanings = Meanings(settings)

        flaws = {
            reason: [
                item.flaw
                for batch in quarantined(store, meanings, Selection(reason=reason), 0)
                for _, item in batch.items
            ]
            for reason in (None, "kills_reader")
        }

    assert flaws == {None: [Reason.KILLS_READER, None], "kills_reader": [None]}
