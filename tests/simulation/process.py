"""One process of receiptd: the real store, pipeline, worker, reconciliation, ledger and replay, on
the simulated exchange."""

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import make_url

from receiptd.config import Settings
from receiptd.config.settings import ReconcileSettings
from receiptd.errors import InvalidEnvelope
from receiptd.gate import Gate
from receiptd.ledger import Ledger, books_of
from receiptd.model import Origin, Reason, Receipt, Record
from receiptd.pipeline import Pipeline, Saver
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.aliyun.token import TokenCredentials
from receiptd.providers.base import Context
from receiptd.pulse import Pulse
from receiptd.reconcile.losses import Losses
from receiptd.reconcile.part import Part
from receiptd.reconcile.runner import Reconciler
from receiptd.reconcile.schedule import Schedule, schedule
from receiptd.replay.batches import quarantined, received
from receiptd.replay.meaning import Meanings
from receiptd.replay.run import Replayer
from receiptd.replay.savers import JournalSaver
from receiptd.store import SaveResult, Store
from receiptd.store.dialects import load
from receiptd.store.dialects.base import Dialect
from receiptd.store.journal import Replayed, Selection
from receiptd.store.merge import Key
from receiptd.store.plan import FIRST_AFTER, Answer
from receiptd.tally import Tally
from receiptd.worker import Pace, Worker
from tests.simulation.exchange import (
    ACCOUNT,
    Exchange,
    Sms,
    TokenApi,
    TokenPuller,
    Trace,
    TruthfulQuery,
)
from tests.simulation.faults import Faults

SOURCE = "fake"  # as tests.fakes names its envelopes
MEANINGS = Meanings(
    Settings.model_validate(
        {
            "accounts": {ACCOUNT: {"provider": "aliyun"}},
            "sources": {SOURCE: {"puller": "mns", "account": ACCOUNT, "message_type": "SmsReport"}},
        }
    )
)
# Few, so that what is in the queue comes in several batches.
_BATCH_SIZE = 4
# One thread, so that the same steps always do the same.
_QUERIES_PER_SECOND = 5.0


class Build:
    """receiptd as it is; the planted bugs (planted.py) are builds with other parts."""

    def dialect(self, name: str) -> Dialect:
        """Return the dialect of a driver."""
        return load(name)

    def saver(self, store: Store) -> Saver:
        """Return what the pipeline of the queue stores into."""
        return store

    def schedule(self) -> Schedule:
        """Return when is asked about a send, and when it is lost."""
        return schedule(ReconcileSettings())


class TracedStore(Store):
    """The store, with points where its own transactions have ended."""

    trace: Trace

    def answer(self, answers: Sequence[Answer]) -> list[Answer]:
        stored = super().answer(answers)
        if answers:
            self.trace("after_answer")
        return stored

    def replay(self, replayed: Sequence[Replayed]) -> SaveResult:
        result = super().replay(replayed)
        self.trace("after_replay")
        return result

    def record_sends(
        self,
        sends: Sequence[Receipt],
        settled: Sequence[Key] = (),
        *,
        ask_after: timedelta = FIRST_AFTER,
    ) -> SaveResult:
        result = super().record_sends(sends, settled, ask_after=ask_after)
        self.trace("after_sends")
        return result


class Process:
    """From its start to its end, orderly or not."""

    def __init__(self, url: str, exchange: Exchange, build: Build, *, is_new: bool) -> None:
        """`is_new` is the version that reads all codes."""
        clock = exchange.clock
        self.faults = Faults(clock)
        self._clock = clock
        self._stopping = threading.Event()
        address = make_url(url)
        self.store = TracedStore(
            address,
            build.dialect(address.drivername),
            clock,
            trace=self.faults.at,
            on_commit=lambda seconds, batches, entries: None,
        )
        self.store.trace = self.faults.at
        self._store_gate = Gate(clock, spread=lambda: 0.5)
        self._worker = self._new_worker(exchange, build, is_new=is_new)
        part = Part(
            store=self.store,
            schedule=build.schedule(),
            per_second=_QUERIES_PER_SECOND,
            instance="here",
            store_gate=self._store_gate,
            stopping=self._stopping,
            clock=clock,
        )
        self._reconciler = Reconciler(
            part,
            provider=PROVIDER.name,
            account=ACCOUNT,
            api=TruthfulQuery(exchange, self.faults.at),
            pulse=Pulse(ACCOUNT, clock),
        )
        self._losses = Losses(part, pulse=Pulse("losses", clock))
        self._ledger = Ledger(self.store, {ACCOUNT: books_of(PROVIDER, ACCOUNT)}, clock)

    def work(self) -> None:
        """Pull, commit and ack, once."""
        self._worker.run_once()

    def book(self, sms: Sms, submitted_at: datetime | None) -> None:
        """Tell the ledger of a send."""
        line = {"biz_id": sms.biz_id, "phone": sms.national, "out_id": sms.out_id}
        self._ledger.save([self._ledger.read_own(ACCOUNT, line, submitted_at, "SendSms")])

    def reconcile(self) -> None:
        """Ask about all that is due."""
        self._reconciler.run_once()

    def lose(self) -> None:
        """Declare lost what nobody knows any more."""
        self._losses.run_once()

    def replay(self, *, journal: bool) -> None:
        """Read the whole journal, or its quarantine, once more."""
        replayer = Replayer(
            JournalSaver(self.store),
            clock=self._clock,
            stopping=self._stopping,
            on_refused=lambda refused: None,
            on_batch=lambda batch: None,
        )
        if journal:
            replayer.run(received(self.store, MEANINGS, Selection()))
        else:
            replayer.run(quarantined(self.store, MEANINGS, Selection(), -1))

    def close(self) -> None:
        """Let go of the database: what was not committed is not there."""
        self.store.close()

    def _new_worker(self, exchange: Exchange, build: Build, *, is_new: bool) -> Worker:
        clock = self._clock
        credentials = TokenCredentials(TokenApi(exchange), "SmsReport", clock, jitter=lambda: 0.5)
        puller = TokenPuller(exchange, credentials, self.faults.at)
        worker = Worker(
            source=SOURCE,
            open_puller=lambda: puller,
            pipeline=Pipeline(
                context=Context(PROVIDER.name, ACCOUNT, Origin.QUEUE),
                normalize=PROVIDER.normalizers["SmsReport"] if is_new else read_known_codes,
                store=build.saver(self.store),
                clock=clock,
            ),
            pace=Pace(batch_size=_BATCH_SIZE, wait_s=30.0, pace_s=0.005),
            source_gate=Gate(clock, spread=lambda: 0.5),
            store_gate=self._store_gate,
            tally=Tally(instance="here", source=SOURCE, store=self.store, clock=clock),
            pulse=Pulse(SOURCE, clock),
            stopping=self._stopping,
            clock=clock,
            trace=self.faults.at,
        )
        worker._puller = puller  # `run` would, and would not return
        return worker


def read_known_codes(data: Mapping[str, object], context: Context) -> Record:
    """The normalizer of the version before the new codes came."""
    if str(data.get("err_code")).startswith("NEW:"):
        raise InvalidEnvelope(Reason.BAD_FIELD, "err_code")
    return PROVIDER.normalizers["SmsReport"](data, context)
