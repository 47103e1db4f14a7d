"""The demonstration: it must be able to fail."""

import os
import subprocess
import sys

import pytest
from sqlalchemy import create_engine, delete, update

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


def sent():
    return [
        accounts.Sent(
            api="SendSms",
            provider="aliyun",
            account="main",
            biz_id=f"90000000{number:010d}^0",
            phone=f"+86139{number:08d}",
            fate="failed" if number == 3 else "delivered",
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


def test_a_lost_receipt_is_missing(engine):
    with engine.begin() as connection:
        connection.execute(delete(receipts).where(receipts.c.out_id == "order-7"))

    account = close(engine, sent())

    assert not account.is_true
    assert [one.biz_id for one in account.missing] == ["900000000000000007^0"]


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
    assert "early acks      0" in result.stdout
    assert "lost            0" in result.stdout
    assert "Every send is accounted for." in result.stdout
    assert (tmp_path / "receiptd.log").exists()
