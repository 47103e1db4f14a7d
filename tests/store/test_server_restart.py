"""A server that crashes and comes back: only with the one that the tests have started."""

import pytest

from receiptd.errors import StoreUnavailable
from receiptd.store import Store
from tests.databases import POSTGRESQL, postgresql
from tests.row_counts import by_status
from tests.store.store_samples import Database, entries, receipt

pytestmark = pytest.mark.parametrize("database", [POSTGRESQL], indirect=True)


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_a_restart_of_the_server_loses_nothing_and_needs_none_of_ours(
    store: Store, database: Database, mode: str
) -> None:
    store.save(entries(receipt("before")))
    by_status(store)
    postgresql().stop(mode)
    try:
        with pytest.raises(StoreUnavailable):
            store.save(entries(receipt("while")))
    finally:
        postgresql().start()

    assert store.save(entries(receipt("while"))).changed == 1
    assert by_status(store) == {"delivered": 2}
    assert database.count("journal") == 2


def test_a_crash_in_a_transaction_leaves_nothing_of_it(database: Database) -> None:
    points: list[str] = []

    def trace(point: str) -> None:
        points.append(point)
        if points.count("before_commit") == 2 and point == "before_commit":
            postgresql().stop("immediate")

    store = database.open(trace=trace)
    store.save(entries(receipt("before")))

    try:
        with pytest.raises(StoreUnavailable):
            store.save(entries(receipt("lost")))
    finally:
        postgresql().start()

    assert [row["biz_id"] for row in database.rows()] == ["before"]
    assert store.save(entries(receipt("lost"))).changed == 1
    store.close()
