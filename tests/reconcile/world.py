"""A sandbox, a store and one time for both, in which a month is a moment."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from receiptd.clock import ManualClock
from receiptd.config import AccountSettings
from receiptd.config.settings import ReconcileSettings
from receiptd.gate import Gate
from receiptd.ledger import Books, Ledger, books_of
from receiptd.model import Origin, Receipt, Status
from receiptd.phone import to_e164
from receiptd.plugins import find_provider
from receiptd.providers.base import Provider, QueryApi
from receiptd.pulse import Pulse
from receiptd.reconcile.losses import Losses
from receiptd.reconcile.part import Part
from receiptd.reconcile.runner import Reconciler
from receiptd.reconcile.schedule import schedule
from receiptd.sandbox import Sandbox, Scenario
from receiptd.store import Store, open_store
from receiptd.store.schema import journal, receipts

SCHEDULE = schedule(ReconcileSettings())


class OneTime(ManualClock):
    """Our clock, which takes the sandbox's with it: whoever waits on it makes both go on."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(datetime.fromtimestamp(sandbox.clock.now(), UTC))
        self._sandbox = sandbox

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._sandbox.clock.advance(seconds)
        self._sandbox.skew_s += seconds


class World:
    """What the tests of reconciliation do and see."""

    def __init__(self, sandbox: Sandbox, store: Store, clock: OneTime) -> None:
        self.sandbox = sandbox
        self.store = store
        self.clock = clock
        self.stopping = threading.Event()
        self.told: list[tuple[str, str]] = []
        self.lost: list[tuple[str, int]] = []
        self._opened: list[QueryApi] = []
        self.accounts = {
            "main": AccountSettings(
                provider="aliyun",
                access_key_id="testAK",
                access_key_secret="testSK",  # type: ignore[arg-type]
                endpoints={"dysms": sandbox.url},
            ),
            "shop": AccountSettings(
                provider="jushita",
                app_key="12345678",
                app_secret="topSecret",  # type: ignore[arg-type]
                endpoints={"top": sandbox.url + "/router/rest"},
            ),
        }

    def advance(self, **span: float) -> None:
        self.clock.advance(timedelta(**span).total_seconds())

    def send(self, phones: Sequence[str], *, out_id: str = "", account: str = "main") -> str:
        """Send, and tell the ledger; return the provider's id."""
        biz_id = self.sandbox.send_sms(phones, out_id=out_id, jushita=account == "shop")
        self.record(biz_id, phones, out_id=out_id, account=account)
        return biz_id

    def record(
        self,
        biz_id: str,
        phones: Sequence[str],
        *,
        out_id: str = "",
        account: str = "main",
        send_api: str = "SendSms",
    ) -> None:
        """Tell the ledger of a send, now."""
        self.store.record_sends(
            [
                Receipt(
                    provider=self.accounts[account].provider,
                    account=account,
                    biz_id=biz_id,
                    phone=to_e164(phone),
                    status=Status.AWAITED,
                    origin=Origin.SEND,
                    out_id=out_id or None,
                    send_api=send_api,
                    submitted_at=self.clock.now(),
                )
                for phone in phones
            ]
        )

    def ledger(self) -> Ledger:
        return Ledger(self.store, {name: self._books(name) for name in self.accounts}, self.clock)

    def part(self, *, per_second: float = 5, instance: str = "here") -> Part:
        return Part(
            store=self.store,
            schedule=SCHEDULE,
            per_second=per_second,
            instance=instance,
            store_gate=Gate(self.clock),
            stopping=self.stopping,
            clock=self.clock,
            told=lambda account, word: self.told.append((account, word)),
            lost=lambda account, count: self.lost.append((account, count)),
        )

    def reconciler(
        self, account: str = "main", *, per_second: float = 5, instance: str = "here"
    ) -> Reconciler:
        return Reconciler(
            self.part(per_second=per_second, instance=instance),
            provider=self.accounts[account].provider,
            account=account,
            api=self.open_query(account),
            pulse=Pulse(account, self.clock),
        )

    def open_query(self, account: str) -> QueryApi:
        settings = self.accounts[account]
        api = self._provider(account).open_query(account, settings, self.clock)
        assert api is not None
        self._opened.append(api)
        return api

    def reconcile(self, account: str = "main") -> None:
        """Look once at what is due."""
        self.reconciler(account).run_once()

    def declare_losses(self) -> None:
        Losses(self.part(), pulse=Pulse("losses", self.clock)).run_once()

    def statuses(self) -> dict[str, str]:
        """Return the status of each number, and fail if a number has two rows."""
        rows = self.rows("phone", "status")
        assert len({phone for phone, _ in rows}) == len(rows), rows
        return {str(phone).removeprefix("+86"): str(status) for phone, status in rows}

    def rows(self, *names: str) -> list[tuple[object, ...]]:
        with self.store.reading() as connection:
            query = select(*(receipts.c[name] for name in names)).order_by(receipts.c.id)
            return [tuple(row) for row in connection.execute(query)]

    def journal(self) -> list[tuple[str, str, str | None, str]]:
        """Return (source, kind, reason, body) of each journal row."""
        columns = (journal.c.source, journal.c.kind, journal.c.reason, journal.c.body)
        with self.store.reading() as connection:
            found = connection.execute(select(*columns).order_by(journal.c.id))
            return [(row[0], row[1], row[2], row[3]) for row in found]

    @property
    def queries(self) -> int:
        """How many calls the query APIs have had."""
        counts = self.sandbox.request_counts
        return counts["query_details"] + counts["top_query"]

    def close(self) -> None:
        for api in self._opened:
            api.close()
        self.store.close()

    def _provider(self, account: str) -> Provider:
        provider = find_provider(self.accounts[account].provider, account, [])
        assert provider is not None
        return provider

    def _books(self, account: str) -> Books:
        return books_of(self._provider(account), account)


@contextlib.contextmanager
def world(url: str, scenario: Scenario | None = None) -> Iterator[World]:
    """Yield a world on the database at `url`, which is new."""
    with Sandbox(scenario=scenario, virtual_time=True) as sandbox:
        clock = OneTime(sandbox)
        store = open_store(url, clock)
        store.upgrade()
        one = World(sandbox, store, clock)
        try:
            yield one
        finally:
            one.close()


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder}/receiptd.db"
