"""Each misbehaviour that the fault matrix names can be produced, and is seen by a raw client."""

import http.client
import socket
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from receiptd.sandbox import Fault, Sandbox
from receiptd.sandbox.poison import wire_message
from tests.sandbox.wire import Wire, everything

Wires = Callable[[Sandbox], Wire]


@pytest.fixture
def client(sandbox: Sandbox, wire: Wires) -> Wire:
    """A raw client; one message waits in the queue."""
    sandbox.send_mns(sandbox.queue("SmsReport"), "x")
    return wire(sandbox)


@pytest.fixture
def queue(sandbox: Sandbox) -> str:
    return sandbox.queue("SmsReport")


def receive_on_a_socket(client: Wire, queue: str, timeout_s: float = 10) -> socket.socket:
    return client.raw("GET", f"/queues/{queue}/messages?numOfMessages=16", timeout_s)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_proxys_error_page(client: Wire, queue: str, status: int) -> None:
    client.sandbox.set_fault(Fault.html(status))

    reply = client.receive(queue)

    assert reply.status == status
    assert reply.body.startswith(b"<html>")
    assert client.sandbox.deliveries == {}


def test_an_empty_503(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="status", status=503))

    assert client.receive(queue).body == b""


def test_a_captive_portal(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault.portal())

    reply = client.receive(queue)

    assert (reply.status, reply.header("Content-Type")) == (200, "text/html")
    assert b"WiFi" in reply.body


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_deletes_nothing(client: Wire, queue: str, status: int) -> None:
    handle = client.receive(queue).first("ReceiptHandle")
    client.sandbox.set_fault(Fault.redirect("http://127.0.0.1:9/", "delete", status))

    reply = client.delete(queue, handle)

    assert (reply.status, reply.header("Location")) == (status, "http://127.0.0.1:9/")
    assert client.sandbox.depth(queue) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("QpsLimitExceeded", 400),
        ("InternalError", 500),
        ("AccessDenied", 403),
        ("TimeExpired", 408),
    ],
)
def test_an_error_of_the_service(client: Wire, queue: str, code: str, status: int) -> None:
    client.sandbox.set_fault(Fault.error(code, "receive"))

    reply = client.receive(queue)

    assert (reply.status, reply.first("Code")) == (status, code)
    assert reply.first("RequestId") == reply.header("x-mns-request-id")


def test_an_error_of_the_gateway_is_in_its_own_form(client: Wire) -> None:
    client.sandbox.set_fault(Fault.error("Throttling.User", "token", status=400))
    target = "/?Action=QueryTokenForMnsQueue"

    reply = client.send("GET", target, b"", {})

    assert reply.status == 400
    assert b'"Code":"Throttling.User"' in reply.body


def test_an_early_empty_answer_does_not_wait(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="empty", operation="receive"))

    reply = client.receive(queue, wait_s=30)

    assert (reply.status, reply.first("Code")) == (404, "MessageNotExist")


def test_a_truncated_body(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="truncate"))

    with pytest.raises(http.client.IncompleteRead):
        client.receive(queue)

    assert sum(client.sandbox.deliveries.values()) == 1


def test_xml_cut_in_a_whole_answer(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="cut_xml"))

    reply = client.receive(queue)

    assert reply.status == 200
    assert b"</Messages>" not in reply.body


def test_a_reset_before_answering_executes_nothing(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="reset"))

    with pytest.raises(ConnectionResetError):
        client.receive(queue)

    assert client.sandbox.deliveries == {}


@pytest.mark.parametrize("kind", ["reset", "drop"])
def test_a_lost_answer_after_the_broker_executed(client: Wire, queue: str, kind: str) -> None:
    handle = client.receive(queue).first("ReceiptHandle")
    client.sandbox.set_fault(Fault.build(kind, "delete", when="after", times=1))

    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        client.delete(queue, handle)
    client.close()

    assert client.sandbox.depth(queue) == 0
    assert client.delete(queue, handle).first("ErrorCode") == "MessageNotExist"


def test_a_reset_in_the_middle_of_the_body(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="reset_mid_body"))

    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        client.receive(queue)


def test_a_drop_is_an_end_without_an_answer(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="drop"))

    sock = receive_on_a_socket(client, queue)

    assert everything(sock) == b""
    sock.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hang_never_answers(client: Wire, queue: str, when: str) -> None:
    client.sandbox.set_fault(Fault.build("hang", when=when))

    sock = receive_on_a_socket(client, queue, timeout_s=0.2)

    with pytest.raises(TimeoutError):
        sock.recv(1)
    sock.close()
    assert len(client.sandbox.deliveries) == (when == "after")


def test_a_slow_answer_comes_in_the_end(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="delay", seconds=0.2))
    sock = receive_on_a_socket(client, queue, timeout_s=0.05)

    with pytest.raises(TimeoutError):
        sock.recv(1)
    sock.settimeout(10)

    assert sock.recv(12) == b"HTTP/1.1 200"
    sock.close()


def test_slow_loris_headers_come_byte_by_byte(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="slow_headers", seconds=0.01))
    sock = receive_on_a_socket(client, queue)

    assert [len(sock.recv(1000)) for _ in range(3)] == [1, 1, 1]
    sock.close()


def test_a_slow_loris_body_follows_whole_headers(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="slow_body", seconds=0.01))
    sock = receive_on_a_socket(client, queue)

    head = sock.recv(1000)

    assert b"\r\n\r\n" in head
    assert len(sock.recv(1000)) == 1
    sock.close()


def test_a_huge_body(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="huge", mib=8))

    assert len(client.receive(queue).body) > 8 << 20


@pytest.mark.parametrize("kind", ["close_after", "reset_after"])
def test_a_keep_alive_connection_ends_after_a_good_answer(
    client: Wire, queue: str, kind: str
) -> None:
    client.sandbox.set_fault(Fault.build(kind, seconds=0.05))

    assert client.receive(queue).status == 200
    assert client.conn.sock is not None
    if kind == "close_after":
        assert client.conn.sock.recv(1) == b""
    else:
        with pytest.raises(ConnectionResetError):
            client.conn.sock.recv(1)


def test_an_entity_bomb(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="entity_bomb"))

    assert b"<!ENTITY l9" in client.receive(queue).body


def test_an_external_entity(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="external_entity"))

    assert b'SYSTEM "file:///etc/passwd"' in client.receive(queue).body


def test_deeply_nested_xml(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="deep_xml", depth=1000))

    assert client.receive(queue).body.count(b"<a>") == 1000


def test_xml_that_is_not_utf8(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="not_utf8"))

    with pytest.raises(UnicodeDecodeError):
        client.receive(queue).body.decode()


@pytest.mark.parametrize("status", [200, 207, 404])
def test_a_batch_delete_that_lies(client: Wire, queue: str, status: int) -> None:
    handle = client.receive(queue).first("ReceiptHandle")
    client.sandbox.set_fault(Fault(kind="refuse_handles", operation="delete", status=status))

    reply = client.delete(queue, handle)

    assert (reply.status, reply.all("ReceiptHandle")) == (status, [handle])
    assert client.sandbox.depth(queue) == 1
    assert client.sandbox.acked == []


def test_a_batch_delete_that_fails_in_part(client: Wire, queue: str) -> None:
    for n in range(15):
        client.sandbox.send_mns(queue, str(n))
    handles = client.receive(queue).all("ReceiptHandle")
    client.sandbox.set_fault(
        Fault(kind="partial", operation="delete", handles=2, handle_code="ReceiptHandleError")
    )

    reply = client.delete(queue, *handles)

    assert (reply.status, reply.all("ReceiptHandle")) == (404, handles[:2])
    assert set(reply.all("ErrorCode")) == {"ReceiptHandleError"}
    assert client.sandbox.depth(queue) == 2


def test_acks_of_a_group_fail_in_part_too(client: Wire) -> None:
    topic = client.sandbox.topic
    for n in range(3):
        client.sandbox.publish_mq(topic, str(n))
    handles = client.consume(topic).all("ReceiptHandle")
    client.sandbox.set_fault(Fault(kind="partial", operation="ack"))

    reply = client.ack(topic, *handles)

    assert b'xmlns="http://mq.aliyuncs.com/doc/v1"' in reply.body
    assert reply.header("x-mq-request-id")
    assert client.sandbox.depth(topic, "GID") == 1


def test_request_id_headers_in_another_case_or_missing(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault(kind="header_case", times=1))
    client.sandbox.set_fault(Fault(kind="no_request_id", skip=1))

    other_case = dict(client.receive(queue).headers)
    missing = dict(client.receive(queue).headers)

    assert "X-Mns-Request-Id" in other_case
    assert not [name for name in missing if name.lower() == "x-mns-request-id"]


def test_a_fault_strikes_its_operation_only(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault.html(502, ("delete", "mq")))

    assert client.receive(queue).status == 200
    assert client.consume(client.sandbox.topic).status == 502


def test_a_fault_strikes_its_target_only(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault.html(502, target="SmsUp"))

    assert client.receive(queue).status == 200
    assert client.receive(client.sandbox.queue("SmsUp")).status == 502


def test_a_fault_ends_after_its_times_or_when_it_is_cleared(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault.html(502, times=2, skip=1))
    counted = [client.receive(queue).status for _ in range(4)]
    client.sandbox.set_fault(Fault.html(503))
    lasting = client.receive(queue).status
    client.sandbox.clear_faults()

    assert counted == [200, 502, 502, 404]
    assert (lasting, client.receive(queue).status) == (503, 404)


def test_a_share_of_the_requests_is_struck(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault.html(502, share=0.5))

    struck = sum(client.receive(queue).status == 502 for _ in range(100))

    assert 20 < struck < 80


def test_faults_are_noted_beside_the_request(client: Wire, queue: str) -> None:
    client.sandbox.set_fault(Fault.html(502, times=1))
    client.receive(queue)

    event = client.sandbox.requests[-1]

    assert (event.operation, event.status, event.faults) == ("receive", 502, ("status",))
    assert client.sandbox.request_counts == {"receive": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "nonsense"},
        {"kind": "error"},
        {"kind": "hang", "operation": "sometimes"},
        {"kind": "truncate", "when": "after"},
        {"kind": "hang", "share": 0},
        {"kind": "hang", "colour": "red"},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Fault.model_validate(wrong)


def test_a_poisoned_message_sits_among_good_ones(client: Wire, queue: str) -> None:
    poison = wire_message(b"<MessageBody>e30=\x00</MessageBody>")
    message_id = client.sandbox.send_raw_mns(queue, poison)
    client.sandbox.send_mns(queue, "y")

    reply = client.receive(queue)

    assert reply.all("MessageBody") == ["eA==", "e30=\x00", "eQ=="]
    assert reply.all("MessageId")[1] == message_id
    assert client.delete(queue, *reply.all("ReceiptHandle")).status == 204
    assert [ack.body for ack in client.sandbox.acked] == [b"x", poison, b"y"]


def test_a_body_is_sent_as_it_is_if_not_to_be_encoded(client: Wire, queue: str) -> None:
    client.sandbox.send_mns(queue, "not base64!", encode=False)

    assert client.receive(queue).all("MessageBody") == ["eA==", "not base64!"]
