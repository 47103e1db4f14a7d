"""What the acceptance tests ask of the sandbox and of the rows."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, text

from receiptd.sandbox import AckEvent, Sandbox
from tests.acceptance.process import Receiptd, eventually


@contextmanager
def watched_acks(sandbox: Sandbox, url: str) -> Iterator[list[str]]:
    """Yield a list of the envelopes that were acked while no other connection saw their row."""
    early: list[str] = []
    engine = create_engine(url)
    query = text("SELECT 1 FROM journal WHERE envelope_id = :id LIMIT 1")

    def check(event: AckEvent) -> None:
        with engine.connect() as connection:
            if connection.execute(query, {"id": event.message_id}).first() is None:
                early.append(event.message_id)

    sandbox.on_ack = check
    try:
        yield early
    finally:
        sandbox.on_ack = None
        engine.dispose()


def left(sandbox: Sandbox) -> int:
    """Return how many envelopes the broker still holds."""
    names = [sandbox.queue("SmsReport"), sandbox.queue("SmsUp"), sandbox.topic]
    return sum(sandbox.depth(name) for name in names)


def await_polls(sandbox: Sandbox) -> None:
    """Wait until a daemon polls all three sources."""
    eventually(lambda: sandbox.polls_waiting() >= 3, 20, "long polls")


def await_acks(sandbox: Sandbox, count: int) -> None:
    eventually(lambda: len(sandbox.acked) >= count, 20, f"{count} acks")


def await_empty(sandbox: Sandbox, within_s: float = 40) -> None:
    eventually(lambda: left(sandbox) == 0, within_s, "an empty broker")


def phones(count: int, first: int = 0) -> list[str]:
    return [f"139{number:08d}" for number in range(first, first + count)]


def fates(sandbox: Sandbox) -> list[tuple[object, ...]]:
    """Return what should have become of each send: (biz_id, phone, status), sorted."""
    return sorted((one.biz_id, "+86" + one.phone, one.fate) for one in sandbox.sends)


def outcomes(receiptd: Receiptd) -> list[tuple[object, ...]]:
    """Return what the database says became of each send: (biz_id, phone, status), sorted."""
    return sorted(receiptd.rows("SELECT biz_id, phone, status FROM receipts"))
