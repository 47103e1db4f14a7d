"""The state machine: whatever can happen, in any order, and what must hold after every step."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from receiptd.clock import ManualClock
from receiptd.errors import StoreUnavailable
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
# Short enough that most sends are still asked about when all calms down.
_SPANS_S = (1.0, 31.0, 3 * 3600.0, 2 * _DAY)
_PAUSES_S = (0.0, 16 * 60.0, 16 * 60.0, 7 * 3600.0, _DAY, 8 * _DAY)
_GARBAGE = (b"no JSON", b"\xff\x00", b'{"biz_id": "1^0"}')
# A day before the last question: if nothing disturbs it, it is asked.
_LAST_QUESTION = timedelta(days=27)


# (point, deed, first pass, passes) of what happens during a step, or nothing.
Plan: TypeAlias = tuple[str, str, int, int] | None

usually = st.sampled_from([True, True, True, False])


def plans(points: Points) -> st.SearchStrategy[Plan]:
    """What may happen during a step that passes `points`."""
    deeds = [(point, deed) for point, names in points.items() for deed in names]
    deeds += 3 * [one for one in deeds if one[0] in faults.UNCOMMITTED]
    first = st.sampled_from([1, 1, 1, 1, 2])
    happens = st.tuples(st.sampled_from(deeds), first, st.sampled_from([1, 1, 2, 9]))
    some = happens.map(lambda one: (*one[0], *one[1:]))
    return some | some | st.none()


# Most have a receipt.
fates = st.sampled_from([*Fate, Fate.DELIVERED, Fate.FAILED, Fate.DELIVERED, Fate.FAILED])


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

    @initialize(target=sms, some=st.lists(fates, min_size=4, max_size=4))
    def begin(self, some: list[Fate]) -> MultipleResults[Sms]:
        sent = [self.exchange.submit(fate, timedelta(seconds=5)) for fate in some]
        for one in sent[1:]:
            self.book("a", one, dated=True, plan=None)
        return multiple(*sent)

    @rule(
        target=sms,
        fate=fates,
        delay_s=st.sampled_from([5.0, 2 * 3600.0, 3 * _DAY]),
    )
    def submit(self, fate: Fate, delay_s: float) -> Sms:
        return self.exchange.submit(fate, timedelta(seconds=delay_s))

    @rule(
        some=st.lists(sms, min_size=1, max_size=4),
        first=st.booleans(),
        overtakes=st.booleans(),
    )
    def produce(self, some: list[Sms], first: bool, overtakes: bool) -> None:
        """The provider puts receipts into the queue, in one envelope, as soon as it has them; or
        what the carriers said at `first`. What `overtakes` is received before all others."""
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
        else:
            self.exchange.publish_garbage(_GARBAGE[len(some) % 3])
        if overtakes:
            self.exchange.reverse_queue()

    @rule(some=st.lists(sms, min_size=1, max_size=4), name=names, plan=plans(faults.WORK))
    def produce_and_work(self, some: list[Sms], name: str, plan: Plan) -> None:
        self.produce(some, first=False, overtakes=True)
        self.work(name, 2, plan)

    @rule(seconds=st.sampled_from(_SPANS_S))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(pause_s=st.sampled_from([0.0, 0.0, 45.0]))
    def expire_tokens(self, pause_s: float) -> None:
        """No token is good any more, and new ones are to be had after a pause."""
        self.exchange.expire_tokens(pause_s)

    # What receiptd does.

    @rule(name=names, one=sms, dated=usually, plan=plans(faults.BOOK))
    def book(self, name: str, one: Sms, dated: bool, plan: Plan) -> None:
        """The sender tells the ledger, and again if it does not know whether that was done."""
        submitted_at = one.submitted_at if dated else None
        self.booked.append(booked(one, submitted_at))
        if not self._do(name, lambda process: process.book(one, submitted_at), plan):
            self._do(name, lambda process: process.book(one, submitted_at), None)

    @rule(name=names, batches=st.integers(1, 3), plan=plans(faults.WORK))
    def work(self, name: str, batches: int, plan: Plan) -> None:
        for _ in range(batches):
            if not self._do(name, Process.work, plan):
                return

    @rule(name=names, after_s=st.sampled_from(_PAUSES_S), plan=plans(faults.ASK))
    def reconcile(self, name: str, after_s: float, plan: Plan) -> None:
        self.clock.advance(after_s)
        self.witness.end_leases()
        self._do(name, Process.reconcile, plan)

    @rule(name=names, after_s=st.sampled_from(_PAUSES_S), plan=plans(faults.LOSE))
    def declare_losses(self, name: str, after_s: float, plan: Plan) -> None:
        self.clock.advance(after_s)
        self._do(name, Process.lose, plan)

    @rule(name=names, journal=st.booleans(), plan=plans(faults.REPLAY))
    def replay(self, name: str, journal: bool, plan: Plan) -> None:
        self._do(name, lambda process: process.replay(journal=journal), plan)

    @rule(name=names, is_new_version=usually)
    def restart(self, name: str, is_new_version: bool) -> None:
        """The next one starts when it has something to do. The new version reads all codes."""
        self.is_new_version |= is_new_version
        if name in self.processes:
            self.processes.pop(name).close()

    # What must hold after every step.

    @invariant()
    def all_that_was_acked_is_committed(self) -> None:
        noted = {one.envelope_id for one in self.witness.journal()}
        assert not self.acked_early, "acked before it was committed"
        assert set(self.exchange.queue.acked) <= noted, "acked, and not there"

    @invariant()
    def the_tables_are_what_they_should_be(self) -> None:
        rows, noted = self.witness.rows(), self.witness.journal()
        should_be = sorted(expected(self.exchange, self.booked, noted))
        assert sorted(row.merged for row in rows) == should_be, "not what was said"
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
        over_at = self.exchange.sms[loss.key].submitted_at + MEMORY
        assert loss.received_at >= over_at, "lost too early"

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
        for name in NAMES:
            self.restart(name, is_new_version=True)
        corrected = [self.exchange.sms[key] for key in sorted(self.corrections)]
        self.produce(corrected, first=False, overtakes=False)
        self._drain()
        end = began_at + MEMORY + timedelta(days=1)
        while self.clock.now() < end:
            self.clock.advance(3 * _DAY)
            self.reconcile("a", 0.0, None)
            self.declare_losses("b", 0.0, None)
        self.replay("a", journal=False, plan=None)
        self.the_tables_are_what_they_should_be()
        left = [one.body for one in self.witness.journal() if one.outcome == "quarantined"]
        assert set(left) <= set(_GARBAGE), "readable, and still in quarantine"
        ends = {row.key: row.status for row in self.witness.rows()}
        for sms in self.exchange.sms.values():
            possible = self._possible_ends(sms, began_at)
            assert ends.get(sms.key) in possible, "did not end as it did"

    def _drain(self) -> None:
        for _ in range(200):
            if not self.exchange.queue.bodies:
                return
            self.work("a", 1, None)
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

    def _do(self, name: str, action: Callable[[Process], None], plan: Plan) -> bool:
        """Do something in a process, which is started if it does not run; return whether it was
        done to its end."""
        process = self._process(name)
        if plan:
            other = NAMES[1 - NAMES.index(name)]
            process.faults.arm(*plan, rival=lambda: self._process(other).work())
        try:
            action(process)
        except Crash:
            self.processes.pop(name).close()
            return False
        except StoreUnavailable:
            return False  # given up, as commands do that are not the daemon
        finally:
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
