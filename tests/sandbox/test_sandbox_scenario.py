"""What becomes of sent messages follows the scenario, the same way for the same seed."""

import base64
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from receiptd.sandbox import Fault, ManualClock, Sandbox, Scenario
from receiptd.sandbox.sms import Desk
from receiptd.sandbox.world import World
from tests.sandbox.wire import Wire

PHONES = [f"139{n:08d}" for n in range(300)]
Wires = Callable[[Sandbox], Wire]


def drained(client: Wire, queue: str) -> list[Any]:
    """Receive and delete everything; return the bodies, None for what is not JSON."""
    bodies: list[Any] = []
    while (reply := client.receive(queue)).status == 200:
        for text in reply.all("MessageBody"):
            try:
                bodies.append(json.loads(base64.b64decode(text, validate=True)))
            except (ValueError, RecursionError):
                bodies.append(None)
        client.delete(queue, *reply.all("ReceiptHandle"))
    return bodies


def test_the_same_seed_gives_the_same_fates() -> None:
    scenario = Scenario(seed=7, failed=0.3, lost=0.2)
    seen = []
    for _ in range(2):
        sandbox = Sandbox(scenario=scenario)
        sandbox.send_sms(PHONES)
        sandbox.send_sms(PHONES, out_id="again")
        codes = [dispatch.code for dispatch in sandbox.dispatches]
        seen.append(([(sent.phone, sent.fate) for sent in sandbox.sends], codes))
        sandbox.stop()

    assert seen[0] == seen[1]
    counted = Counter(fate for _, fate in seen[0][0])
    assert counted["delivered"] > counted["failed"] > counted["lost"] > 50


def test_receipt_ids_do_not_repeat_over_restarts() -> None:
    ids: set[str] = set()
    for started_at in (1_000.0, 1_001.0):
        world = World(ManualClock(started_at))
        world.create_queue("P-SmsReport")
        desk = Desk(world, Scenario(seed=1), queue_prefix="P-", topic="T")
        ids |= {desk.accept(["13900000001"]) for _ in range(1000)}

    assert len(ids) == 2000
    assert all(one.endswith("^0") and one[:-2].isdigit() for one in ids)


def test_lost_messages_have_no_receipt_and_failed_ones_a_code(wire: Wires) -> None:
    scenario = Scenario(seed=1, failed=0.3, lost=0.3, error_codes={"MK:0001": 1})
    with Sandbox(scenario=scenario) as sandbox:
        sandbox.send_sms(PHONES)
        reports = drained(wire(sandbox), sandbox.queue("SmsReport"))
        fates = {sent.phone: sent.fate for sent in sandbox.sends}

    assert {report["phone_number"] for report in reports} == {
        phone for phone, fate in fates.items() if fate != "lost"
    }
    for report in reports:
        failed = fates[report["phone_number"]] == "failed"
        assert report["success"] is not failed
        assert report["err_code"] == ("MK:0001" if failed else "DELIVERED")
        assert "out_id" not in report


def test_the_fate_of_a_single_number_can_be_set() -> None:
    sandbox = Sandbox(scenario=Scenario(phones={"13900000001": "lost", "13900000002": "failed"}))
    sandbox.send_sms(["13900000001", "13900000002", "13900000003"])

    assert [sent.fate for sent in sandbox.sends] == ["lost", "failed", "delivered"]
    sandbox.stop()


def test_of_the_lost_as_many_failed_as_of_the_others() -> None:
    outcomes: dict[float | None, Counter[Any]] = {}
    for lost_failed in (None, 0.0, 1.0):
        scenario = Scenario(seed=1, failed=0.2, lost=0.6, lost_failed=lost_failed)
        sandbox = Sandbox(scenario=scenario)
        sandbox.send_sms(PHONES)
        lost = {sent.phone for sent in sandbox.sends if sent.fate == "lost"}
        outcomes[lost_failed] = Counter(one.outcome for one in sandbox.truth() if one.phone in lost)
        sandbox.stop()

    assert 60 < outcomes[None]["failed"] < 120 < sum(outcomes[None].values())
    assert outcomes[0.0].keys() == {"delivered"}
    assert outcomes[1.0].keys() == {"failed"}


def test_the_truth_is_told_of_every_message_and_does_not_wait() -> None:
    phones: Any = {"13900000002": "failed", "13900000003": "lost", "13900000004": "unanswered"}
    scenario = Scenario(phones=phones, lost_failed=0, delay_s=3600)
    sandbox = Sandbox(scenario=scenario, virtual_time=True)
    biz_id = sandbox.send_sms(["13900000001", *phones], out_id="o-1")
    shop_id = sandbox.send_sms(["13900000001"], out_id="o-2", jushita=True)

    assert sandbox.truth() == [
        ("aliyun", biz_id, "13900000001", "o-1", "delivered"),
        ("aliyun", biz_id, "13900000002", "o-1", "failed"),
        ("aliyun", biz_id, "13900000003", "o-1", "delivered"),
        ("aliyun", biz_id, "13900000004", "o-1", None),
        ("jushita", shop_id, "13900000001", "o-2", "delivered"),
    ]
    assert [sent.fate for sent in sandbox.sends][-2:] == ["unanswered", "delivered"]
    sandbox.stop()


def test_unanswered_messages_have_their_share() -> None:
    sandbox = Sandbox(scenario=Scenario(seed=1, failed=0.2, lost=0.2, unanswered=0.5))
    sandbox.send_sms(PHONES)
    counted = Counter(sent.fate for sent in sandbox.sends)
    sandbox.stop()

    assert counted["unanswered"] > counted["lost"] + counted["failed"] > counted["delivered"]
    assert sandbox.depth(sandbox.queue("SmsReport")) == counted["failed"] + counted["delivered"]


def test_duplicates_have_message_ids_of_their_own(wire: Wires) -> None:
    with Sandbox(scenario=Scenario(duplicates=1)) as sandbox:
        sandbox.send_sms(["13900000001"])

        reply = wire(sandbox).receive(sandbox.queue("SmsReport"))

    assert len(set(reply.all("MessageId"))) == 2
    assert len(set(reply.all("MessageBody"))) == 1


def test_conflicting_receipts_come_later_and_say_the_opposite(wire: Wires) -> None:
    with Sandbox(scenario=Scenario(conflicts=1), virtual_time=True) as sandbox:
        sandbox.send_sms(["13900000001"])
        sandbox.clock.advance(10)

        first, second = drained(wire(sandbox), sandbox.queue("SmsReport"))

    assert (first["success"], second["success"]) == (True, False)
    assert first["report_time"] < second["report_time"]


def test_reordered_receipts_overtake_others(wire: Wires) -> None:
    with Sandbox(scenario=Scenario(seed=3, reordered=0.3)) as sandbox:
        sandbox.send_sms(PHONES)
        reports = drained(wire(sandbox), sandbox.queue("SmsReport"))

    order = [report["phone_number"] for report in reports]
    assert order != PHONES
    assert sorted(order) == PHONES


def test_poison_comes_beside_the_receipts_not_instead(wire: Wires) -> None:
    with Sandbox(scenario=Scenario(seed=1, poison=0.2, poison_on_the_wire=True)) as sandbox:
        sandbox.send_sms(PHONES)
        reports = drained(wire(sandbox), sandbox.queue("SmsReport"))
        poisoned = sandbox.poison_ids
        acked = {ack.message_id for ack in sandbox.acked}

    good = {
        report["phone_number"]
        for report in reports
        if isinstance(report, dict) and "send_time" in report
    }
    assert good == set(PHONES)
    assert len(poisoned) > 30
    assert acked > set(poisoned)


def test_replies_come_over_the_sms_up_queue(wire: Wires) -> None:
    scenario = Scenario(replies=1, reply_texts=("TD",))
    with Sandbox(scenario=scenario, virtual_time=True) as sandbox:
        sandbox.send_sms(["13900000001"])
        sandbox.clock.advance(10)

        (reply,) = drained(wire(sandbox), sandbox.queue("SmsUp"))

    assert (reply["phone_number"], reply["content"]) == ("13900000001", "TD")
    assert isinstance(reply["sequence_id"], int)
    assert reply["sign_name"].startswith("【")


@pytest.mark.parametrize("enveloped", [False, True])
def test_jushita_receipts_come_over_the_topic(wire: Wires, enveloped: bool) -> None:
    scenario = Scenario(jushita=1, jushita_envelope=enveloped)
    with Sandbox(scenario=scenario) as sandbox:
        biz_id = sandbox.send_sms(["13900000001"], out_id="o-1")

        text = wire(sandbox).consume(sandbox.topic).first("MessageBody").replace("&quot;", '"')

    body = json.loads(text)
    if enveloped:
        assert body["topic"] == "alibaba_aliqin_TaFcSmsDR"
        body = json.loads(body["content"])
    assert body["biz_id"] == biz_id
    assert (body["state"], body["receiver"], body["extend"]) == ("1", "13900000001", "o-1")


def test_receipts_are_delayed_between_least_and_most(wire: Wires) -> None:
    scenario = Scenario(seed=1, delay_s=(10, 20))
    with Sandbox(scenario=scenario, virtual_time=True) as sandbox:
        queue, client = sandbox.queue("SmsReport"), wire(sandbox)
        sandbox.send_sms(PHONES)
        sandbox.clock.advance(9.99)
        assert client.receive(queue).status == 404
        sandbox.clock.advance(5)
        some = len(drained(client, queue))
        sandbox.clock.advance(5.02)

        assert 0 < some < len(PHONES)
        assert some + len(drained(client, queue)) == len(PHONES)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("faild = 0.1", "faild"),
        ("failed = 1.5", "failed"),
        ("failed = 0.7\nlost = 0.7", "failed"),
        ("delivered = 0.5\nfailed = 0.1", "delivered"),
        ("failed = 0.5\nlost = 0.3\nunanswered = 0.3", "unanswered"),
        ("[query]\nshufled = true", "shufled"),
        ('oaid_receivers = "shown"', "oaid_receivers"),
        ("delay_s = [5, 1]", "delay_s"),
        ("error_codes = {}", "error_codes"),
        ('phones = { "13900000001" = "eaten" }', "phones"),
        ('faults = [{ kind = "hang", operation = "dance" }]', "faults"),
    ],
)
def test_a_wrong_scenario_is_refused_by_name(text: str, names: str) -> None:
    with pytest.raises(ValidationError, match=names):
        Scenario.from_toml(text)


def test_a_scenario_can_come_from_a_file(tmp_path: Any) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(
        "seed = 1\nfailed = 0.1\ndelay_s = [0.1, 2]\n"
        '[[faults]]\nkind = "empty"\noperation = "receive"\n'
    )

    scenario = Scenario.from_file(path)

    assert scenario.delay_s == (0.1, 2)
    assert scenario.faults[0].operation == ("receive",)


def test_a_scenario_without_faults_leaves_those_in_force(wire: Wires) -> None:
    with Sandbox() as sandbox:
        client, queue = wire(sandbox), sandbox.queue("SmsUp")
        sandbox.set_fault(Fault.html(502))
        sandbox.scenario = Scenario(failed=1)
        kept = client.receive(queue).status
        sandbox.scenario = Scenario(faults=(Fault.html(503),))

        assert (kept, client.receive(queue).status) == (502, 503)
