"""The provider's side of the simulation: what became of each SMS, and the three ways to hear of it:
the queue, the query API and the API that hands out tokens for the queue."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import Enum

import msgspec

from receiptd.china import SHANGHAI, china_text
from receiptd.clock import ManualClock
from receiptd.errors import SourceRefused
from receiptd.model import (
    Credentials,
    CredentialsSource,
    Envelope,
    ErrClass,
    Origin,
    Receipt,
    Status,
)
from receiptd.providers.aliyun.rpc import RpcAnswer
from receiptd.providers.base import Asked, DayCounts, Found, QueryPage
from receiptd.pullers.base import AckResult
from receiptd.store.merge import Key
from tests.fakes import FakePuller, FakeQueue

PROVIDER, ACCOUNT = "aliyun", "main"
# For how long a provider answers questions about a send.
MEMORY = timedelta(days=30)
TOKEN_LIFETIME = timedelta(hours=1)

# Called with the name of a point; may crash the process, or raise what may fail there.
Trace = Callable[[str], None]


class Fate(Enum):
    """What becomes of an SMS."""

    DELIVERED = "delivered"
    FAILED = "failed"
    NEW_CODE = "new code"  # failed, for a reason that the first version cannot read
    UNKNOWN = "unknown"  # only the query API says so
    WAITING = "waiting"  # for ever
    FORGOTTEN = "forgotten"  # the query API finds nothing


_STATUSES = {
    Fate.DELIVERED: Status.DELIVERED,
    Fate.FAILED: Status.FAILED,
    Fate.NEW_CODE: Status.FAILED,
    Fate.UNKNOWN: Status.UNKNOWN,
}
_CODES = {
    Fate.DELIVERED: ("DELIVERED", "用户接收成功", ErrClass.OK),
    Fate.FAILED: ("MK:0001", "空号", ErrClass.INVALID_NUMBER),
    Fate.NEW_CODE: ("NEW:0001", "新码", ErrClass.UNKNOWN),
    Fate.UNKNOWN: ("UNKNOWN", "未知", ErrClass.UNKNOWN),
}
# What a carrier says first that has to correct itself.
_OPPOSITE = {Fate.DELIVERED: Fate.FAILED, Fate.FAILED: Fate.DELIVERED}


class Sms(msgspec.Struct, frozen=True, kw_only=True):
    """One SMS, and what becomes of it. All times are known from the beginning."""

    number: int
    fate: Fate
    submitted_at: datetime
    reported_at: datetime  # whole seconds, as the vendors write them

    @property
    def biz_id(self) -> str:
        return f"90000000{self.number:010d}^0"

    @property
    def national(self) -> str:
        return f"1371234{self.number:04d}"

    @property
    def out_id(self) -> str:
        return f"order-{self.number}"

    @property
    def key(self) -> Key:
        return self.biz_id, f"+86{self.national}", PROVIDER, ACCOUNT

    @property
    def truth(self) -> Status | None:
        """How it ends; None if nobody will ever know."""
        return _STATUSES.get(self.fate)

    @property
    def is_reported(self) -> bool:
        """Whether the queue brings a receipt."""
        return self.fate in (Fate.DELIVERED, Fate.FAILED, Fate.NEW_CODE)

    @property
    def may_be_corrected(self) -> bool:
        """Whether the carrier may have said the opposite at first."""
        return self.fate in _OPPOSITE

    def report(self, *, first: bool = False) -> tuple[bytes, Receipt]:
        """Return the body that the queue brings, and what it says: the truth, or what the carrier
        said at `first`, a minute earlier."""
        fate = _OPPOSITE[self.fate] if first else self.fate
        at = self.reported_at - timedelta(minutes=first)
        code, message, err_class = _CODES[fate]
        body = {
            "send_time": china_text(at),
            "report_time": china_text(at),
            "success": fate is Fate.DELIVERED,
            "err_msg": message,
            "err_code": code,
            "phone_number": self.national,
            "sms_size": "2",
            "biz_id": self.biz_id,
            "out_id": self.out_id,
        }
        receipt = Receipt(
            provider=PROVIDER,
            account=ACCOUNT,
            biz_id=self.biz_id,
            phone=self.key[1],
            status=_STATUSES[fate],
            origin=Origin.QUEUE,
            out_id=self.out_id,
            err_code=code,
            err_msg=message,
            err_class=err_class,
            segments=2,
            sent_at=at,
            reported_at=at,
        )
        return json.dumps(body, ensure_ascii=False).encode(), receipt


class Exchange:
    """Everything that outlives the processes but the database. `said` has, for each body that a
    journal row can hold, what the provider said with it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.queue = FakeQueue(clock)
        self.sms: dict[Key, Sms] = {}
        self.said: dict[bytes, list[Receipt]] = {}
        self._no_tokens_until = 0.0
        self._token_until: dict[str, float] = {}
        self._numbers = itertools.count(1)
        self._answers = itertools.count(1)

    def submit(self, fate: Fate, delay: timedelta) -> Sms:
        """Take an SMS, whose receipt is there after `delay`."""
        now = self.clock.now()
        reported_at = (now + delay).replace(microsecond=0)
        sms = Sms(number=next(self._numbers), fate=fate, submitted_at=now, reported_at=reported_at)
        self.sms[sms.key] = sms
        return sms

    def publish(self, reports: Sequence[tuple[bytes, Receipt]]) -> None:
        """Put receipts into the queue, several in one envelope."""
        bodies = [body for body, _ in reports]
        for body, receipt in reports:
            self.said[body] = [receipt]
        whole = bodies[0] if len(bodies) == 1 else b"[" + b",".join(bodies) + b"]"
        self.said[whole] = [receipt for _, receipt in reports]
        self.queue.put(whole)

    def publish_garbage(self, body: bytes) -> None:
        """Put something into the queue that is no receipt, and never will be."""
        self.said[body] = []
        self.queue.put(body)

    def reverse_queue(self) -> None:
        """Let what came last be received first."""
        self.queue.bodies = dict(reversed(self.queue.bodies.items()))

    def answer(self, asked: Asked, day: date) -> list[Found]:
        """Return what is known of a send on a China day."""
        sms = next((one for key, one in self.sms.items() if key[0] == asked.biz_id), None)
        now = self.clock.now()
        if sms is None or sms.fate is Fate.FORGOTTEN or now >= sms.submitted_at + MEMORY:
            return []
        if sms.submitted_at.astimezone(SHANGHAI).date() != day:
            return []
        is_known = sms.truth is not None and now >= sms.reported_at
        status = sms.truth if is_known and sms.truth else Status.PENDING
        code, _, err_class = _CODES[sms.fate] if is_known else (None, None, None)
        receipt = Receipt(
            provider=PROVIDER,
            account=ACCOUNT,
            biz_id=asked.biz_id,
            phone=asked.phone,
            status=status,
            origin=Origin.QUERY,
            err_code=code,
            err_class=err_class,
            template_code="SMS_1",
            sent_at=sms.submitted_at.replace(microsecond=0),
            reported_at=sms.reported_at if is_known else None,
        )
        body = json.dumps({"answer": next(self._answers)}).encode()
        self.said[body] = [receipt]
        return [Found(receipt, body)]

    def new_token(self) -> RpcAnswer:
        """Return a token. Raises SourceRefused while there are none to be had."""
        if self.clock.monotonic() < self._no_tokens_until:
            raise SourceRefused("isp.RAM_PERMISSION_DENY")
        name = f"STS.{len(self._token_until)}"
        now = self.clock.now()
        until = now + TOKEN_LIFETIME
        self._token_until[name] = self.clock.monotonic() + TOKEN_LIFETIME.total_seconds()
        token = {"AccessKeyId": name, "AccessKeySecret": "s", "SecurityToken": "t"}
        times = {"CreateTime": china_text(now), "ExpireTime": china_text(until)}
        return RpcAnswer({"MessageTokenDTO": token | times}, now)

    def expire_tokens(self, pause_s: float) -> None:
        """Take no token any more that was handed out until now, whatever was promised, and hand out
        none for `pause_s` seconds."""
        self._no_tokens_until = self.clock.monotonic() + pause_s
        self._token_until = dict.fromkeys(self._token_until, 0.0)

    def takes(self, credentials: Credentials) -> bool:
        """Return whether the broker takes a token."""
        return self._token_until[credentials.access_key_id] > self.clock.monotonic()


class TokenApi:
    """The gateway that TokenCredentials asks."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def call(self, action: str, parameters: Mapping[str, str]) -> RpcAnswer:
        return self._exchange.new_token()

    def cancel(self) -> None:
        """Nothing to end: it answers at once."""


class TokenPuller(FakePuller):
    """A puller that signs with a token, and once more with a fresh one, as the built-in ones do."""

    def __init__(self, exchange: Exchange, credentials: CredentialsSource, trace: Trace) -> None:
        super().__init__(exchange.queue)
        self._exchange = exchange
        self._credentials = credentials
        self._trace = trace
        self.between_handles = lambda: trace("during_ack")

    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        self._sign()
        self._trace("pulling")
        envelopes = super().pull(batch_size, wait_s)
        self._trace("pulled")
        return envelopes

    def ack(self, committed) -> AckResult:
        self._sign()
        return super().ack(committed)

    def _sign(self) -> None:
        used = self._credentials.current()
        if self._exchange.takes(used):
            return
        if not (
            self._credentials.refused(used) and self._exchange.takes(self._credentials.current())
        ):
            raise SourceRefused("InvalidAccessKeyId", http_status=403)


class TruthfulQuery:
    """A query API that answers with the truth; of every second SMS on the second page."""

    def __init__(self, exchange: Exchange, trace: Trace) -> None:
        self._exchange = exchange
        self._trace = trace

    def page(self, asked: Asked, day: date, page_number: int) -> QueryPage:
        self._trace("asking")
        if page_number == 1 and int(asked.biz_id[:-2]) % 2:
            return QueryPage((), is_last=False)
        found = self._exchange.answer(asked, day)
        self._trace("answered")
        return QueryPage(tuple(found), is_last=True)

    def statistics(self, day: date) -> DayCounts | None:
        return None  # the audit has tests of its own

    def cancel(self) -> None:
        """Nothing to end: it answers at once."""

    def close(self) -> None:
        """Nothing to release."""
