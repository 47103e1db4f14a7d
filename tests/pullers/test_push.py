"""The push puller: the conformance suite, this test in the provider's place, and its bounds."""

import threading
from collections.abc import Sequence

import pytest
from pydantic import SecretStr

from receiptd.clock import SystemClock
from receiptd.config import AccountSettings, SourceSettings
from receiptd.model import Origin
from receiptd.pullers.base import Puller
from receiptd.pullers.push import KIND, Delivery, Inbox, InboxFull, PushPuller
from receiptd.testing.conformance import Harness, PullerConformance
from tests.acceptance.process import eventually
from tests.pullers.puller_harness import KeyRing, committed

ACCOUNT = AccountSettings(provider="aliyun")


class Provider:
    """Pushes, and pushes again what was not answered in time."""

    def __init__(self) -> None:
        self.inbox = Inbox(SystemClock(), most_waiting=5000)
        self.unanswered: list[Delivery] = []

    def open(self) -> Puller:
        return PushPuller("pushed", self.inbox)

    def publish(self, bodies: Sequence[bytes]) -> None:
        self.unanswered += [self.inbox.put(body) for body in bodies]

    def publish_unreadable(self) -> None:
        self.publish([b" "])

    def depth(self) -> int:
        return sum(not one.done.done() for one in self.unanswered)

    def expire(self) -> None:
        again = [one for one in self.unanswered if not one.done.done()]
        for one in again:
            self.inbox.give_up(one)
        self.unanswered = []
        self.publish([one.body for one in again])

    def answer_empty_once(self) -> None:
        pytest.skip("an inbox answers when something came, or when the time is over")

    def cut(self) -> None:
        pytest.skip("between an inbox and its pullers is no network")

    def cut_next_answer(self) -> None:
        pytest.skip("between an inbox and its pullers is no network")

    def wait_until_polling(self) -> None:
        eventually(lambda: self.inbox.waiters == 1, 10)


class TestPush(PullerConformance):
    @pytest.fixture
    def harness(self) -> Harness:
        return Provider()


def settings(secret: str) -> SourceSettings:
    return SourceSettings(puller="push", account="main", push_secret=SecretStr(secret))


def never() -> threading.Event:
    return threading.Event()


def test_what_waits_is_bounded_in_number_and_in_bytes():
    few = Inbox(SystemClock(), most_waiting=2)
    small = Inbox(SystemClock(), most_bytes=10)
    few.put(b"1")
    few.put(b"2")
    small.put(b"12345678")

    for inbox in (few, small):
        with pytest.raises(InboxFull):
            inbox.put(b"345")


def test_room_is_made_by_an_ack_by_giving_up_and_not_by_a_pull():
    inbox = Inbox(SystemClock(), most_waiting=1)
    inbox.put(b"1")
    [taken] = inbox.take(16, 0, never())
    with pytest.raises(InboxFull):
        inbox.put(b"2")

    assert inbox.finish(taken.handle)
    inbox.give_up(inbox.put(b"2"))
    inbox.put(b"3")

    assert [one.body for one in inbox.take(16, 0, never())] == [b"3"]


@pytest.mark.parametrize("end", ["given up", "given up when taken", "acked"])
def test_the_bytes_of_what_is_over_make_room_again(end):
    inbox = Inbox(SystemClock(), most_bytes=10)
    for _ in range(3):
        delivery = inbox.put(b"12345678")
        if end != "given up":
            inbox.take(16, 0, never())
        if end == "acked":
            inbox.finish(delivery.handle)
        else:
            inbox.give_up(delivery)

    with pytest.raises(InboxFull):
        inbox.put(b"12345678901")


def test_what_its_sender_gave_up_on_before_it_was_taken_is_gone():
    inbox = Inbox(SystemClock())
    inbox.give_up(inbox.put(b"1"))

    assert inbox.take(16, 0, never()) == []


def test_an_ack_after_the_sender_gave_up_is_expired_and_disturbs_nothing():
    inbox = Inbox(SystemClock())
    delivery = inbox.put(b"1")
    [taken] = inbox.take(16, 0, never())
    delivery.done.cancel()
    inbox.give_up(delivery)

    assert not inbox.finish(taken.handle)
    assert PushPuller("s", inbox).ack(committed(taken.handle, "unknown")).expired == 2


def test_an_ack_at_the_moment_at_which_the_sender_gives_up_disturbs_nothing():
    inbox = Inbox(SystemClock())
    delivery = inbox.put(b"1")
    [taken] = inbox.take(16, 0, never())
    delivery.done.cancel()  # as asyncio does when the time is over, before `give_up`

    assert inbox.finish(taken.handle)


def test_a_body_that_comes_twice_has_the_same_id():
    inbox = Inbox(SystemClock())
    inbox.put(b'{"a":1}')
    inbox.put(b'{"a":1}')
    inbox.put(b'{"a":2}')

    first, second, other = PushPuller("s", inbox).pull(16, 0)

    assert first.envelope_id == second.envelope_id != other.envelope_id
    assert first.handle != second.handle


@pytest.mark.parametrize("secret", ["", "short", "with/slash/000000000", "a b c d e f g h i j"])
def test_a_secret_that_is_missing_short_or_needs_quoting_is_a_problem(secret):
    if " " in secret:
        with pytest.raises(ValueError, match="whitespace"):
            settings(secret)
        return
    source = settings(secret)

    [problem] = KIND.problems("pushed", source, ACCOUNT)

    assert problem.place == "sources.pushed.push_secret"
    assert "openssl" in problem.cure
    assert not problem.value


def test_all_threads_of_a_source_share_its_inbox_and_its_receipts_say_push():
    source = settings("0123456789abcdef")
    clock = SystemClock()

    first, second = (KIND.open("t1", source, ACCOUNT, KeyRing(), clock) for _ in range(2))
    KIND.inbox("t1", clock).put(b"{}")

    assert KIND.problems("t1", source, ACCOUNT) == []
    assert KIND.origin is Origin.PUSH
    assert [len(one.pull(16, 0)) for one in (first, second)] == [1, 0]
