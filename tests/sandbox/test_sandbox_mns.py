"""The official MNS SDK, unmodified, works against the sandbox, and is refused when wrong."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from mns.mns_exception import MNSServerException
from mns.queue import Message, QueueMeta

from receiptd.sandbox import AckEvent, Sandbox
from tests.sandbox.wire import Wire, handles_body, sdk_error

Accounts = Callable[..., Any]
Wires = Callable[[Sandbox], Wire]


def test_the_sdk_receives_and_deletes_a_batch(sandbox: Sandbox, mns_account: Accounts) -> None:
    queue = mns_account(sandbox).get_queue(sandbox.queue("SmsReport"))
    sent = [sandbox.send_mns(queue.queue_name, json.dumps({"n": n})) for n in range(20)]

    messages = queue.batch_receive_message(16, 1)
    queue.batch_delete_message([one.receipt_handle for one in messages])

    assert [json.loads(one.message_body)["n"] for one in messages] == list(range(16))
    assert [one.message_id for one in messages] == sent[:16]
    assert sandbox.depth(queue.queue_name) == 4
    assert [ack.message_id for ack in sandbox.acked] == sent[:16]


def test_the_sdk_receives_and_deletes_a_single_message(
    sandbox: Sandbox, mns_account: Accounts
) -> None:
    queue = mns_account(sandbox).get_queue(sandbox.queue("SmsUp"))
    sandbox.send_mns(queue.queue_name, "回复TD")

    message = queue.receive_message_with_str_body(0)
    queue.delete_message(message.receipt_handle)

    assert message.message_body == "回复TD"
    assert message.dequeue_count == 1
    assert sandbox.depth(queue.queue_name) == 0


def test_an_empty_queue_is_message_not_exist(sandbox: Sandbox, mns_account: Accounts) -> None:
    queue = mns_account(sandbox).get_queue(sandbox.queue("SmsReport"))

    error = sdk_error(queue.batch_receive_message, 16, 0)

    assert isinstance(error, MNSServerException)
    assert error.type == "MessageNotExist"


def test_a_batch_delete_tells_which_handles_failed_and_deletes_the_rest(
    sandbox: Sandbox, mns_account: Accounts
) -> None:
    queue = mns_account(sandbox).get_queue(sandbox.queue("SmsReport"))
    for n in range(3):
        sandbox.send_mns(queue.queue_name, str(n))
    handles = [one.receipt_handle for one in queue.batch_receive_message(3, 0)]
    queue.delete_message(handles[0])

    error = sdk_error(queue.batch_delete_message, [*handles, "nonsense!"])

    failed = {one["ReceiptHandle"]: one["ErrorCode"] for one in error.sub_errors}
    assert failed == {handles[0]: "MessageNotExist", "nonsense!": "ReceiptHandleError"}
    assert sandbox.depth(queue.queue_name) == 0


def test_a_used_handle_cannot_be_used_again(sandbox: Sandbox, mns_account: Accounts) -> None:
    queue = mns_account(sandbox).get_queue(sandbox.queue("SmsReport"))
    sandbox.send_mns(queue.queue_name, "x")
    handle = queue.receive_message(0).receipt_handle
    queue.delete_message(handle)

    assert sdk_error(queue.delete_message, handle).type == "MessageNotExist"
    assert sdk_error(queue.delete_message, "a").type == "ReceiptHandleError"


def test_changed_visibility_gives_a_new_handle(sandbox: Sandbox, mns_account: Accounts) -> None:
    queue = mns_account(sandbox).get_queue(sandbox.queue("SmsReport"))
    sandbox.send_mns(queue.queue_name, "x")
    old = queue.receive_message(0)

    changed = queue.change_message_visibility(old.receipt_handle, 300)

    assert changed.receipt_handle != old.receipt_handle
    assert int(changed.next_visible_time) > old.next_visible_time
    assert sdk_error(queue.delete_message, old.receipt_handle).type == "MessageNotExist"
    queue.delete_message(changed.receipt_handle)


def test_visibility_changed_to_zero_shows_the_message_at_once(
    sandbox: Sandbox, mns_account: Accounts
) -> None:
    queue = mns_account(sandbox).get_queue(sandbox.queue("SmsReport"))
    sandbox.send_mns(queue.queue_name, "x")
    queue.change_message_visibility(queue.receive_message(0).receipt_handle, 0)

    again = queue.receive_message(0)

    assert again.dequeue_count == 2


def test_peeking_hides_nothing(sandbox: Sandbox, mns_account: Accounts) -> None:
    queue = mns_account(sandbox).get_queue(sandbox.queue("SmsReport"))
    for n in range(3):
        sandbox.send_mns(queue.queue_name, str(n))

    peeked = [one.message_body for one in queue.batch_peek_message(16)]

    assert peeked == [b"0", b"1", b"2"]
    assert queue.peek_message().message_body == b"0"
    assert len(queue.batch_receive_message(16, 0)) == 3
    assert sdk_error(queue.peek_message).type == "MessageNotExist"


def test_the_sdk_sends_one_message_and_a_batch(sandbox: Sandbox, mns_account: Accounts) -> None:
    queue = mns_account(sandbox).get_queue(sandbox.queue("SmsReport"))

    one = queue.send_message(Message("一"))
    batch = queue.batch_send_message([Message("b", priority=1), Message("c", delay_seconds=60)])

    received = queue.batch_receive_message_with_str_body(16, 0)
    assert [message.message_body for message in received] == ["b", "一"]  # by priority
    assert received[1].message_id == one.message_id
    assert received[1].message_body_md5 == one.message_body_md5
    assert len({entry.message_id for entry in batch}) == 2
    assert sandbox.depth(queue.queue_name) == 3


# The SDK's own get_attributes fills in a property that the SDK has deprecated.
@pytest.mark.filterwarnings("ignore:Call to deprecated function .*:DeprecationWarning")
def test_queues_are_made_listed_changed_and_deleted(
    sandbox: Sandbox, mns_account: Accounts
) -> None:
    account = mns_account(sandbox)
    queue = account.get_queue("own-queue")

    url = queue.create(QueueMeta(vis_timeout=7, polling_wait_sec=0))
    queue.send_message(Message("x"))
    queue.set_attributes(QueueMeta(vis_timeout=9))

    assert url == f"{sandbox.url}/queues/own-queue"
    attributes = queue.get_attributes()
    assert attributes.visibility_timeout == 9
    assert attributes.active_messages == 1
    assert sdk_error(queue.create, QueueMeta(vis_timeout=8)).type == "QueueAlreadyExist"
    assert account.list_queue(prefix="own") == ([url], "")
    names, marker = account.list_queue(ret_number=2)
    assert len(names) == 2
    assert account.list_queue(marker=marker)[0][0] not in names
    queue.delete()
    assert sdk_error(queue.get_attributes).type == "QueueNotExist"
    assert account.list_queue(prefix="own")[0] == []


def test_what_the_service_would_not_take_is_refused(
    sandbox: Sandbox, mns_account: Accounts
) -> None:
    account = mns_account(sandbox)
    queue = account.get_queue(sandbox.queue("SmsReport"))

    assert sdk_error(queue.batch_receive_message, 17, 0).type == "InvalidArgument"
    assert sdk_error(queue.batch_receive_message, 16, 31).type == "InvalidArgument"
    assert sdk_error(queue.batch_delete_message, ["a"] * 17).type == "InvalidArgument"
    assert sdk_error(account.get_queue("none").receive_message, 0).type == "QueueNotExist"


@pytest.mark.parametrize(
    ("key", "secret", "token", "code"),
    [
        ("nobody", "testSK", "", "InvalidAccessKeyId"),
        ("testAK", "wrong", "", "SignatureDoesNotMatch"),
    ],
)
def test_wrong_credentials_are_refused(
    sandbox: Sandbox, mns_account: Accounts, key: str, secret: str, token: str, code: str
) -> None:
    queue = mns_account(sandbox, key, secret, token).get_queue(sandbox.queue("SmsReport"))

    assert sdk_error(queue.receive_message, 0).type == code


def test_a_request_from_another_time_is_refused(sandbox: Sandbox, wire: Wires) -> None:
    sandbox.skew_s = 16 * 60

    reply = wire(sandbox).receive(sandbox.queue("SmsReport"))

    assert (reply.status, reply.first("Code")) == (408, "TimeExpired")


@pytest.mark.parametrize(
    ("left_out", "code"),
    [
        ("authorization", "MissingAuthorizationHeader"),
        ("date", "MissingDateHeader"),
        ("x-mns-version", "MissingVersionHeader"),
    ],
)
def test_missing_headers_are_named(sandbox: Sandbox, wire: Wires, left_out: str, code: str) -> None:
    client = wire(sandbox)
    target = f"/queues/{sandbox.queue('SmsReport')}/messages"
    headers = client.signed("GET", target)
    del headers[left_out]

    reply = client.send("GET", target, b"", headers)

    assert (reply.status, reply.first("Code")) == (400, code)


def test_answers_look_as_the_sdks_of_other_languages_need_them(
    sandbox: Sandbox, wire: Wires
) -> None:
    queue = sandbox.queue("SmsReport")
    sandbox.send_mns(queue, "x")
    client = wire(sandbox)

    reply = client.receive(queue)
    empty = client.receive(queue)

    assert b'<Messages xmlns="http://mns.aliyuncs.com/doc/v1">' in reply.body
    assert reply.header("x-mns-request-id")
    assert reply.header("Date")
    assert reply.first("ReceiptHandle").replace("-", "").replace("_", "").isalnum()
    assert empty.status == 404
    assert [empty.first(name) for name in ("Code", "HostId")] == ["MessageNotExist", sandbox.url]
    assert empty.first("RequestId") == empty.header("x-mns-request-id")


@pytest.mark.parametrize("spelling", ["ReceiptHandle", "receiptHandle"])
def test_either_spelling_of_the_handle_works(sandbox: Sandbox, wire: Wires, spelling: str) -> None:
    queue = sandbox.queue("SmsReport")
    sandbox.send_mns(queue, "x")
    client = wire(sandbox)
    handle = client.receive(queue).first("ReceiptHandle")

    reply = client.call("DELETE", f"/queues/{queue}/messages?{spelling}={handle}")

    assert (reply.status, reply.body) == (204, b"")


def test_on_ack_is_called_while_the_message_is_still_there(
    sandbox: Sandbox, mns_account: Accounts
) -> None:
    queue = mns_account(sandbox).get_queue(sandbox.queue("SmsReport"))
    sandbox.send_mns(queue.queue_name, "x")
    seen: list[tuple[AckEvent, int]] = []
    sandbox.on_ack = lambda ack: seen.append((ack, sandbox.depth(ack.queue)))

    queue.delete_message(queue.receive_message(0).receipt_handle)

    assert [(ack.body, depth) for ack, depth in seen] == [(b"x", 1)]
    assert sandbox.depth(queue.queue_name) == 0


def test_what_on_ack_raises_comes_out_of_the_sandbox(wire: Wires) -> None:
    def not_durable(ack: AckEvent) -> None:
        raise LookupError("acked before the commit")

    sandbox = Sandbox()
    sandbox.start()
    queue = sandbox.queue("SmsReport")
    sandbox.send_mns(queue, "x")
    sandbox.on_ack = not_durable
    client = wire(sandbox)
    reply = client.delete(queue, client.receive(queue).first("ReceiptHandle"))

    assert reply.status == 500
    assert sandbox.depth(queue) == 1
    with pytest.raises(LookupError, match="before the commit"):
        sandbox.__exit__(None, None, None)


def test_a_body_that_is_not_what_its_digest_says_is_refused(sandbox: Sandbox, wire: Wires) -> None:
    target = f"/queues/{sandbox.queue('SmsReport')}/messages"

    reply = wire(sandbox).call("DELETE", target, handles_body("a"), content_md5="bm90IGl0")

    assert (reply.status, reply.first("Code")) == (400, "InvalidDegist")


def test_a_batch_may_be_shorter_than_the_queue(wire: Wires) -> None:
    with Sandbox(batch_limit=3) as sandbox:
        queue, client = sandbox.queue("SmsReport"), wire(sandbox)
        for n in range(5):
            sandbox.send_mns(queue, str(n))

        assert [len(client.receive(queue).all("MessageId")) for _ in range(2)] == [3, 2]
