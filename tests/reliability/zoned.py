"""What test_clocks.py runs in a process of its own zone: where times are read or written, all of
one moment.

    TZ=Asia/Shanghai python -m tests.reliability.zoned sqlite:////tmp/receiptd.db
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from receiptd import log
from receiptd.china import china_days, china_text, day_text
from receiptd.cli import main as command
from receiptd.clock import ManualClock
from receiptd.model import Entry, Kind, Origin, Outcome, Receipt
from receiptd.providers.aliyun import PROVIDER as ALIYUN
from receiptd.providers.aliyun.rpc import RpcAnswer
from receiptd.providers.aliyun.token import TokenCredentials
from receiptd.providers.base import Context, Normalizer
from receiptd.providers.fields import china_time
from receiptd.providers.jushita import PROVIDER as JUSHITA
from receiptd.pullers.http1 import AnswerReader
from receiptd.store import open_store
from receiptd.store.schema import receipts
from tests.fakes import envelope

NOW = datetime(2026, 5, 6, 7, 0, tzinfo=UTC)
# Of an answer: as HTTP has it, and as some proxies do.
DATES = ["07:08:14 GMT", "07:08:14 -0000", "15:08:14 +0800"]
CHINA = {"send_time": "2026-05-06 15:08:09", "report_time": "2026-05-06 15:08:14"}
ALIYUN_BODY = {
    **CHINA, "success": True, "err_code": "DELIVERED", "phone_number": "13900000002",
    "biz_id": "9^0", "sms_size": "1",
}  # fmt: skip
ABROAD_BODY = {
    "To": "85291234567", "Status": 1, "MessageId": "1^0", "SmsSize": "1",
    "SendDate": "Wed, 06 May 2026 15:08:09 +0800",
    "ReceiveDate": "Wed, 06 May 2026 15:08:14 +0800",
}  # fmt: skip
JUSHITA_BODY = {
    "send_time": "2026-05-06 15:08:09", "rept_time": "2026-05-06 15:08:14", "state": "1",
    "receiver": "13900000002", "biz_id": "1^1", "err_code": "DELIVRD",
}  # fmt: skip


class Gateway:
    """Hands out a token for ten minutes, in Beijing time as the real one does."""

    def call(self, action: str, parameters: Mapping[str, str]) -> RpcAnswer:
        token = {
            "AccessKeyId": "STS.1",
            "AccessKeySecret": "secret",
            "SecurityToken": "T1",
            "CreateTime": china_text(NOW),
            "ExpireTime": china_text(NOW + timedelta(minutes=10)),
        }
        return RpcAnswer({"Code": "OK", "MessageTokenDTO": token}, NOW)

    def cancel(self) -> None: ...


def read(normalize: Normalizer, body: Mapping[str, object]) -> Receipt:
    record = normalize(dict(body), Context(provider="aliyun", account="main", origin=Origin.QUEUE))
    assert isinstance(record, Receipt)
    return record


def iso(moment: datetime | None) -> str:
    assert moment is not None
    return moment.astimezone(UTC).isoformat()


def main(url: str) -> dict[str, object]:
    """Return each time that was read, as UTC."""
    clock = ManualClock(NOW)
    token = TokenCredentials(Gateway(), "SmsReport", clock)
    token.current()
    receipt = read(ALIYUN.normalizers["SmsReport"], ALIYUN_BODY)
    with contextlib.closing(open_store(url, clock)) as store:
        store.upgrade()
        store.save(
            [
                Entry(
                    envelope=envelope(b"{}"),
                    part=0,
                    body=b"{}",
                    kind=Kind.RECEIPT,
                    outcome=Outcome.STORED,
                    received_at=NOW,
                    record=receipt,
                )
            ]
        )
        with store.reading() as connection:
            row = connection.execute(select(receipts.c.reported_at)).scalar_one()
    return {
        "token_ends": iso(token.expires_at),
        "aliyun": iso(receipt.reported_at),
        "aliyun_in_the_query": iso(china_time(dict(CHINA), "report_time")),
        "international": iso(read(ALIYUN.normalizers["SmsReport"], ABROAD_BODY).reported_at),
        "jushita": iso(read(JUSHITA.normalizers["sms"], JUSHITA_BODY).reported_at),
        "china_days": [day_text(day) for day in china_days(NOW.replace(hour=15, minute=50))],
        "row": iso(row),
        "brokers": [date_of(f"Wed, 06 May 2026 {text}") for text in DATES],
        "exported": exported(url),
        "log_is_in_utc": abs(logged_at() - datetime.now(UTC)) < timedelta(minutes=1),
    }


def date_of(date: str) -> str:
    parts = iter([f"HTTP/1.1 204 No Content\r\nDate: {date}\r\n\r\n".encode()])
    answer = AnswerReader(lambda: next(parts), lambda: 0.0, 1024).read()
    assert answer.sent_at_s is not None
    return iso(datetime.fromtimestamp(answer.sent_at_s, UTC))


def exported(url: str) -> str:
    os.environ["RECEIPTD_DATABASE__URL"] = url
    out = io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(out):
        assert command(["export", "receipts", "--format", "ndjson"]) == 0
        out.flush()
    return str(json.loads(out.buffer.getvalue())["reported_at"])


def logged_at() -> datetime:
    with contextlib.redirect_stderr(io.StringIO()) as lines:
        log.configure("json", "info")
        log.get_logger().info("daemon.started")
    return datetime.fromisoformat(json.loads(lines.getvalue())["at"])


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
