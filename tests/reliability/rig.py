"""A worker on a real puller, and what talks to the sandbox."""

import threading
from collections.abc import Callable

from receiptd.batch_size import BatchSize
from receiptd.clock import ManualClock, SystemClock
from receiptd.config import AccountSettings
from receiptd.gate import Gate
from receiptd.model import CredentialsSource, Envelope, Origin
from receiptd.pipeline import Pipeline
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context, Normalizer
from receiptd.pullers.base import Puller
from receiptd.pullers.mns import MnsPuller
from receiptd.pullers.rocketmq import RocketMqPuller
from receiptd.pulse import Pulse
from receiptd.sandbox import Sandbox
from receiptd.store import Store
from receiptd.tally import Tally
from receiptd.unacked import Unacked
from receiptd.worker import Pace, Worker, all_of_them
from tests.pullers.puller_harness import GROUP, KeyRing


def hired(
    store: Store,
    puller: Puller,
    clock: ManualClock,
    *,
    wait_s: float = 0.2,
    normalize: Normalizer = PROVIDER.normalizers["SmsReport"],
    pipeline: Pipeline | None = None,
    batch_size: BatchSize | None = None,
    unacked: Unacked | None = None,
    sift: Callable[[list[Envelope]], list[Envelope]] = all_of_them,
) -> Worker:
    """Return one thread of a source; the gates' pauses and the waits are the clock's.
    `normalize` is for the usual pipeline."""
    worker = Worker(
        source="sms",
        open_puller=lambda: puller,
        pipeline=pipeline
        or Pipeline(
            context=Context(provider="aliyun", account="main", origin=Origin.QUEUE),
            normalize=normalize,
            store=store,
            clock=clock,
        ),
        pace=Pace(batch_size=16, wait_s=wait_s, pace_s=0.0),
        source_gate=Gate(clock),
        store_gate=Gate(clock),
        tally=Tally(instance="test", source="sms", store=store, clock=clock),
        pulse=Pulse("sms/1", clock),
        stopping=threading.Event(),
        clock=clock,
        batch_size=batch_size,
        unacked=unacked,
        sift=sift,
    )
    worker._puller = puller
    return worker


class Broker:
    """What talks to the sandbox here, and is closed with it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._end: list[Callable[[], None]] = []

    def mns(self, keys: CredentialsSource | None = None) -> Puller:
        queue = self.sandbox.queue("SmsReport")
        puller = MnsPuller("sms", self.sandbox.url, queue, keys or KeyRing(), SystemClock())
        self._end.append(puller.close)
        return puller

    def rocketmq(self) -> Puller:
        topic = self.sandbox.topic
        puller = RocketMqPuller("shop", self.sandbox.url, topic, GROUP, KeyRing(), SystemClock())
        self._end.append(puller.close)
        return puller

    def tokens(self) -> CredentialsSource:
        account = AccountSettings.model_validate(
            {
                "provider": "aliyun",
                "access_key_id": "testAK",
                "access_key_secret": "testSK",
                "endpoints": {"dybase": self.sandbox.url},
            }
        )
        tokens = PROVIDER.credentials(account, "token", "SmsReport", SystemClock())
        self._end.append(tokens.cancel)
        return tokens

    def close(self) -> None:
        for end in self._end:
            end()
