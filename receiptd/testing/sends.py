"""What every reader of a send API keeps to: a row for each number, under the id that its receipt
will bear, and the same rows however often a call is recorded."""

import copy
from collections.abc import Mapping
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import func, select

from receiptd.clock import SystemClock
from receiptd.errors import InvalidEnvelope
from receiptd.ledger import Ledger
from receiptd.model import FAILED_ID, UNANSWERED_ID, ErrClass, Origin, Receipt, Status
from receiptd.phone import to_e164
from receiptd.providers.base import Context
from receiptd.store import Store
from receiptd.store.merge import key, merge
from receiptd.store.schema import receipts
from receiptd.testing.mutations import places, replaced, value_at
from receiptd.testing.samples import SUBMITTED_AT, Samples, SendSample, flaws, flaws_of_refusal


class SendConformance:
    """The contract of `receiptd.providers.base.SendReader`, as tests."""

    def test_every_send_api_has_a_call_that_was_accepted_and_one_that_was_refused(
        self, samples: Samples
    ) -> None:
        ends: dict[str, set[Status]] = {api: set() for api in samples.provider.send_readers}
        for sample, rows in _read(samples):
            ends[sample.api] |= {row.status for row in rows if not _is_unanswered(row)}

        for api, statuses in ends.items():
            assert statuses >= {Status.AWAITED, Status.FAILED}, api

    def test_a_call_means_what_its_sample_says(self, samples: Samples) -> None:
        for sample in samples.some_sends():
            if isinstance(sample.means, str):
                with pytest.raises(InvalidEnvelope) as refused:
                    samples.rows(sample)
                assert str(refused.value) == sample.means, sample
                continue
            found = [msgspec.to_builtins(row) for row in samples.rows(sample)]
            told = [
                {field: row[field] for field in wanted}
                for row, wanted in zip(found, sample.means, strict=True)
            ]
            assert told == list(sample.means), sample

    def test_the_same_call_has_the_same_rows_and_is_left_as_it_is(self, samples: Samples) -> None:
        for sample, rows in _read(samples):
            backwards = dict(reversed(list(copy.deepcopy(sample.request).items())))
            given = copy.deepcopy((backwards, dict(sample.response)))

            again = samples.rows_of(sample.api, *given)

            assert again == rows, sample
            assert given == (sample.request, sample.response)

    def test_each_number_has_one_row_whatever_was_answered(self, samples: Samples) -> None:
        for sample, rows in _read(samples):
            unanswered = samples.rows_of(sample.api, sample.request, {})

            assert len({key(row) for row in rows}) == len(rows), sample
            assert {row.phone for row in rows} == {row.phone for row in unanswered}, sample
            assert len(rows) == len(unanswered), sample

    def test_a_row_says_whose_it_is_and_when_it_was_sent(self, samples: Samples) -> None:
        context = Context(samples.provider.receipts_provider, "another", Origin.QUEUE)
        for sample, _ in _read(samples):
            reader = samples.provider.send_readers[sample.api]
            for row in reader(sample.request, sample.response, context, SUBMITTED_AT):
                assert flaws(row, msgspec.structs.replace(context, origin=Origin.SEND)) == []
                assert (row.send_api, row.submitted_at) == (sample.api, SUBMITTED_AT)

    def test_what_was_accepted_is_awaited_under_the_id_of_the_answer(
        self, samples: Samples
    ) -> None:
        for sample, rows in _read(samples):
            for row in rows:
                if row.status is Status.AWAITED and not _is_unanswered(row):
                    assert replaced(sample.response, row.biz_id, "") is not None, sample
                    assert not row.biz_id.startswith(FAILED_ID), sample

    def test_what_was_refused_has_failed_with_its_code_and_class(self, samples: Samples) -> None:
        for sample, rows in _read(samples):
            for row in rows:
                if row.status is not Status.FAILED:
                    continue
                assert row.biz_id.startswith(FAILED_ID), sample
                assert row.err_code, sample
                assert row.err_class not in (None, ErrClass.OK), sample
                meant = samples.provider.refusal(row.err_code)
                assert meant is None or meant.err_class is row.err_class, sample

    def test_a_call_without_an_answer_is_awaited_and_two_tries_are_two(
        self, samples: Samples
    ) -> None:
        for sample, _ in _read(samples):
            once = samples.rows_of(sample.api, sample.request, {})
            later = SUBMITTED_AT + timedelta(seconds=1)
            again = samples.rows_of(sample.api, sample.request, {}, later)

            assert {row.status for row in once} == {Status.AWAITED}, sample
            assert all(_is_unanswered(row) for row in once), sample
            assert not {key(row) for row in once} & {key(row) for row in again}, sample

    def test_whatever_a_call_holds_it_is_sound_rows_or_a_refusal(self, samples: Samples) -> None:
        for api, request, response in samples.mutant_calls():
            before = repr((request, response))
            try:
                found = _flaws_of_rows(samples, samples.rows_of(api, request, response))
            except InvalidEnvelope as refusal:
                found = flaws_of_refusal(refusal)
            assert found == [], before[:2000]
            assert repr((request, response)) == before, "the input was changed"

    def test_a_call_recorded_twice_changes_nothing_and_its_answer_settles_the_question(
        self, samples: Samples, store: Store
    ) -> None:
        ledger = Ledger(store, {"main": samples.books}, SystemClock())
        wanted = set()
        for number, (sample, _) in enumerate(_read(samples)):
            at = SUBMITTED_AT + timedelta(minutes=number)  # each is a call of its own
            rows = samples.rows(sample, at)
            wanted |= {key(row) for row in rows}
            ledger.record(sample.api, "main", sample.request, {}, at)
            for _ in range(2):
                recorded = ledger.record(sample.api, "main", sample.request, sample.response, at)
            assert (recorded.rows, recorded.changed) == (len(rows), 0), sample

        with store.reading() as connection:
            [found] = connection.execute(select(func.count()).select_from(receipts)).one()
        assert found == len(wanted)

    def test_a_receipt_binds_to_its_send(self, samples: Samples) -> None:
        if samples.provider.receipts_provider != samples.provider.name:
            pytest.skip(f"its receipts are those of {samples.provider.receipts_provider}")
        samples.some_messages()
        bound = 0
        for send in (row for _, rows in _read(samples) for row in rows if not _is_ours(row)):
            for sample, receipt in samples.receipts():
                told = _about(sample.data, receipt, send)
                if told is None:
                    continue
                record = samples.read(sample, told)
                assert isinstance(record, Receipt)
                if key(record) == key(send):
                    both = merge(send, record)
                    assert both.submitted_at == SUBMITTED_AT
                    assert both.status is record.status
                    bound += 1
                    break
        assert bound, "no receipt has the id and the number of a send, as the send has them"


def _read(samples: Samples) -> list[tuple[SendSample, list[Receipt]]]:
    """Return the samples that are calls, and their rows."""
    return [
        (sample, samples.rows(sample))
        for sample in samples.some_sends()
        if not isinstance(sample.means, str)
    ]


def _is_unanswered(row: Receipt) -> bool:
    return row.biz_id.startswith(UNANSWERED_ID)


def _is_ours(row: Receipt) -> bool:
    return row.biz_id.startswith((FAILED_ID, UNANSWERED_ID))


def _flaws_of_rows(samples: Samples, rows: list[Receipt]) -> list[str]:
    found = [flaw for row in rows for flaw in flaws(row, samples.books.context)]
    found += [] if rows else ["there is no row, and no refusal"]
    if len({key(row) for row in rows}) < len(rows):
        found.append("two rows have one identity")
    return found


def _about(
    data: Mapping[str, object], receipt: Receipt, send: Receipt
) -> Mapping[str, object] | None:
    """Return a receipt's message as if it were about `send`; None if its id or number does not
    stand there as it is."""
    numbers = [
        value
        for value in (value_at(data, path) for path in places(data))
        if isinstance(value, str) and receipt.phone in (to_e164(value), "+" + value)
    ]
    told = replaced(data, receipt.biz_id, send.biz_id)
    return replaced(told, numbers[0], send.phone) if told and numbers else None
