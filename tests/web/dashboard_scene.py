"""A day of SMS for the dashboard to show: in the tables, and counted as the keeper does it."""

import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import insert, update

from receiptd.clock import ManualClock
from receiptd.gate import Gate
from receiptd.pulse import Pulse
from receiptd.rollup import RollupKeeper
from receiptd.store import Store
from receiptd.store.schema import audits, journal, progress, receipts
from receiptd.tally import Counts

# 15:30 of a Saturday in China.
NOW = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PHONE = "+8613900000001"


class StandingClock(ManualClock):
    """A clock that stands still though somebody waits."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.is_set()


class Scene:
    """What a test puts into the database behind a server."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self._number = 0

    def sms(self, count: int, *, ago: timedelta = timedelta(minutes=10), **fields: Any) -> None:
        """`count` SMS submitted so long ago, delivered after 4 s unless `fields` say else."""
        at = self.clock.now() - ago
        rows = []
        for _ in range(count):
            self._number += 1
            rows.append(
                {
                    "provider": "aliyun", "account": "main", "biz_id": f"9{self._number:014}^0",
                    "phone": PHONE, "out_id": f"order-{self._number}", "status": "delivered",
                    "err_code": "DELIVERED", "err_class": "ok", "template_code": "SMS_1",
                    "send_api": "SendSms", "submitted_at": at, "sent_at": at,
                    "reported_at": at + timedelta(seconds=4), "origin": "queue", "created_at": at,
                    "updated_at": at + timedelta(seconds=5), "next_query_at": None,
                }
                | fields
            )  # fmt: skip
        if rows:
            with self.store.writing() as connection:
                connection.execute(insert(receipts), rows)

    def failed(self, count: int, code: str, err_class: str, **fields: Any) -> None:
        self.sms(count, status="failed", err_code=code, err_class=err_class, **fields)

    def awaited(self, count: int, *, ago: timedelta, **fields: Any) -> None:
        told = {"status": "awaited", "err_code": None, "err_class": None, "reported_at": None}
        planned = {"next_query_at": self.clock.now() + HOUR}
        self.sms(count, ago=ago, **(told | planned | fields))

    def source(
        self,
        name: str,
        *,
        told_ago: timedelta = timedelta(seconds=2),
        pulled_ago: timedelta = timedelta(seconds=3),
        instance: str = "host:1",
    ) -> None:
        """A source whose process last told of it, and whose poll last returned, so long ago."""
        now = self.clock.now()
        counts = Counts(pulled=7, changed=6, last_pull_at=now - pulled_ago, last_commit_at=now)
        self.store.record_progress(instance, name, counts)
        with self.store.writing() as connection:
            row = (progress.c.source == name) & (progress.c.instance == instance)
            connection.execute(update(progress).where(row).values(updated_at=now - told_ago))

    def quarantined(self, count: int, reason: str) -> None:
        row = {
            "source": "pushed", "envelope_id": "e", "part": 0, "body": "{}", "encoding": "text",
            "kind": "unreadable", "outcome": "quarantined", "reason": reason,
            "received_at": self.clock.now(),
        }  # fmt: skip
        with self.store.writing() as connection:
            connection.execute(insert(journal), [row] * count)

    def audit(
        self, day: date, *, theirs: int, ours: int, account: str = "main", **counts: int
    ) -> None:
        row = {
            "provider": "aliyun", "account": account, "day": day, "provider_total": theirs,
            "provider_delivered": 0, "provider_failed": 0, "provider_pending": 0,
            "held_total": ours, "held_delivered": 0, "held_failed": 0, "held_pending": 0,
            "audited_at": self.clock.now(),
        }  # fmt: skip
        with self.store.writing() as connection:
            connection.execute(insert(audits).values(row | counts))

    def count(self) -> None:
        """Let a keeper count everything, in no time."""
        clock = StandingClock(self.clock.now())
        keeper = RollupKeeper(
            store=self.store,
            instance="host:1",
            store_gate=Gate(clock),
            pulse=Pulse("rollups", clock),
            stopping=threading.Event(),
            clock=clock,
        )
        keeper.run_once()


def ordinary_day(scene: Scene) -> None:
    """Thirty days of SMS in two accounts, the last one in more detail, and all is well."""
    for days in range(29, 0, -1):
        scene.sms(20 + days % 7, ago=days * DAY)
    for hours in range(23, 0, -1):
        if hours == 7:
            continue  # an hour in which nothing was sent
        scene.sms(40 - hours, ago=hours * HOUR)
        scene.failed(hours % 4, "MK:0001", "absent", ago=hours * HOUR)
    scene.sms(30, ago=HOUR / 4, account="shop", template_code="SMS_2", send_api="jushita")
    scene.failed(4, "DB:0141", "blacklist", account="shop", template_code="SMS_2")
    scene.awaited(6, ago=2 * HOUR)
    scene.source("pushed")
    scene.count()
