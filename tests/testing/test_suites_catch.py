"""The suites of `receiptd.testing` find what is wrong: each bug that is planted here fails the
claim that it breaks."""

import ast
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook

from receiptd import testing
from receiptd.model import Committed, Envelope, ErrClass, Origin, Receipt, Record
from receiptd.providers.aliyun import PROVIDER, AliyunProvider
from receiptd.providers.base import Context, Normalizer, SendReader
from receiptd.pullers.base import AckResult, Puller
from receiptd.pullers.push import PushPuller
from receiptd.testing.delivery import DeliveryConformance
from receiptd.testing.provider import ProviderConformance, Samples
from tests.providers.test_provider_conformance import samples_of
from tests.pullers.test_push import Provider

# --- pullers ---


class AcksWhatItPulls(PushPuller):
    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        envelopes = super().pull(batch_size, wait_s)
        self.ack([Committed(one) for one in envelopes])
        return envelopes


class DropsWhatItCannotRead(PushPuller):
    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        envelopes = super().pull(batch_size, wait_s)
        self.ack([Committed(one) for one in envelopes if one.flaw])
        return [one for one in envelopes if not one.flaw]


class ChangesBodies(PushPuller):
    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        envelopes = super().pull(batch_size, wait_s)
        return [msgspec.structs.replace(one, body=one.body + b" ") for one in envelopes]


class AcksNothing(PushPuller):
    def ack(self, committed: Sequence[Committed]) -> AckResult:
        return AckResult(acked=len(committed))


SUITE = DeliveryConformance()
ALL_IS_WELL = SUITE.test_an_answer_that_breaks_off_costs_nothing
UNREADABLE = SUITE.test_a_message_that_the_puller_cannot_read_is_quarantined_too


@pytest.mark.parametrize(
    ("puller", "claim"),
    [
        (AcksWhatItPulls, ALL_IS_WELL),
        (ChangesBodies, ALL_IS_WELL),
        (AcksNothing, ALL_IS_WELL),
        (DropsWhatItCannotRead, UNREADABLE),
    ],
)
def test_a_puller_with_a_bug_fails(
    puller: type[PushPuller], claim: Callable[..., None], tmp_path: Path
) -> None:
    class Buggy(Provider):
        def open(self) -> Puller:
            return puller("buggy", self.inbox)

        def cut_next_answer(self) -> None:
            """Not needed to find them."""

    class Right(Buggy):
        def open(self) -> Puller:
            return PushPuller("right", self.inbox)

    claim(Right(), f"sqlite:///{tmp_path}/right.db")
    with pytest.raises(AssertionError):
        claim(Buggy(), f"sqlite:///{tmp_path}/bug.db")


# --- providers ---

READ = PROVIDER.normalizers["SmsReport"]


def changed(**fields: Callable[[Receipt, Mapping[str, Any]], object]) -> Normalizer:
    """Return a normalizer that gets some fields wrong."""

    def read(data: Mapping[str, object], context: Context) -> Record:
        right = READ(data, context)
        assert isinstance(right, Receipt)
        wrong = {name: get(right, data) for name, get in fields.items()}
        return msgspec.structs.replace(right, **wrong)

    return read


def forgetful(data: Mapping[str, object], context: Context) -> Record:
    data["biz_id"].strip()  # type: ignore[attr-defined]
    return READ(data, context)


def grasping(data: Mapping[str, object], context: Context) -> Record:
    record = READ(data, context)
    data.pop("sms_size", None)  # type: ignore[attr-defined]
    return record


def local_time(_: Receipt, data: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(data["report_time"]).astimezone()


def as_a_number(_: Receipt, data: Mapping[str, Any]) -> str:
    """As a Double, which is how many a JSON reader takes a number."""
    head, mark, tail = str(data["biz_id"]).partition("^")
    return f"{int(float(head))}{mark}{tail}"


HOLDS = "whatever_an_object_holds_it_is_a_sound_record_or_a_refusal"
SAME = "a_message_is_read_the_same_each_time_and_left_as_it_is"
ZONE = "a_host_in_any_zone_reads_the_same_times"
DIGITS = "an_id_is_the_text_that_came_to_the_last_digit"
WHENCE = "a_record_says_where_it_came_from"
UNKNOWN = "a_field_that_nobody_knows_changes_nothing"
NORMALIZERS: dict[str, tuple[Normalizer, str]] = {
    "raises KeyError": (forgetful, HOLDS),
    "takes from its input": (grasping, SAME),
    "reads the host's time": (changed(reported_at=local_time), ZONE),
    "rounds ids": (changed(biz_id=as_a_number), DIGITS),
    "keeps numbers as they came": (changed(phone=lambda _, data: data["phone_number"]), WHENCE),
    "has no class for failures": (changed(err_class=lambda *_: None), WHENCE),
    "names an account of its own": (changed(account=lambda *_: "main"), WHENCE),
    "reads what nobody knows": (changed(out_id=lambda _, data: str(sorted(data))[:200]), UNKNOWN),
}


def sampled(**wrong: Any) -> Samples:
    """Return samples of one message type and one send API, and Aliyun's provider with something
    wrong in it."""
    provider = AliyunProvider()
    for name, value in wrong.items():
        setattr(provider, name, value)
    every = samples_of(PROVIDER)
    messages = [one for one in every.messages if one.message_type in provider.normalizers]
    sends = [one for one in every.sends if one.api in provider.send_readers]
    return Samples(provider, every.account, messages, sends)


@pytest.mark.parametrize("bug", NORMALIZERS)
def test_a_normalizer_with_a_bug_fails(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    normalizer, claim = NORMALIZERS[bug]
    more: dict[str, Any] = {"monkeypatch": monkeypatch} if claim == ZONE else {}
    more |= {"exact": "00012345678901234567890123"} if claim == DIGITS else {}
    test = getattr(ProviderConformance(), f"test_{claim}")

    test(sampled(normalizers={"SmsReport": READ}), **more)
    with pytest.raises((AssertionError, KeyError, AttributeError)):
        test(sampled(normalizers={"SmsReport": normalizer}), **more)


# --- send readers ---

SEND = PROVIDER.send_readers["SendSms"]
Rows = Callable[[list[Receipt], Mapping[str, Any]], list[Receipt]]


def sending(wrong: Rows) -> SendReader:
    """Return a reader that gets its rows wrong."""

    def read(
        request: Mapping[str, object],
        response: Mapping[str, object],
        context: Context,
        submitted_at: datetime,
    ) -> list[Receipt]:
        return wrong(SEND(request, response, context, submitted_at), response)

    return read


def replacing(**fields: Any) -> Rows:
    return lambda rows, _: [msgspec.structs.replace(row, **fields) for row in rows]


def with_a_new_id(rows: list[Receipt], response: Mapping[str, Any]) -> list[Receipt]:
    ours = [msgspec.structs.replace(row, biz_id=f"unanswered:{uuid4()}") for row in rows]
    return rows if response else ours


EACH = "each_number_has_one_row_whatever_was_answered"
ACCEPTED = "what_was_accepted_is_awaited_under_the_id_of_the_answer"
REFUSED = "what_was_refused_has_failed_with_its_code_and_class"
UNANSWERED = "a_call_without_an_answer_is_awaited_and_two_tries_are_two"
SAME_CALL = "the_same_call_has_the_same_rows_and_is_left_as_it_is"
WHOSE = "a_row_says_whose_it_is_and_when_it_was_sent"
READERS: dict[str, tuple[Rows, str]] = {
    "forgets a number": (lambda rows, response: rows[: 1 if response else None], EACH),
    "has ids of its own": (replacing(biz_id="1"), ACCEPTED),
    "does not say why": (replacing(err_code=None), REFUSED),
    "takes every failure for one": (replacing(err_class=ErrClass.CONTENT), REFUSED),
    "gives no answer for an answer": (replacing(biz_id="1"), UNANSWERED),
    "makes up an id each time": (with_a_new_id, SAME_CALL),
    "says that it was received": (replacing(origin=Origin.QUEUE), WHOSE),
    "does not know when": (replacing(submitted_at=None), WHOSE),
}


@pytest.mark.parametrize("bug", READERS)
def test_a_send_reader_with_a_bug_fails(bug: str) -> None:
    wrong, claim = READERS[bug]
    test = getattr(ProviderConformance(), f"test_{claim}")

    test(sampled(send_readers={"SendSms": SEND}))
    with pytest.raises(AssertionError):
        test(sampled(send_readers={"SendSms": sending(wrong)}))


def test_a_claim_that_does_not_hold_is_shown_with_what_was_compared() -> None:
    modules = [path.stem for path in Path(testing.__file__).parent.glob("*.py")]
    for name in set(modules) - {"__init__"}:
        module = importlib.import_module(f"{testing.__name__}.{name}")
        tree = ast.parse(inspect.getsource(module))
        if any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
            assert isinstance(module.__loader__, AssertionRewritingHook), name
