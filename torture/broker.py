"""Receipts that wait in a queue of MNS or a topic of RocketMQ."""

import itertools
import json
import threading
from collections.abc import Callable

from receiptd.sandbox import AckEvent, Sandbox, Scenario
from torture.evidence import Key, Truth
from torture.lives import common_config

# A broker hides what it handed out for a minute or so; nobody wants to wait that long 1,575 times.
VISIBILITY_S = 1.0
_SCENARIO = Scenario(seed=7, failed=0.2, duplicates=0.05, reordered=0.2)

# As much as makes full batches, beside what the dead have pulled and is hidden for a second. Not
# more, so that the end is near however slow the database is.
_SEND_EACH = 8
_SEND_EVERY_S = 0.01
_MOST_WAITING = 256

# The accounts that the sandbox knows; `url` is where it is, as TOML.
ALIYUN = """\
[accounts.main]
provider = "aliyun"
access_key_id = "testAK"
access_key_secret = "testSK"
endpoints = {{ dysms = {url}, dybase = {url}, mns = {url} }}
"""
JUSHITA = """\
[accounts.shop]
provider = "jushita"
app_key = "12345678"
app_secret = "topSecret"
access_key_id = "testAK"
access_key_secret = "testSK"
"""
_MNS = (
    ALIYUN
    + """\
[sources.receipts]
puller = "mns"
account = "main"
message_type = "SmsReport"
queue = {queue}
credentials = "token"
threads = {threads}
"""
)
_ROCKETMQ = (
    JUSHITA
    + """\
[sources.receipts]
puller = "rocketmq"
account = "shop"
endpoint = {url}
instance_id = "MQ_INST_torture"
topic = {topic}
group = "GID_receiptd"
threads = {threads}
"""
)


class BrokerTraffic:
    """The sandbox is the broker."""

    def __init__(self, on_ack: Callable[[str], None], *, jushita: bool = False) -> None:
        self._jushita = jushita
        self.sandbox = Sandbox(
            scenario=_SCENARIO, visibility_s=VISIBILITY_S, invisible_s=VISIBILITY_S
        )
        self._on_ack = on_ack
        self.sandbox.on_ack = self._acked
        self.sandbox.start()
        self._phones = (f"139{number:08d}" for number in itertools.count())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="feed")

    def config(self, database_url: str, *, threads: int = 2) -> str:
        """Return the config.toml of the daemon."""
        q = json.dumps
        common = common_config(database_url)
        url = q(self.sandbox.url)
        if self._jushita:
            return common + _ROCKETMQ.format(url=url, topic=q(self._queue()), threads=threads)
        return common + _MNS.format(url=url, queue=q(self._queue()), threads=threads)

    def send(self, count: int) -> None:
        """Let `count` SMS be reported."""
        phones = list(itertools.islice(self._phones, count))
        self.sandbox.send_sms(phones, jushita=self._jushita)

    def flow(self) -> None:
        """Send all the time."""
        self._thread.start()

    def end_flow(self) -> None:
        """Send no more."""
        self._ended.set()
        self._thread.join()

    def is_drained(self) -> bool:
        """Whether all has been acked."""
        return self.sandbox.depth(self._queue()) == 0

    def truth(self) -> Truth:
        """Return what was sent and handed out."""
        statuses: dict[Key, str] = {}
        for one in self.sandbox.truth():
            assert one.outcome is not None
            statuses[one.biz_id, "+86" + one.phone] = one.outcome
        return Truth(statuses, self.sandbox.deliveries)

    def close(self) -> None:
        """Stop the broker. Raises what went wrong in it."""
        self.sandbox.stop()
        if self.sandbox.errors:
            raise self.sandbox.errors[0]

    def _acked(self, event: AckEvent) -> None:
        self._on_ack(event.message_id)

    def _queue(self) -> str:
        return self.sandbox.topic if self._jushita else self.sandbox.queue("SmsReport")

    def _feed(self) -> None:
        while not self._ended.wait(_SEND_EVERY_S):
            if self.sandbox.depth(self._queue()) < _MOST_WAITING:
                self.send(_SEND_EACH)
