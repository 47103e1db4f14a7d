"""A database that is locked, full, gone or killed: nothing is lost that was reported as stored."""

import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from receiptd.clock import SystemClock
from receiptd.errors import StoreRejected, StoreUnavailable
from receiptd.store import Store
from tests.acceptance.process import eventually
from tests.row_counts import by_status
from tests.store.store_samples import count, entries, open_new, query, receipt

PHONE = "+8613987654321"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = open_new(path)
    yield store
    store.close()


@pytest.fixture
def impatient(path: Path) -> Iterator[Store]:
    """A store that does not wait for locks, because the five seconds are SQLite's own to keep."""
    store = open_new(path)
    store._engines.writer.dispose()

    def hurry(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 0")

    event.listen(store._engines.writer, "connect", hurry)
    yield store
    store.close()


def test_a_locked_database_is_unavailable_and_recovers_by_itself(
    impatient: Store, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match=r"SQLITE_BUSY.*locked"):
        impatient.save(entries(receipt()))

    assert (count(path), count(path, "journal")) == (0, 0)
    other.close()
    assert impatient.save(entries(receipt())).changed == 1


def test_everyone_in_a_group_hears_that_the_database_is_away(impatient: Store, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    errors: list[BaseException] = []
    barrier = threading.Barrier(8)

    def work(key: str) -> None:
        barrier.wait()
        try:
            impatient.save(entries(receipt(key)))
        except StoreUnavailable as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()

    assert len(errors) == 8
    assert len({id(one) for one in errors}) == 8
    assert count(path, "journal") == 0


def test_whoever_waits_for_a_connection_gets_one_when_a_transaction_has_failed(path: Path) -> None:
    store = open_new(path)
    store.close()
    waiting: list[threading.Thread] = []

    def fail_once(point: str) -> None:
        if point != "in_transaction" or waiting:
            return
        leases = store.leases("other")
        waiting.append(threading.Thread(target=leases.acquire, args=("a", 60.0), daemon=True))
        waiting[0].start()
        queue = store._engines.writer.pool._pool  # type: ignore[attr-defined]
        eventually(lambda: len(queue.not_empty._waiters) == 1, 5, "a thread that waits")
        raise StoreUnavailable("lost")

    store = open_new(path, SystemClock(), trace=fail_once)
    try:
        with pytest.raises(StoreUnavailable):
            store.save(entries(receipt()))
        waiting[0].join(5)

        assert not waiting[0].is_alive()  # and not after the pool's 30 s
    finally:
        store.close()


def test_reads_go_on_while_a_writer_holds_the_database(store: Store, path: Path) -> None:
    store.save(entries(receipt()))

    with store._engines.writer.begin() as connection:
        connection.exec_driver_sql("DELETE FROM receipts")

        assert by_status(store) == {"delivered": 1}


def test_a_full_disk_is_unavailable_and_what_was_acked_stays(path: Path) -> None:
    store = open_new(path)
    store._engines.writer.dispose()
    (pages,) = query(path, "PRAGMA page_count")[0]

    def shrink(connection: sqlite3.Connection, record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")

    event.listen(store._engines.writer, "connect", shrink)
    acked = 0

    def fill() -> None:
        nonlocal acked
        while True:
            store.save(entries(*(receipt(f"{acked + n}") for n in range(16))))
            acked += 16

    with pytest.raises(StoreUnavailable, match=r"SQLITE_FULL.*make room"):
        fill()

    assert acked > 0
    assert count(path) == count(path, "journal") == acked

    event.remove(store._engines.writer, "connect", shrink)
    assert store.save(entries(receipt("after"))).changed == 1
    store.close()
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_missing_schema_is_unavailable_and_names_the_cure(store: Store, path: Path) -> None:
    query(path, "DROP TABLE receipts")

    with pytest.raises(StoreUnavailable, match="receiptd db upgrade"):
        store.save(entries(receipt()))

    assert count(path, "journal") == 0


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is no database " * 100)

    with pytest.raises(StoreUnavailable, match="SQLITE_NOTADB"):
        open_new(path)


def test_a_failing_row_is_in_no_text_of_the_error_or_its_chain(store: Store, path: Path) -> None:
    query(
        path,
        f"CREATE TRIGGER t BEFORE INSERT ON receipts BEGIN SELECT RAISE(ABORT, 'no {PHONE}'); END",
    )

    with pytest.raises(StoreRejected) as caught:
        store.save(entries(receipt(phone=PHONE)))

    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert PHONE[3:] not in told


CHILD = """
    import os, signal, sys
    from pathlib import Path
    from tests.store.store_samples import entries, open_new, receipt

    def die(point):
        if armed and point == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)

    armed = False
    store = open_new(Path(sys.argv[1]), trace=die)
    store.save(entries(*(receipt(f"first-{n}") for n in range(16))))
    armed = True
    store.save(entries(*(receipt(f"second-{n}") for n in range(16))))
"""


@pytest.mark.parametrize(
    ("point", "stored"), [("in_transaction", 16), ("before_commit", 16), ("after_commit", 32)]
)
def test_a_killed_process_leaves_its_commits_and_nothing_of_the_rest(
    path: Path, point: str, stored: int
) -> None:
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), path, point], check=False, timeout=60
    )
    assert child.returncode == -signal.SIGKILL

    store = open_new(path)
    store.save(entries(receipt("third")))
    store.close()

    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert count(path) == count(path, "journal") == stored + 1
