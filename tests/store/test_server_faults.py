"""A database behind a network: silent, cut, locked, killed or restarted. Nothing is lost that was
reported as stored, nobody waits for ever, and no restart of ours is needed."""

import random
import select as sockets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import URL, Connection, create_engine, event, make_url, select, text
from sqlalchemy.exc import DBAPIError

from receiptd.clock import ManualClock
from receiptd.errors import StoreUnavailable
from receiptd.store import SaveResult, Store
from receiptd.store.dialects.base import Dialect, Limits
from receiptd.store.dialects.mysql import MysqlDialect
from receiptd.store.dialects.postgresql import PostgresqlDialect
from receiptd.store.schema import progress, receipts
from receiptd.tally import Counts
from tests.chaos_proxy import ChaosProxy, Fault
from tests.databases import POSTGRESQL, SERVERS
from tests.row_counts import by_status
from tests.store.store_samples import Database, entries, ignore_commit, ignore_point, receipt

pytestmark = pytest.mark.parametrize("database", SERVERS, indirect=True)

# libpq takes no less than two seconds to connect; the rest is as short as can be.
HURRIED = Limits(
    connect_s=0.3, lock_s=0.2, brief_lock_s=0.1, statement_s=0.4, answer_s=0.5, pool_s=1
)


def open_at(url: URL, kind: str, limits: Limits = HURRIED) -> Store:
    dialect: Dialect = PostgresqlDialect(limits) if kind == POSTGRESQL else MysqlDialect(limits)
    return Store(url, dialect, ManualClock(), trace=ignore_point, on_commit=ignore_commit)


@pytest.fixture
def proxy(database: Database) -> Iterator[ChaosProxy]:
    database.open().close()
    url = make_url(database.url)
    assert url.host
    assert url.port
    with ChaosProxy((url.host, url.port)) as proxy:
        yield proxy


@pytest.fixture
def store(database: Database, proxy: ChaosProxy) -> Iterator[Store]:
    """A hurried store behind the proxy."""
    url = make_url(database.url).set(host="127.0.0.1", port=proxy.port)
    store = open_at(url, database.kind)
    yield store
    store.close()


@pytest.fixture
def patient(database: Database) -> Iterator[Store]:
    """A store that gives up on a lock before it gives up on the server; MySQL counts locks in whole
    seconds."""
    store = open_at(make_url(database.url), database.kind, Limits(lock_s=0.2, brief_lock_s=0.1))
    store.upgrade()
    yield store
    store.close()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began_at = time.monotonic()
    yield
    assert time.monotonic() - began_at < seconds


@contextmanager
def session(database: Database) -> Iterator[Connection]:
    """Somebody else's transaction, rolled back at the end."""
    engine = create_engine(database.url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_a_server_that_accepts_and_says_nothing_is_unavailable_soon(
    store: Store, proxy: ChaosProxy
) -> None:
    proxy.is_black_hole = True

    with within(5), pytest.raises(StoreUnavailable):
        store.save(entries(receipt()))

    proxy.is_black_hole = False
    assert store.save(entries(receipt())).changed == 1


def test_a_server_that_is_down_is_unavailable_and_back_when_it_is_up(
    store: Store, proxy: ChaosProxy
) -> None:
    store.save(entries(receipt("before")))
    proxy.down()

    with within(2), pytest.raises(StoreUnavailable):
        store.save(entries(receipt("while")))

    proxy.up()
    assert store.save(entries(receipt("while"))).changed == 1


@pytest.mark.parametrize("at", [b"INSERT INTO journal", b"INSERT INTO receipts", b"COMMIT"])
def test_a_path_that_falls_silent_in_mid_statement_is_given_up(
    store: Store, proxy: ChaosProxy, database: Database, at: bytes
) -> None:
    store.save(entries(receipt("before")))
    proxy.when(at, Fault.STALL)

    with within(2), pytest.raises(StoreUnavailable):
        store.save(entries(receipt("lost")))

    assert proxy.struck == 1
    proxy.reset()  # so that the server gives up the locks of the half transaction, as TCP would
    assert save_again(store, receipt("after")).changed == 1


def test_a_read_on_a_silent_path_is_given_up(store: Store, proxy: ChaosProxy) -> None:
    assert by_status(store) == {}
    proxy.when(b"FROM receipts", Fault.STALL)

    with within(2), pytest.raises(StoreUnavailable):
        by_status(store)

    assert by_status(store) == {}


def test_idle_connections_that_fell_silent_cost_one_save(store: Store, proxy: ChaosProxy) -> None:
    store.save(entries(receipt("before")))
    proxy.stall()

    with within(2), pytest.raises(StoreUnavailable):
        store.save(entries(receipt("after")))

    assert store.save(entries(receipt("after"))).changed == 1


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.CUT_REPLY])
@pytest.mark.parametrize("at", [b"INSERT INTO journal", b"INSERT INTO receipts"])
def test_a_connection_cut_before_the_commit_stores_nothing(
    store: Store, proxy: ChaosProxy, database: Database, fault: Fault, at: bytes
) -> None:
    store.save(entries(receipt("before")))
    proxy.when(at, fault)

    with pytest.raises(StoreUnavailable):
        store.save(entries(receipt("cut")))

    assert proxy.struck == 1
    assert (database.count(), database.count("journal")) == (1, 1)
    assert save_again(store, receipt("cut")).changed == 1


def test_an_answer_cut_in_its_middle_is_no_answer(store: Store, proxy: ChaosProxy) -> None:
    store.save(entries(receipt("before")))
    proxy.limit(5)

    with pytest.raises(StoreUnavailable):
        store.save(entries(receipt("cut")))

    assert save_again(store, receipt("cut")).changed == 1


def test_a_commit_whose_answer_is_lost_is_not_reported_and_settled_by_redelivery(
    store: Store, proxy: ChaosProxy, database: Database
) -> None:
    store.save(entries(receipt("before")))
    proxy.when(b"COMMIT", Fault.CUT_REPLY)

    with pytest.raises(StoreUnavailable):
        store.save(entries(receipt("unknown")))

    assert proxy.struck == 1
    stored = database.rows()
    assert [row["biz_id"] for row in stored] == ["before", "unknown"]
    assert store.save(entries(receipt("unknown"))) == SaveResult(changed=0, unchanged=1)
    assert database.rows() == stored


def test_a_slow_path_is_only_slow(store: Store, proxy: ChaosProxy) -> None:
    proxy.latency_s = 0.01

    assert store.save(entries(receipt())).changed == 1


def test_a_row_that_another_session_holds_is_waited_for_and_not_for_ever(
    patient: Store, database: Database
) -> None:
    patient.save(entries(receipt("held")))

    with session(database) as other:
        other.execute(select(receipts).with_for_update())
        with within(3), pytest.raises(StoreUnavailable, match="holds a lock"):
            patient.save(entries(receipt("held", err_msg="重投"), receipt("other")))

    assert database.count("journal") == 1
    assert patient.save(entries(receipt("held", err_msg="重投"), receipt("other"))).changed == 2


def test_a_key_that_another_session_is_about_to_insert_is_waited_for_and_not_for_ever(
    patient: Store, database: Database
) -> None:
    patient.save(entries(receipt("first")))
    columns = [column.name for column in receipts.columns if column.name not in ("id", "biz_id")]
    names = ", ".join(columns)

    with session(database) as other:
        other.execute(
            text(f"INSERT INTO receipts (biz_id, {names}) SELECT 'new', {names} FROM receipts")
        )
        with within(3), pytest.raises(StoreUnavailable, match="holds a lock"):
            patient.save(entries(receipt("new")))

    assert patient.save(entries(receipt("new"))).changed == 1


def test_progress_does_not_wait_long_for_a_lock_and_saving_keeps_its_patience(
    patient: Store, database: Database
) -> None:
    patient.record_progress("a:1", "sms", Counts())

    with session(database) as other:
        other.execute(select(progress).with_for_update())
        with within(2), pytest.raises(StoreUnavailable, match="holds a lock"):
            patient.record_progress("a:1", "sms", Counts(pulled=1))

    patient.record_progress("a:1", "sms", Counts(pulled=1))
    assert patient.save(entries(receipt())).changed == 1


def test_a_pooled_connection_that_the_server_ended_is_replaced_unseen(
    store: Store, database: Database
) -> None:
    store.save(entries(receipt("before")))
    by_status(store)
    with store._engines.writer.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
    kill_all(database)
    file = raw.fileno() if database.kind == POSTGRESQL else raw._sock.fileno()
    sockets.select([file], [], [], 10)  # until the news of it has come

    assert store.save(entries(receipt("after"))).changed == 1
    assert by_status(store) == {"delivered": 2}


def test_a_connection_killed_within_a_transaction_costs_that_one(database: Database) -> None:
    points: list[str] = []

    def trace(point: str) -> None:
        points.append(point)
        if points == ["in_transaction"]:
            kill_all(database)

    store = database.open(trace=trace)

    with pytest.raises(StoreUnavailable):
        store.save(entries(receipt()))

    assert (database.count(), database.count("journal")) == (0, 0)
    assert store.save(entries(receipt())).changed == 1
    store.close()


class Witness:
    """A dialect that notes each deadlock."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.deadlocks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)

    def is_deadlock(self, error: Exception) -> bool:
        is_one = self._dialect.is_deadlock(error)
        self.deadlocks += is_one
        return is_one


def test_four_writers_of_overlapping_batches_never_deadlock(database: Database) -> None:
    database.open().close()
    stores = [open_at(make_url(database.url), database.kind, Limits()) for _ in range(4)]
    witnesses = [Witness(store._dialect) for store in stores]
    for store, witness in zip(stores, witnesses, strict=True):
        store._writer._dialect = witness

    def work(number: int) -> int:
        chance = random.Random(number)
        changed = 0
        for turn in range(25):
            keys = [f"{turn // 5}-{key}" for key in chance.sample(range(40), 16)]
            # A later turn changes what is there, so that rows are updated and not only met.
            batch = [receipt(key, err_msg=f"{turn:02}-{number}") for key in keys]
            changed += stores[number].save(entries(*batch)).changed
        return changed

    with ThreadPoolExecutor(4) as pool:
        changed = sum(pool.map(work, range(4)))

    assert [witness.deadlocks for witness in witnesses] == [0] * 4
    assert database.count() == 5 * 40
    assert database.count("journal") == 4 * 25 * 16
    assert changed >= 5 * 40
    for store in stores:
        store.close()


def deadlock(database: Database) -> Exception:
    """Make two sessions reach for each other's row; return what the one that lost was told."""

    def take(connection: Connection, biz_id: str) -> Exception | None:
        try:
            connection.execute(
                text(f"UPDATE receipts SET query_count = 1 WHERE biz_id = '{biz_id}'")
            )
        except DBAPIError as exc:
            connection.rollback()  # so that the other may go on
            return exc
        return None

    with session(database) as one, session(database) as other, ThreadPoolExecutor(1) as pool:
        take(one, "a")
        take(other, "z")
        crossing = pool.submit(take, one, "z")
        (lost,) = filter(None, [take(other, "a"), crossing.result()])
    return lost


def test_a_deadlock_is_known_for_one_and_tried_again_at_once(database: Database) -> None:
    store = database.open()
    store.save(entries(receipt("a"), receipt("z")))
    lost = deadlock(database)
    tries: list[str] = []

    def lose_once(connection: object, cursor: object, sql: str, *rest: object) -> None:
        if "INTO receipts" in sql:
            tries.append(sql)
            if len(tries) == 1:
                raise lost

    event.listen(store._engines.writer, "before_cursor_execute", lose_once)

    assert store._dialect.is_deadlock(lost)
    assert isinstance(store._dialect.translate(lost), StoreUnavailable)
    assert store.save(entries(receipt("new"))).changed == 1
    assert len(tries) == 2
    assert database.count("journal") == 3
    store.close()


def save_again(store: Store, *records: Any) -> SaveResult:
    """Save, twice if need be: a connection may have died of the fault after it was looked at."""
    try:
        return store.save(entries(*records))
    except StoreUnavailable:
        return store.save(entries(*records))


def kill_all(database: Database) -> None:
    """Have the server end all sessions on the database but the one that asks."""
    if database.kind == POSTGRESQL:
        database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return
    threads = database.query(
        "SELECT id FROM information_schema.processlist"
        " WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    )
    for (thread,) in threads:
        database.query(f"KILL {thread}")
