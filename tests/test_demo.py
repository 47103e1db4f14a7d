"""The demonstration: it must be able to fail."""

import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, delete, insert, update

from receiptd.clock import SystemClock
from receiptd.demo import account as accounts
from receiptd.model import Origin
from receiptd.pipeline import Pipeline
from receiptd.providers.aliyun import PROVIDER
from receiptd.providers.base import Context
from receiptd.store import open_store
from receiptd.store.schema import journal, receipts
from tests.databases import databases, fresh_url
from tests.fakes import envelope, sms_report


@pytest.fixture
def engine(tmp_path):
    """Return a database that holds the receipts of ten sends, one of them failed."""
    url = f"sqlite:///{tmp_path}/demo.db"
    store = open_store(url, SystemClock())
    store.upgrade()
    pipeline = Pipeline(
        context=Context(provider="aliyun", account="main", origin=Origin.QUEUE),
        normalize=PROVIDER.normalizers["SmsReport"],
        store=store,
        clock=SystemClock(),
    )
    pipeline.process([envelope(sms_report(n, success=n != 3), f"m{n}") for n in range(10)])
    store.close()
    engine = create_engine(url)
    yield engine
    engine.dispose()


def sent(lost=()):
    return [
        accounts.Sent(
            api="SendSms",
            key=(f"90000000{number:010d}^0", f"+86139{number:08d}", "aliyun", "main"),
            outcome="failed" if number == 3 else "delivered",
            is_lost=number in lost,
        )
        for number in range(10)
    ]


def close(engine, sends, **changes):
    return accounts.close(
        engine,
        sends,
        accounts.Mark(),
        **{"poison": 0, "replies": 0, "early_acks": 0, "left_on_broker": 0, **changes},
    )


def test_an_account_with_a_row_for_every_send_is_true(engine):
    account = close(engine, sent())

    assert account.is_true
    assert account.landed == {"SendSms": {"delivered": 9, "failed": 1}}


@pytest.mark.parametrize(
    "changes", [{"early_acks": 1}, {"left_on_broker": 1}, {"poison": 1}, {"replies": 1}]
)
def test_an_account_is_not_true_if_anything_is_left_over(engine, changes):
    assert not close(engine, sent(), **changes).is_true


def test_a_send_without_a_row_is_missing(engine):
    with engine.begin() as connection:
        connection.execute(delete(receipts).where(receipts.c.out_id == "order-7"))

    account = close(engine, sent())

    assert not account.is_true
    assert [one.key[0] for one in account.missing] == ["900000000000000007^0"]


@pytest.mark.parametrize("status", ["awaited", "pending", "lost"])
def test_a_send_whose_end_is_not_known_is_missing(engine, status):
    with engine.begin() as connection:
        connection.execute(update(receipts).values(status=status).where(receipts.c.id == 8))

    account = close(engine, sent())

    assert not account.is_true
    assert len(account.missing) == 1
    assert accounts.landed(engine, accounts.Mark()) == (10 if status == "lost" else 9)


def test_a_lost_receipt_must_be_found_by_a_query(engine):
    before = close(engine, sent(lost=[7]))
    with engine.begin() as connection:
        found = receipts.c.out_id == "order-7"
        connection.execute(update(receipts).values(origin="query").where(found))
        row = {"encoding": "text", "kind": "receipt", "outcome": "stored", "body": "{}"}
        where = {"source": "query:main", "envelope_id": "q1", "part": 0}
        connection.execute(insert(journal).values(received_at=datetime.now(UTC), **row, **where))

    account = close(engine, sent(lost=[7]))

    assert not before.is_true
    assert [one.key[0] for one in before.not_found] == ["900000000000000007^0"]
    assert account.is_true
    assert account.queried == {"SendSms": 1}
    assert (account.journal_rows, account.duplicates) == (before.journal_rows, 0)


def test_a_wrong_status_and_a_row_that_nobody_sent_are_told(engine):
    with engine.begin() as connection:
        connection.execute(update(receipts).values(status="unknown").where(receipts.c.id == 1))

    account = close(engine, sent()[:-1])

    assert not account.is_true
    assert (len(account.wrong), account.unexpected) == (1, 1)


def test_what_was_there_before_is_not_counted(engine):
    since = accounts.mark(engine)

    account = accounts.close(engine, [], since, poison=0, replies=0, early_acks=0, left_on_broker=0)

    assert account.is_true
    assert accounts.landed(engine, since) == account.journal_rows == 0


def test_the_witness_tells_an_envelope_that_was_acked_before_its_row_was_there(engine):
    witness = accounts.Witness(engine, accounts.Mark())
    with engine.begin() as connection:
        connection.execute(delete(journal).where(journal.c.envelope_id == "m4"))

    for number in range(10):
        witness.check(f"m{number}")

    assert witness.early == ["m4"]


@pytest.mark.parametrize("kind", databases())
def test_the_demonstration_accounts_for_every_send_on_each_database(tmp_path, kind):
    command = [sys.executable, "-m", "receiptd", "demo", "--messages", "200"]
    with fresh_url(kind, tmp_path) as url:
        result = subprocess.run(
            [*command, "--keep", str(tmp_path)],
            env={**os.environ, "RECEIPTD_DATABASE__URL": url},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "kill -9 " in result.stdout
    for api in ("SendSms", "SendBatchSms", "polyv", "jushita"):
        assert f"│ {api} " in result.stdout
    told = " ".join(result.stdout.split())
    assert "139****0001 never came; found by QuerySendDetails after" in told
    assert "139****0002 never came; found by alibaba.aliqin.ta.sms.num.query after" in told
    assert "early acks      0" in result.stdout
    assert "lost            0" in result.stdout
    assert "Every send is accounted for." in result.stdout
    assert (tmp_path / "receiptd.log").exists()
