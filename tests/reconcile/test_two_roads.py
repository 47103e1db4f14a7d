"""The same receipts through the queue and through a query are one row each, in any order."""

from itertools import permutations
from pathlib import Path

import pytest

from receiptd import assembly
from receiptd.china import china_days
from receiptd.config.loading import load
from receiptd.model import Entry, Envelope, Kind, Outcome
from receiptd.phone import to_e164
from receiptd.pipeline import Pipeline
from receiptd.providers.base import Asked
from receiptd.sandbox import Scenario
from receiptd.sandbox.configuration import config_toml
from tests.databases import databases, fresh_url
from tests.reconcile.world import World, world

PHONES = [f"139000000{number:02d}" for number in range(20)]
COLUMNS = (
    "biz_id", "phone", "status", "err_code", "err_class", "origin", "conflict", "submitted_at",
    "sent_at", "reported_at", "segments", "out_id", "next_query_at",
)  # fmt: skip


def pull_all(one: World, folder: Path, source: str) -> None:
    """Do a worker's work until the source is empty."""
    file = folder / "config.toml"
    file.write_text(config_toml(one.sandbox.url))
    file.chmod(0o600)
    plans = assembly.plan(load(file, {}), one.clock)
    plan = next(plan for plan in plans if plan.name == source)
    pipeline = Pipeline(
        context=plan.context, normalize=plan.normalize, store=one.store, clock=one.clock
    )
    puller = plan.kind.open(source, plan.settings, plan.account, plan.credentials, one.clock)
    try:
        while envelopes := puller.pull(16, 0):
            puller.ack(pipeline.process(envelopes).committed)
    finally:
        puller.close()


@pytest.mark.parametrize("kind", databases())
@pytest.mark.parametrize(
    ("account", "source"), [("main", "sms_report"), ("shop", "jushita")], ids=["aliyun", "jushita"]
)
def test_queue_and_query_and_ledger_give_one_row_in_any_order(
    kind: str, account: str, source: str, tmp_path: Path
) -> None:
    found = []
    for order in permutations(["ledger", "queue", "query"]):
        with fresh_url(kind) as url, world(url, Scenario(seed=3, failed=0.5)) as one:
            biz_id = one.sandbox.send_sms(PHONES, out_id="o-1", jushita=account == "shop")
            for road in order:
                if road == "ledger":
                    one.record(biz_id, PHONES, out_id="o-1", account=account)
                elif road == "queue":
                    pull_all(one, tmp_path, source)
                else:
                    ask_of_all(one, account, biz_id)
            rows = sorted(one.rows(*COLUMNS))
            assert len(rows) == len(PHONES)
            # Without the ids and times that each run has of its own.
            found.append([(row[1:7], row[10:]) for row in rows])

    assert all(rows == found[0] for rows in found)


def ask_of_all(one: World, account: str, biz_id: str) -> None:
    """Ask about each number and store the answer, whatever the ledger and the queue have said: a
    question may be on its way when the receipt comes."""
    api = one.open_query(account)
    for phone in PHONES:
        asked = Asked(
            biz_id=biz_id, phone=to_e164(phone), submitted_at=one.clock.now(), out_id="o-1"
        )
        page = api.page(asked, china_days(asked.submitted_at)[0], 1)
        envelope = Envelope(source=f"query:{account}", envelope_id=phone, body=b"", handle="")
        entries = [
            Entry(
                envelope=envelope,
                part=part,
                body=found.body,
                kind=Kind.RECEIPT,
                outcome=Outcome.STORED,
                received_at=one.clock.now(),
                record=found.receipt,
            )
            for part, found in enumerate(page.found)
        ]
        assert one.store.save(entries).changed <= 1
