"""The merge in Python: a join semilattice, and the rules of design.md section 5."""

from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from receiptd.model import RANK, Origin, Receipt, Status
from receiptd.store.merge import EARLIEST, GREATEST, VERDICT, fold, key, merge
from tests.store.receipt_strategies import FEW_KEYS, ONE_KEY, receipts
from tests.store.store_samples import NOON, receipt

SAME = receipts(ONE_KEY)
FILLED_IN = GREATEST + EARLIEST


@given(SAME, SAME)
def test_merging_is_commutative(a: Receipt, b: Receipt) -> None:
    assert merge(a, b) == merge(b, a)


@given(SAME, SAME, SAME)
def test_merging_is_associative(a: Receipt, b: Receipt, c: Receipt) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(SAME, SAME)
def test_merging_is_idempotent(a: Receipt, b: Receipt) -> None:
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)


@given(SAME, SAME)
def test_status_never_falls(a: Receipt, b: Receipt) -> None:
    assert RANK[merge(a, b).status] == max(RANK[a.status], RANK[b.status])


@given(SAME, SAME)
def test_null_never_erases_a_value(a: Receipt, b: Receipt) -> None:
    merged = merge(a, b)

    for name in FILLED_IN:
        if getattr(a, name) is not None:
            assert getattr(merged, name) is not None


@given(SAME, SAME)
def test_the_verdict_comes_from_one_receipt_as_a_whole(a: Receipt, b: Receipt) -> None:
    def told(one: Receipt) -> list[object]:
        return [getattr(one, name) for name in VERDICT]

    assert told(merge(a, b)) in (told(a), told(b))


@given(st.lists(receipts(FEW_KEYS)), st.randoms(use_true_random=False))
def test_folding_gives_the_same_in_any_order(many: list[Receipt], random: Random) -> None:
    shuffled = [*many, *many]
    random.shuffle(shuffled)

    assert fold(shuffled) == fold(many)


@given(st.lists(receipts(FEW_KEYS)))
def test_folding_sorts_by_the_bytes_of_the_key(many: list[Receipt]) -> None:
    keys = [tuple(part.encode() for part in key(one)) for one in fold(many)]

    assert keys == sorted(set(keys))


def test_every_column_of_a_receipt_has_its_rule() -> None:
    ruled = {*VERDICT, *GREATEST, *EARLIEST, "conflict", "provider", "account", "biz_id", "phone"}

    assert ruled == set(Receipt.__struct_fields__)


def test_an_older_status_does_not_replace_a_final_one() -> None:
    final = receipt(status=Status.FAILED, reported_at=NOON)
    late = receipt(status=Status.UNKNOWN, reported_at=NOON + timedelta(days=1))

    assert merge(final, late).status is Status.FAILED


def test_of_two_final_receipts_the_later_report_wins_and_the_conflict_is_kept() -> None:
    delivered = receipt(status=Status.DELIVERED, reported_at=NOON)
    failed = receipt(status=Status.FAILED, reported_at=NOON + timedelta(seconds=1))

    merged = merge(delivered, failed)

    assert (merged.status, merged.conflict) == (Status.FAILED, True)
    assert merge(merged, delivered).conflict


def test_at_equal_times_delivered_beats_failed() -> None:
    delivered = receipt(status=Status.DELIVERED, err_code="A")
    failed = receipt(status=Status.FAILED, err_code="Z")

    assert merge(delivered, failed).status is Status.DELIVERED


def test_a_final_receipt_with_a_time_or_a_code_beats_one_without() -> None:
    told, untold = receipt(reported_at=NOON), receipt(reported_at=None)
    coded, uncoded = receipt(err_code=""), receipt(err_code=None)

    assert merge(told, untold).reported_at == NOON
    assert merge(coded, uncoded).err_code == ""


def test_at_equal_status_the_greater_err_code_wins_as_text() -> None:
    assert merge(receipt(err_code="10"), receipt(err_code="9")).err_code == "9"


def test_a_send_and_its_receipt_become_one_whole() -> None:
    sent = receipt(
        status=Status.AWAITED,
        origin=Origin.SEND,
        err_code=None,
        err_msg=None,
        err_class=None,
        reported_at=None,
        segments=None,
        submitted_at=NOON,
        sent_at=None,
        out_id="order-7",
        send_api="SendSms",
    )
    told = receipt()

    merged = merge(told, sent)

    assert (merged.status, merged.origin) == (Status.DELIVERED, Origin.QUEUE)
    assert (merged.out_id, merged.send_api, merged.submitted_at) == ("order-7", "SendSms", NOON)
