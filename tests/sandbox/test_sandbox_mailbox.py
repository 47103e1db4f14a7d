"""The mailbox at sizes that the wire tests do not reach, and the walls around the sandbox."""

import ast
from pathlib import Path

from receiptd import sandbox
from receiptd.sandbox.mailbox import Held, Mailbox, Message, Refused


def message(n: int, at: float = 0.0) -> Message:
    return Message(f"id-{n}", b"x", "eA==", at)


def test_what_was_deleted_does_not_pile_up_where_time_stands_still() -> None:
    mailbox = Mailbox("q", retention_s=1e9)
    for n in range(10_000):
        mailbox.put(message(n), 0.0)
        (delivery,) = mailbox.take(0.0, 1, 30)
        assert isinstance(mailbox.delete(delivery.handle, 0.0), Held)

    assert len(mailbox._waiting) < 3000


def test_no_message_is_lost_or_doubled_when_the_deleted_ones_are_cleared_away() -> None:
    mailbox = Mailbox("q", retention_s=1e9)
    for n in range(10_000):
        mailbox.put(message(n), 0.0)
    deleted: set[str] = set()
    while taken := mailbox.take(0.0, 16, 30):
        for delivery in taken[:12]:
            mailbox.delete(delivery.handle, 0.0)
            deleted.add(delivery.message.message_id)

    again = [one.message.message_id for one in mailbox.take(30.0, 10_000, 30)]

    assert len(again) == len(set(again)) == mailbox.depth() == 10_000 - len(deleted)
    assert deleted.isdisjoint(again)


def test_every_handle_is_different() -> None:
    mailbox = Mailbox("q", retention_s=1e9)
    mailbox.put(message(1), 0.0)

    handles = [mailbox.take(float(now), 1, 1)[0].handle for now in range(100)]

    assert len(set(handles)) == 100
    assert mailbox.find(handles[0], 99.0) is Refused.EXPIRED
    assert isinstance(mailbox.find(handles[-1], 99.0), Held)


def test_a_message_is_counted_as_visible_in_flight_or_delayed() -> None:
    mailbox = Mailbox("q", retention_s=1e9)
    mailbox.put(message(1), 0.0)
    mailbox.put(message(2), 0.0)
    mailbox.put(message(3), 60.0)
    mailbox.take(0.0, 1, 30)

    assert mailbox.counts(0.0) == (1, 1, 1)
    assert mailbox.outlook(0.0) == (1, 30.0)


def test_the_sandbox_knows_nothing_of_the_rest_and_of_no_sdk() -> None:
    imported: set[str] = set()
    for path in Path(sandbox.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module)
            elif isinstance(node, ast.Import):
                imported |= {name.name for name in node.names}

    own = {name for name in imported if name.split(".")[0] == "receiptd"}
    assert all(name.startswith("receiptd.sandbox") for name in own)
    assert not {name.split(".")[0] for name in imported} & {"mns", "mq_http_sdk", "aliyunsdkcore"}
