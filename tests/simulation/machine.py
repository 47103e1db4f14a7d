"""The state machine: whatever can happen, in any order, and what must hold after every step."""

from collections.abc import Callable
from datetime import datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from receiptd.clock import ManualClock
from receiptd.model import OPEN, RANK, Origin, Receipt, Status
from receiptd.store.merge import Key
from tests.simulation import faults
from tests.simulation.exchange import MEMORY, Exchange, Fate, Sms
from tests.simulation.faults import Crash, Points
from tests.simulation.process import Build, Process
from tests.simulation.witness import Noted, Row, Witness, expected

# Two processes share the database and the queue.
NAMES = "ab"
_DAY = 86_400.0
_SPANS_S = (1.0, 31.0, 16 * 60.0, 3 * 3600.0, _DAY, 8 * _DAY, 15 * _DAY)
_GARBAGE = (b"no JSON", b"\xff\x00", b'{"biz_id": "1^0"}', b"[]")
# A day before the last question: if nothing disturbs it, it is asked.
_LAST_QUESTION = timedelta(days=27)


def plans(points: Points) -> st.SearchStrategy[tuple[str, str, int, int] | None]:
    """What happens during a step: nothing, or (point, deed, first pass, passes)."""
    deeds = [(point, deed) for point, names in points.items() for deed in names]
    happens = st.tuples(st.sampled_from(deeds), st.integers(1, 2), st.sampled_from([1, 1, 2, 9]))
    return st.none() | happens.map(lambda one: (*one[0], *one[1:]))


class Machine(RuleBasedStateMachine):
    """Runs on the database at `url`, which has its schema; other examples ran there before."""

    sms = Bundle("sms")
    names = st.sampled_from(NAMES)

    def __init__(self, url: str, build: Build, witness: Witness) -> None:
        super().__init__()
        self.url = url
        self.build = build
        self.witness = witness
        self.clock = ManualClock(datetime.fromisoformat("2026-01-01T15:50:00+00:00"))
        self.exchange = Exchange(self.clock)
        self.exchange.queue.on_ack = self._must_be_noted
        self.processes: dict[str, Process] = {}
        self.is_new_version = False
        self.booked: list[Receipt] = []
        self.corrections: set[Key] = set()  # what carriers have yet to correct
        self.reported: set[Key] = set()  # whose end was in the queue
        self.acked_early: list[str] = []
        self.ranks: dict[Key, int] = {}
        witness.clear()

    # What happens outside.

    @rule(
        target=sms,
        fate=st.sampled_from(Fate),
        delay_s=st.sampled_from([5.0, 2 * 3600.0, 3 * _DAY]),
    )
    def submit(self, fate: Fate, delay_s: float) -> Sms:
        return self.exchange.submit(fate, timedelta(seconds=delay_s))

    @rule(some=st.lists(sms, min_size=1, max_size=3), first=st.booleans())
    def produce(self, some: list[Sms], first: bool) -> None:
        """The provider puts receipts into the queue, in one envelope, as soon as it has them."""
        reports = []
        for one in some:
            if not one.is_reported:
                continue
            is_first = first and one.may_be_corrected
            if is_first and one.key not in self.reported:
                self.corrections.add(one.key)
            elif not is_first:
                self.corrections.discard(one.key)
                self.reported.add(one.key)
            self._go_on_until(one.reported_at)
            reports.append(one.report(first=is_first))
        if reports:
            self.exchange.publish(reports)

    @rule(body=st.sampled_from(_GARBAGE))
    def produce_garbage(self, body: bytes) -> None:
        self.exchange.publish_garbage(body)

    @rule()
    def reverse_queue(self) -> None:
        self.exchange.reverse_queue()

    @rule(seconds=st.sampled_from(_SPANS_S))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(are_to_be_had=st.booleans())
    def expire_tokens(self, are_to_be_had: bool) -> None:
        self.exchange.expire_tokens()
        self.exchange.tokens_are_to_be_had = are_to_be_had

    # What receiptd does.

    @rule(name=names, one=sms, dated=st.booleans(), plan=plans(faults.BOOK))
    def book(
        self, name: str, one: Sms, dated: bool, plan: tuple[str, str, int, int] | None
    ) -> None:
        """The sender tells the ledger, and again if it crashes."""
        submitted_at = one.submitted_at if dated else None
        self.booked.append(booked(one, submitted_at))
        if self._do(name, lambda process: process.book(one, submitted_at), plan):
            return
        self._do(name, lambda process: process.book(one, submitted_at), None)

    @rule(name=names, plan=plans(faults.WORK))
    def work(self, name: str, plan: tuple[str, str, int, int] | None) -> None:
        self._do(name, Process.work, plan)

    @rule(name=names, plan=plans(faults.ASK))
    def reconcile(self, name: str, plan: tuple[str, str, int, int] | None) -> None:
        self.witness.end_leases()
        self._do(name, Process.reconcile, plan)

    @rule(name=names, plan=plans(faults.LOSE))
    def declare_losses(self, name: str, plan: tuple[str, str, int, int] | None) -> None:
        self._do(name, Process.lose, plan)

    @rule(name=names, journal=st.booleans(), plan=plans(faults.REPLAY))
    def replay(self, name: str, journal: bool, plan: tuple[str, str, int, int] | None) -> None:
        self._do(name, lambda process: process.replay(journal=journal), plan)

    @rule(name=names)
    def restart(self, name: str) -> None:
        """The next one starts when it has something to do."""
        if name in self.processes:
            self.processes.pop(name).close()

    @rule()
    def upgrade(self) -> None:
        """From the next start on, the processes read all codes."""
        self.is_new_version = True

    # What must hold after every step.

    @invariant()
    def all_that_was_acked_is_committed(self) -> None:
        assert not self.acked_early
        noted = {one.envelope_id for one in self.witness.journal()}
        assert set(self.exchange.queue.acked) <= noted

    @invariant()
    def the_tables_are_what_they_should_be(self) -> None:
        rows, noted = self.witness.rows(), self.witness.journal()
        assert sorted(row.merged for row in rows) == sorted(
            expected(self.exchange, self.booked, noted)
        )
        for row in rows:
            self._must_be_right(row)
        losses = [one for one in noted if one.is_loss]
        assert len({one.key for one in losses}) == len(losses), "lost twice"
        for one in losses:
            self._must_be_too_late(one)

    def _must_be_noted(self, envelope_id: str) -> None:
        """Called by the broker, before it deletes."""
        if not self.witness.is_noted(envelope_id):
            self.acked_early.append(envelope_id)

    def _must_be_right(self, row: Row) -> None:
        assert row.key in self.exchange.sms, "nobody sent this"
        assert RANK[row.status] >= self.ranks.get(row.key, 0), "a status went down"
        self.ranks[row.key] = RANK[row.status]
        is_planned = row.status in OPEN and row.submitted_at is not None
        assert is_planned == (row.next_query_at is not None), "planned, or not, and should"

    def _must_be_too_late(self, loss: Noted) -> None:
        assert loss.received_at >= self.exchange.sms[loss.key].submitted_at + MEMORY

    # The end.

    def teardown(self) -> None:
        try:
            self._calm_down()
        finally:
            for process in self.processes.values():
                process.close()

    def _calm_down(self) -> None:
        """Let everything run until all is quiet; then all that can be known is known."""
        if self.acked_early:
            return  # told already
        began_at = self.clock.now()
        self.exchange.tokens_are_to_be_had = True
        self.upgrade()
        for name in NAMES:
            self.restart(name)
        corrected = [self.exchange.sms[key] for key in sorted(self.corrections)]
        self.produce(corrected, first=False)
        self._drain()
        end = began_at + MEMORY + timedelta(days=1)
        while self.clock.now() < end:
            self.clock.advance(3 * _DAY)
            self.reconcile("a", None)
            self.declare_losses("b", None)
        self.replay("a", journal=False, plan=None)
        self.the_tables_are_what_they_should_be()
        left = [one.body for one in self.witness.journal() if one.outcome == "quarantined"]
        assert set(left) <= set(_GARBAGE)
        ends = {row.key: row.status for row in self.witness.rows()}
        for sms in self.exchange.sms.values():
            assert ends.get(sms.key) in self._possible_ends(sms, began_at), sms

    def _drain(self) -> None:
        for _ in range(200):
            if not self.exchange.queue.bodies:
                return
            self.work("a", None)
        raise AssertionError("the queue does not become empty")

    def _possible_ends(self, sms: Sms, calm_since: datetime) -> set[Status | None]:
        """Return how an SMS may stand in the end; None: not at all."""
        bookings = [one for one in self.booked if one.biz_id == sms.biz_id]
        is_planned = any(one.submitted_at for one in bookings)
        if sms.key in self.reported:
            return {sms.truth}
        if not bookings:
            return {None}
        if not is_planned:
            return {Status.AWAITED}  # nobody knows on which day to ask
        if sms.truth is None:
            return {Status.LOST}
        if calm_since < sms.submitted_at + _LAST_QUESTION:
            return {sms.truth}
        return {sms.truth, Status.LOST}  # whether it was asked in time was up to the steps

    def _do(
        self,
        name: str,
        action: Callable[[Process], None],
        plan: tuple[str, str, int, int] | None,
    ) -> bool:
        """Do something in a process, which is started if it does not run; return whether it has
        survived."""
        process = self._process(name)
        if plan:
            other = NAMES[1 - NAMES.index(name)]
            process.faults.arm(*plan, rival=lambda: self._process(other).work())
        try:
            action(process)
        except Crash:
            self.processes.pop(name).close()
            return False
        process.faults.disarm()
        return True

    def _process(self, name: str) -> Process:
        if name not in self.processes:
            self.processes[name] = Process(
                self.url, self.exchange, self.build, is_new=self.is_new_version
            )
        return self.processes[name]

    def _go_on_until(self, time: datetime) -> None:
        self.clock.advance(max(0.0, (time - self.clock.now()).total_seconds()))


def booked(sms: Sms, submitted_at: datetime | None) -> Receipt:
    """Return what the ledger knows of a send."""
    biz_id, phone, provider, account = sms.key
    return Receipt(
        provider=provider,
        account=account,
        biz_id=biz_id,
        phone=phone,
        status=Status.AWAITED,
        origin=Origin.SEND,
        out_id=sms.out_id,
        send_api="SendSms",
        submitted_at=submitted_at,
    )
