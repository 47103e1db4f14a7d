"""A store in which something has happened: sends, receipts, answers, as the daemon stores them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from receiptd.china import china_text
from receiptd.clock import ManualClock
from receiptd.config import Settings
from receiptd.model import Entry, Envelope, Kind, Origin, Outcome, Receipt, Record, Status, Uplink
from receiptd.pipeline import read
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context
from receiptd.store import Store, open_store

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
PHONE = "+8613900000001"
BIZ_ID = "900000000000000001^0"
SETTINGS = Settings.model_validate(
    {
        "accounts": {"main": {"provider": "aliyun"}},
        "sources": {
            "sms_report": {
                "puller": "mns",
                "account": "main",
                "message_type": "SmsReport",
                "queue": "q",
            }
        },
    }
)


def after(seconds: float) -> datetime:
    """The time that many seconds after noon, when all stories begin."""
    return NOON + timedelta(seconds=seconds)


class Story:
    """Tells a store what happens. The clock is where the last thing happened."""

    def __init__(self, url: str) -> None:
        self.clock = ManualClock(NOON)
        self.store: Store = open_store(url, self.clock)
        self.store.upgrade()
        self._told = 0

    def at(self, seconds: float) -> "Story":
        """Let it be that many seconds after noon."""
        self.clock.advance((after(seconds) - self.clock.now()).total_seconds())
        return self

    def send(self, biz_id: str = BIZ_ID, phone: str = PHONE, **fields: Any) -> None:
        """A send that was recorded, now."""
        given: dict[str, Any] = {
            "provider": "aliyun",
            "account": "main",
            "biz_id": biz_id,
            "phone": phone,
            "status": Status.AWAITED,
            "origin": Origin.SEND,
            "sign_name": "示例签名",
            "template_code": "SMS_000001",
            "out_id": "order-1",
            "send_api": "SendSms",
            "submitted_at": self.clock.now(),
        }
        self.store.record_sends([Receipt(**(given | fields))])

    def report(self, biz_id: str = BIZ_ID, *, pull_count: int = 1, **fields: Any) -> None:
        """An SmsReport that was pulled from its queue, now."""
        given: dict[str, Any] = {
            "phone_number": "13900000001",
            "biz_id": biz_id,
            "send_time": china_text(self.clock.now() - timedelta(seconds=3)),
            "report_time": china_text(self.clock.now() - timedelta(seconds=1)),
            "success": True,
            "err_code": "DELIVERED",
            "err_msg": "用户接收成功",
            "sms_size": "1",
        }
        self.pull(given | fields, pull_count=pull_count)

    def pull(
        self, body: dict[str, Any] | bytes, *, source: str = "sms_report", pull_count: int = 1
    ) -> None:
        """Whatever came from a queue, now; enqueued half a second ago."""
        raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        envelope = self._envelope(source, raw, pull_count)
        normalize = PROVIDER.normalizers["SmsReport"]
        context = Context("aliyun", "main", Origin.QUEUE)
        self.store.save(read(envelope, context, normalize, self.clock.now()))

    def answer(self, row: dict[str, Any] | None, status: Status | None = None) -> None:
        """What reconciliation stores: a row of QuerySendDetails, or that there was none."""
        record: Record | None = None
        if status is not None:
            record = Receipt(
                provider="aliyun",
                account="main",
                biz_id=BIZ_ID,
                phone=PHONE,
                status=status,
                origin=Origin.QUERY,
            )
        reason = None if row else "nothing_found"
        self._keep("query:main", json.dumps(row or {}).encode(), reason, record)

    def close_window(self) -> None:
        """What reconciliation stores when nobody can be asked any more."""
        lost = Receipt(
            provider="aliyun",
            account="main",
            biz_id=BIZ_ID,
            phone=PHONE,
            status=Status.LOST,
            origin=Origin.QUERY,
        )
        self._keep("reconcile", b"{}", "window_closed", lost)

    def reply(self, content: str, sequence_id: str = "568000001", **fields: Any) -> None:
        """A reply from the phone, now."""
        given: dict[str, Any] = {
            "provider": "aliyun",
            "account": "main",
            "phone": PHONE,
            "content": content,
            "dest_code": "1",
            "sign_name": None,
            "sequence_id": sequence_id,
            "sent_at": self.clock.now(),
        }
        self._keep("sms_up", b"{}", None, Uplink(**(given | fields)), kind=Kind.UPLINK)

    def _keep(
        self,
        source: str,
        body: bytes,
        reason: str | None,
        record: Record | None,
        kind: Kind = Kind.RECEIPT,
    ) -> None:
        # Without a record there is no biz_id either: an answer of nothing still has one.
        about = record or Receipt(
            provider="aliyun",
            account="main",
            biz_id=BIZ_ID,
            phone=PHONE,
            status=Status.AWAITED,
            origin=Origin.QUERY,
        )
        entry = Entry(
            envelope=self._envelope(source, body, 1),
            part=0,
            body=body,
            kind=kind,
            outcome=Outcome.STORED,
            received_at=self.clock.now(),
            reason=reason,
            record=about,
        )
        self.store.save([entry])

    def _envelope(self, source: str, body: bytes, pull_count: int) -> Envelope:
        self._told += 1
        return Envelope(
            source=source,
            envelope_id=f"E-{self._told}",
            body=body,
            handle="1-handle",
            pull_count=pull_count,
            enqueued_at=self.clock.now() - timedelta(seconds=0.5),
        )
