"""Hypothesis strategies for receipts that meet each other."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from receiptd.model import ErrClass, Origin, Receipt, Status

TIMES = st.sampled_from(
    [
        None,
        datetime(999, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 12, 0, 0, 10, tzinfo=UTC),
        datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC),
    ]
)
# The last two are in the other order in UTF-16, and 'é' in two spellings is two texts.
TEXTS = st.sampled_from([None, "", " ", "a", "A", "a ", "é", "e\u0301", "10", "9", "\uffff", "😀"])


def receipts(keys: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[Receipt]:
    """Receipts with (biz_id, phone) from `keys`."""

    def build(key: tuple[str, str], receipt: Receipt) -> Receipt:
        fields = {name: getattr(receipt, name) for name in receipt.__struct_fields__}
        return Receipt(**(fields | {"biz_id": key[0], "phone": key[1]}))

    return st.builds(build, keys, _BODIES)


_BODIES = st.builds(
    Receipt,
    provider=st.just("aliyun"),
    account=st.just("main"),
    biz_id=st.just(""),
    phone=st.just(""),
    status=st.sampled_from(Status),
    origin=st.sampled_from(Origin),
    out_id=TEXTS,
    err_code=TEXTS,
    err_msg=TEXTS,
    err_class=st.none() | st.sampled_from(ErrClass),
    segments=st.sampled_from([None, 0, 1, 2]),
    sign_name=TEXTS,
    template_code=TEXTS,
    send_api=TEXTS,
    submitted_at=TIMES,
    sent_at=TIMES,
    reported_at=TIMES,
    conflict=st.booleans(),
)
ONE_KEY = st.just(("1^0", "+8613900000001"))
FEW_KEYS = st.tuples(
    st.sampled_from(["k", "K", "k ", "é"]), st.sampled_from(["+8613900000001", "13900000001"])
)
