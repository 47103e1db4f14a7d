"""Poison on the wire (rows P): one bad message among sixteen costs the other fifteen nothing.

Each file of tests/fixtures/wire is one message: `why`, `broker`, the raw XML, and what must come
of it. A new oddity is a new file.
"""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd.model import Envelope
from receiptd.pullers.xml import MAX_SALVAGED, read_messages, read_refusal
from tests.pullers.puller_harness import KINDS, make_puller
from tests.pullers.scripted_server import (
    DATE_EPOCH_MS,
    ScriptedServer,
    always,
    answer,
    batch,
    message,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "wire"
CASES: list[dict[str, Any]] = [
    {"name": path.stem, **tomllib.loads(path.read_text(encoding="utf-8"))}
    for path in sorted(FIXTURES.glob("*.toml"))
]
PARAMS = [
    pytest.param(kind, case, id=f"{case['name']}-{kind}")
    for case in CASES
    for kind in KINDS
    if case["broker"] in (kind, "both")
]
BROKEN = b"<Message><MessageId>id-broken</MessageId><MessageBody>&</MessageBody></Message>"
MISSING = -1  # TOML has no null


def raw_of(case: dict[str, Any]) -> bytes:
    raw = bytes(case["message"], "utf-8")
    for placeholder, value in case.get("replace", {}).items():
        raw = raw.replace(placeholder.encode(), bytes.fromhex(value))
    return raw


def pull(kind: str, document: bytes) -> list[Envelope]:
    with ScriptedServer(always(answer(200, document))) as server:
        puller = make_puller(kind, server.url)
        envelopes = puller.pull(16, 0)
        puller.close()
    return envelopes


def check(kind: str, case: dict[str, Any], envelope: Envelope) -> None:
    expect = case["expect"]
    if "body_hex" in expect:
        body = bytes.fromhex(expect["body_hex"])
    elif "body" in expect:
        body = expect.get(f"body_{kind}", expect["body"]).encode()
    else:
        body = raw_of(case)  # damaged: as it came
    assert envelope.flaw == expect.get("flaw")
    assert envelope.body == body
    assert envelope.handle == expect.get("handle", "handle-poison")
    assert envelope.envelope_id == expect.get("envelope_id", "id-poison")
    if "pull_count" in expect:
        count = expect["pull_count"]
        assert envelope.pull_count == (None if count == MISSING else count)
        assert envelope.visible_until is None
        assert envelope.enqueued_at is None


@pytest.mark.parametrize(("kind", "case"), PARAMS)
def test_one_bad_message_costs_the_other_fifteen_nothing(kind: str, case: dict[str, Any]) -> None:
    sound = [message(kind, number) for number in range(15)]

    envelopes = pull(kind, batch(*sound[:7], raw_of(case), *sound[7:]))

    others = envelopes[:7] + envelopes[8:]
    assert [one.handle for one in others] == [f"handle-{number}" for number in range(15)]
    assert {one.body for one in others} == {b"{}" if kind == "mns" else b"e30="}
    assert {(one.flaw, one.pull_count) for one in others} == {(None, 1)}
    check(kind, case, envelopes[7])
    mismatches = [one.digest_differs for one in envelopes]
    assert sum(mismatches) == case["expect"].get("digest_mismatches", sum(mismatches))


@pytest.mark.parametrize(("kind", "case"), PARAMS)
def test_a_message_is_read_alike_in_a_sound_and_in_a_broken_document(
    kind: str, case: dict[str, Any]
) -> None:
    document = batch(message(kind, 0), BROKEN, raw_of(case), BROKEN, message(kind, 4))

    envelopes = pull(kind, document)

    assert (envelopes[0].flaw, envelopes[-1].flaw) == (None, None)
    if "lost_in_a_broken_document" in case:  # holds the reason
        return
    assert [one.flaw for one in envelopes[1:4:2]] == ["damaged", "damaged"]
    check(kind, case, envelopes[2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("namespace", ["", ' xmlns="urn:a"', ' xmlns="http://x/doc/v1/"'])
def test_namespaces_do_not_matter(kind: str, namespace: str) -> None:
    document = batch(message(kind)).replace(
        b' xmlns="http://mns.aliyuncs.com/doc/v1/"', namespace.encode()
    )
    envelopes = pull(kind, document)
    assert [one.handle for one in envelopes] == ["handle-1"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_message_as_root_and_an_empty_list_are_understood(kind: str) -> None:
    assert len(pull(kind, message(kind))) == 1
    assert pull(kind, batch()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_visible_until_is_on_our_monotonic_scale_whatever_the_hosts_clock_says(kind: str) -> None:
    class StoppedClock:
        def monotonic(self) -> float:
            return 1000.0

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} must not matter")

    with ScriptedServer(always(answer(200, batch(message(kind))))) as server:
        puller = make_puller(kind, server.url, clock=StoppedClock())
        (envelope,) = puller.pull(16, 0)
        puller.close()

    assert envelope.visible_until == 1030.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 May 2024 07:08:09 GMT"])
def test_without_a_date_nothing_is_said_about_visibility(kind: str, date: str) -> None:
    sent = answer(200, batch(message(kind))).replace(
        b"Mon, 06 May 2024 07:08:09 GMT", date.encode()
    )
    with ScriptedServer(always(sent)) as server:
        puller = make_puller(kind, server.url)
        (envelope,) = puller.pull(16, 0)
        puller.close()
    assert envelope.visible_until is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset_ms", [-1, 0, 43_200_001])
def test_a_visibility_that_cannot_be_is_not_believed(kind: str, offset_ms: int) -> None:
    raw = message(kind).replace(
        b"%d" % (DATE_EPOCH_MS + 30_000), b"%d" % (DATE_EPOCH_MS + offset_ms)
    )
    assert pull(kind, batch(raw))[0].visible_until is None


@given(st.binary(max_size=2000))
def test_no_bytes_raise(document: bytes) -> None:
    read_messages(document)
    read_messages(b"<Messages><Message>" + document + b"</Message></Messages>")
    read_refusal(document)
    read_refusal(b"<Errors><Error>" + document + b"</Error></Errors>")


_PIECES = st.sampled_from(
    b"< > & </MessageBody> <MessageBody> <![CDATA[ ]]> ]] <!-- --> <? \0 \xff &#1; <x> </x> text"
    b" <ReceiptHandle> \r\n".split(b" ")
)


@given(st.lists(_PIECES, max_size=12).map(b"".join))
def test_whatever_a_body_holds_its_neighbours_are_read(body: bytes) -> None:
    document = batch(message("mns", 1), message("mns", 2, body), message("mns", 3))
    messages = read_messages(document)
    assert messages is not None
    assert [messages[0].handle, messages[-1].handle] == [
        "handle-1",
        "handle-3",
    ]
    assert (messages[0].damaged, messages[-1].damaged) == (None, None)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece",
    [
        b"<Message>",
        b"</Message>",
        b"<![CDATA[",
        b"]]>",
        b"<Message><![CDATA[",
        b"<MessageBody>",
        b"<Message></Message>",
        b"<!--",
        b"&",
        b"<a>",
    ],
)
def test_four_mebibytes_of_nonsense_are_read_in_linear_time_and_give_sixteen_at_most(
    piece: bytes,
) -> None:
    document = b"<Messages>" + piece * (4 * 1024 * 1024 // len(piece)) + b"</Messages>"
    messages = read_messages(document)
    assert messages is None or len(messages) <= MAX_SALVAGED
