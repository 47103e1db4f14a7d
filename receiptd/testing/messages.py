"""What every normalizer keeps to: total, pure, exact, and its records merge in any order."""

import copy
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from receiptd.clock import SystemClock
from receiptd.errors import InvalidEnvelope
from receiptd.model import Envelope, Origin, Receipt, Record, Uplink
from receiptd.pipeline import Pipeline
from receiptd.providers.base import Context
from receiptd.store import Store, open_store
from receiptd.store.journal import body_bytes
from receiptd.store.schema import journal, notices, receipts, uplinks
from receiptd.testing.mutations import replaced
from receiptd.testing.samples import (
    MessageSample,
    Samples,
    flaws,
    flaws_of_refusal,
    meaning,
)

ZONES = ("UTC", "Asia/Shanghai", "America/St_Johns")
# More digits than a Double holds, leading zeros, what looks like a Double, and a number.
EXACT_IDS = ("9007199254740993", "00012345678901234567890123", "9" * 40, 9007199254740993)
_ORDERS = 3
_VARIANTS = 1000
_OURS = ("id", "created_at", "updated_at", "next_query_at", "query_count")


class MessageConformance:
    """The contract of `receiptd.providers.base.Normalizer`, as tests."""

    def test_every_message_type_has_a_sample(self, samples: Samples) -> None:
        provider = samples.provider

        assert {sample.message_type for sample in samples.messages} == set(provider.normalizers)
        assert provider.default_message_type in {None, *provider.normalizers}

    def test_a_message_means_what_its_sample_says(self, samples: Samples) -> None:
        for sample in samples.some_messages():
            record = _read(samples, sample)
            if isinstance(record, str) or isinstance(sample.means, str):
                assert record == sample.means, sample.body
            else:
                found = meaning(record)
                assert {key: found[key] for key in sample.means} == sample.means, sample.body

    def test_a_message_is_read_the_same_each_time_and_left_as_it_is(self, samples: Samples) -> None:
        first = [_read(samples, sample) for sample in samples.some_messages()]
        backwards = [_read(samples, sample) for sample in reversed(samples.messages)]

        assert backwards[::-1] == first

    def test_a_record_says_where_it_came_from(self, samples: Samples) -> None:
        elsewhere = Context(samples.provider.name, "another", Origin.REPLAY)
        for sample in samples.some_messages():
            if not isinstance(sample.means, str):
                record = samples.provider.normalizers[sample.message_type](sample.data, elsewhere)
                assert flaws(record, elsewhere) == [], sample.body

    def test_whatever_an_object_holds_it_is_a_sound_record_or_a_refusal(
        self, samples: Samples
    ) -> None:
        for sample, mutant in samples.mutants():
            before = repr(mutant)
            try:
                found = flaws(samples.read(sample, mutant), samples.context)
            except InvalidEnvelope as refusal:
                found = flaws_of_refusal(refusal)
            assert found == [], before[:2000]
            assert repr(mutant) == before, "the input was changed"

    def test_a_host_in_any_zone_reads_the_same_times(
        self, samples: Samples, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = []
        for zone in ZONES if samples.some_messages() else ():
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            read.append([_read(samples, sample) for sample in samples.messages])
        monkeypatch.undo()
        time.tzset()

        assert all(one == read[0] for one in read)

    @pytest.mark.parametrize("exact", EXACT_IDS)
    def test_an_id_is_the_text_that_came_to_the_last_digit(
        self, samples: Samples, exact: str | int
    ) -> None:
        looked_at = 0
        for sample in samples.some_messages():
            identity = _identity(_read(samples, sample))
            changed = replaced(sample.data, identity, exact) if identity else None
            if changed is None:
                continue  # a notice, or its id is made of several fields, or stands inside a text
            looked_at += 1
            assert _identity(_read(samples, sample, changed)) == str(exact), sample.body
        if not looked_at:
            pytest.skip("in no sample does the id of a record stand as it is")

    def test_a_field_that_nobody_knows_changes_nothing(self, samples: Samples) -> None:
        for sample in samples.some_messages():
            more = {**sample.data, "x-unknown": [1, {"a": None}], "x-other": "\0" * 3}
            assert _read(samples, sample, more) == _read(samples, sample), sample.body

    def test_any_order_and_repetition_ends_in_the_same_rows(
        self, samples: Samples, tmp_path: Path
    ) -> None:
        variants = [
            (sample.message_type, msgspec.json.encode(mutant))
            for sample, mutant in samples.mutants()
            if _is_receipt(samples, sample, mutant)
        ]
        variants = random.Random(0).sample(variants, min(len(variants), _VARIANTS))
        ends = []
        for seed in range(_ORDERS):
            chance = random.Random(seed)
            shuffled = variants + chance.sample(variants, len(variants) // 4)
            chance.shuffle(shuffled)
            store = open_store(f"sqlite:///{tmp_path}/order{seed}.db", SystemClock())
            store.upgrade()
            _process(samples, store, shuffled)
            ends.append(_rows(store))
            store.close()

        assert all(end == ends[0] for end in ends)

    def test_a_redelivery_is_in_the_journal_to_the_byte_and_changes_no_row(
        self, samples: Samples, store: Store
    ) -> None:
        sent = [(sample.message_type, sample.body) for sample in samples.some_messages()]

        _process(samples, store, sent)
        once = _rows(store)
        changed = _process(samples, store, sent[::-1])

        assert changed == 0
        assert _rows(store) == once
        assert _journalled(store) == Counter(body for _, body in sent * 2)


def _read(
    samples: Samples, sample: MessageSample, data: dict[str, object] | None = None
) -> Record | str:
    """Return the record, or the refusal's text; the input must not change."""
    given = sample.data if data is None else data
    before = copy.deepcopy(given)
    try:
        record: Record | str = samples.read(sample, given)
    except InvalidEnvelope as refusal:
        record = str(refusal)
    assert given == before, "the input was changed"
    return record


def _identity(record: Record | str) -> str | None:
    if isinstance(record, Receipt):
        return record.biz_id
    return record.sequence_id if isinstance(record, Uplink) else None


def _is_receipt(samples: Samples, sample: MessageSample, data: dict[str, object]) -> bool:
    """Return whether an object can be a body, and is a receipt: of replies and notices the first
    stays, whatever a later one says."""
    try:
        msgspec.json.encode(data)
        return isinstance(samples.read(sample, data), Receipt)
    except (InvalidEnvelope, msgspec.EncodeError, OverflowError, ValueError):
        return False


def _process(samples: Samples, store: Store, sent: Sequence[tuple[str, bytes]]) -> int:
    """Send bodies down the road of a queue; return how many changed a row."""
    changed = 0
    for message_type in samples.provider.normalizers:
        envelopes = [
            Envelope(source=message_type, envelope_id=str(number), body=body, handle="")
            for number, (of_type, body) in enumerate(sent)
            if of_type == message_type
        ]
        pipeline = Pipeline(
            context=samples.context,
            normalize=samples.provider.normalizers[message_type],
            store=store,
            clock=SystemClock(),
        )
        changed += pipeline.process(envelopes).changed if envelopes else 0
    return changed


def _rows(store: Store) -> list[list[tuple[object, ...]]]:
    """Return all rows but for what is receiptd's own, in an order of their own."""
    with store.reading() as connection:
        return [
            sorted(
                map(
                    tuple,
                    connection.execute(select(*(c for c in table.c if c.name not in _OURS))),
                ),
                key=repr,
            )
            for table in (receipts, uplinks, notices)
        ]


def _journalled(store: Store) -> Counter[bytes]:
    with store.reading() as connection:
        found = connection.execute(select(journal.c.body, journal.c.encoding))
        return Counter(body_bytes(body, encoding) for body, encoding in found)
