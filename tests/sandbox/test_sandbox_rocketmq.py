"""The official RocketMQ HTTP SDK, unmodified, works against the sandbox."""

from collections.abc import Callable
from typing import Any

from mq_http_sdk.mq_exception import MQServerException
from mq_http_sdk.mq_producer import TopicMessage

from receiptd.sandbox import Sandbox
from tests.sandbox.wire import Wire, sdk_error

Clients = Callable[..., Any]
Wires = Callable[[Sandbox], Wire]
BODY = '{"biz_id":"1^0","note":"<a> & \'b\' 谢谢👍"}'


def test_the_sdk_publishes_consumes_and_acks(sandbox: Sandbox, mq_client: Clients) -> None:
    client = mq_client(sandbox)
    message = TopicMessage(BODY, "tagA")
    message.set_message_key("k-1")
    published = client.get_producer("INST", sandbox.topic).publish_message(message)
    consumer = client.get_consumer("INST", sandbox.topic, "GID_a")

    received = consumer.consume_message(16, 1)
    consumer.ack_message([received[0].receipt_handle])

    assert received[0].message_body == BODY
    assert received[0].message_id == published.message_id
    assert received[0].message_body_md5 == published.message_body_md5
    assert (received[0].message_tag, received[0].get_message_key()) == ("tagA", "k-1")
    assert received[0].consumed_times == 1
    assert received[0].next_consume_time - received[0].publish_time >= 300_000
    assert [(ack.queue, ack.body.decode()) for ack in sandbox.acked] == [(sandbox.topic, BODY)]
    error = sdk_error(consumer.consume_message, 16, 0)
    assert isinstance(error, MQServerException)
    assert error.type == "MessageNotExist"


def test_every_group_has_its_own_progress(sandbox: Sandbox, mq_client: Clients) -> None:
    client = mq_client(sandbox)
    first = client.get_consumer("INST", sandbox.topic, "GID_a")
    late = client.get_consumer("INST", sandbox.topic, "GID_b")
    sandbox.publish_mq(sandbox.topic, "one")

    first.ack_message([first.consume_message(16, 0)[0].receipt_handle])

    assert sandbox.depth(sandbox.topic, "GID_a") == 0
    assert late.consume_message(16, 0)[0].message_body == "one"
    assert sandbox.depth(sandbox.topic) == 1


def test_a_tag_expression_selects(sandbox: Sandbox, mq_client: Clients) -> None:
    for tag in ("a", "b", "c"):
        sandbox.publish_mq(sandbox.topic, tag, tag)
    consumer = mq_client(sandbox).get_consumer("INST", sandbox.topic, "GID", "a||c")

    received = consumer.consume_message(16, 0)

    assert [one.message_body for one in received] == ["a", "c"]


def test_a_partly_failed_ack_names_the_handles(sandbox: Sandbox, mq_client: Clients) -> None:
    for n in range(2):
        sandbox.publish_mq(sandbox.topic, str(n))
    consumer = mq_client(sandbox).get_consumer("INST", sandbox.topic, "GID")
    handles = [one.receipt_handle for one in consumer.consume_message(16, 0)]
    consumer.ack_message(handles[:1])

    error = sdk_error(consumer.ack_message, handles)

    assert [one["ReceiptHandle"] for one in error.sub_errors] == handles[:1]
    assert sandbox.depth(sandbox.topic, "GID") == 0


def test_an_unacked_message_comes_again_after_five_minutes(frozen: Sandbox, wire: Wires) -> None:
    message_id = frozen.publish_mq(frozen.topic, "x")
    client = wire(frozen)
    old = client.consume(frozen.topic).first("ReceiptHandle")
    frozen.clock.advance(299)
    hidden = client.consume(frozen.topic)
    frozen.clock.advance(1)

    again = client.consume(frozen.topic)

    assert hidden.status == 404
    assert (again.first("MessageId"), again.first("ConsumedTimes")) == (message_id, "2")
    assert client.ack(frozen.topic, old).first("ErrorCode") == "MessageNotExist"
    assert client.ack(frozen.topic, again.first("ReceiptHandle")).status == 204


def test_a_message_that_nobody_acks_ends_among_the_dead(frozen: Sandbox, wire: Wires) -> None:
    frozen.publish_mq(frozen.topic, "x")
    client = wire(frozen)

    for _ in range(288):
        assert client.consume(frozen.topic).status == 200
        frozen.clock.advance(300)

    assert client.consume(frozen.topic).status == 404
    assert frozen.state["dead_letters"] == {f"{frozen.topic}/GID": 1}


def test_wrong_keys_topics_and_numbers_are_refused(sandbox: Sandbox, mq_client: Clients) -> None:
    good = mq_client(sandbox)
    bad = mq_client(sandbox, "testAK", "wrong").get_consumer("INST", sandbox.topic, "GID")
    consumer = good.get_consumer("INST", sandbox.topic, "GID")

    assert sdk_error(bad.consume_message, 1, 0).type == "SignatureDoesNotMatch"
    assert sdk_error(consumer.consume_message, 17, 0).type == "InvalidArgument"
    assert sdk_error(consumer.consume_message, 16, 31).type == "InvalidArgument"
    nowhere = good.get_consumer("INST", "nowhere", "GID")
    assert sdk_error(nowhere.consume_message, 16, 0).type == "TopicNotExist"


def test_a_raw_message_goes_out_as_it_was_written(sandbox: Sandbox, wire: Wires) -> None:
    message_id = sandbox.send_raw_mq(
        sandbox.topic, "<Message><MessageId>{id}</MessageId><X a='1'>&#1;{handle}</X></Message>"
    )

    reply = wire(sandbox).consume(sandbox.topic)

    start = f"<Message><MessageId>{message_id}</MessageId><X a='1'>&#1;8-".encode()
    assert start in reply.body
