"""Reconciliation of one account: a thread that asks about what is due.

One of all processes does it at a time, by a lease per account, so that nothing is asked twice and
the rate is the account's, whatever the number of processes. Several accounts are shared out among
them.
"""

import threading
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta

from receiptd.chore import LeasedChore
from receiptd.errors import ConfigError, StoreError
from receiptd.gate import Gate
from receiptd.log import get_logger
from receiptd.model import Origin, Receipt, Status
from receiptd.providers.base import QueryApi
from receiptd.providers.sends import is_synthetic
from receiptd.pulse import Pulse
from receiptd.reconcile.asking import (
    ANSWERED,
    NOTHING,
    REFUSED,
    UNAVAILABLE,
    UNDECIDED,
    WAITING,
    Asker,
    is_askable,
)
from receiptd.reconcile.audit import Auditor
from receiptd.reconcile.part import Part
from receiptd.reconcile.throttle import Throttle
from receiptd.store import plan
from receiptd.store.plan import Due, WhoseTurn

# A holder that was killed is replaced within its term.
TERM_S = 15.0
_ROUND = 500  # rows of one look
# A call takes a tenth of a second or more, and `max_per_second` is what may begin in one.
_CALL_S = 0.2
_MOST_THREADS = 16
# A question that fails this often in a row gives way to the others, for a while.
_FAILURES = 3
_PUT_OFF = timedelta(minutes=15)
PUT_OFF = "put_off"
# How often it is looked whether a day is to be audited, and how long after the start: the queues
# bring what came meanwhile first.
_AUDIT_EVERY_S = 600.0
_FIRST_AUDIT_S = 300.0
_LOG_EVERY_S = 60.0


class Reconciler(LeasedChore):
    """See the module. `provider` and `account` are those of the rows, and of `api`."""

    LOOK_S = 5.0  # one probe of an index
    HELD_S = TERM_S
    RENEW_S = 4.0

    def __init__(
        self, part: Part, *, provider: str, account: str, api: QueryApi, pulse: Pulse
    ) -> None:
        super().__init__(
            f"query:{account}",
            part.store.leases(part.instance),
            store_gate=part.store_gate,
            pulse=pulse,
            stopping=part.stopping,
            clock=part.clock,
            log=get_logger(account=account),
        )
        self._part = part
        self._store = part.store
        self._provider = provider
        self._account = account
        self._api = api
        self._throttle = Throttle(part.per_second, part.clock)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._log_at = part.clock.monotonic() + _LOG_EVERY_S
        self._audit_at = part.clock.monotonic() + _FIRST_AUDIT_S
        self._auditor = Auditor(
            provider=provider,
            account=account,
            api=api,
            store=part.store,
            throttle=lambda: self._throttle.wait(part.stopping),
            clock=part.clock,
            goes_on=self._goes_on,
        )
        self._asker = Asker(
            account=account,
            api=api,
            store=part.store,
            schedule=part.schedule,
            throttle=self._throttle,
            gate=Gate(part.clock),
            store_gate=part.store_gate,
            stopping=part.stopping,
            clock=part.clock,
            log=self._log,
            told=self._count,
        )

    def cancel(self) -> None:
        """End running calls; called from the daemon's thread after `stopping` was set."""
        self._api.cancel()

    def _work(self) -> None:
        """Ask about all that is due and audit what is, if no other process does."""
        self._ask_due()
        if self._clock.monotonic() >= self._audit_at:
            self._audit_at = self._clock.monotonic() + _AUDIT_EVERY_S
            self._audit()

    def _tell_failed(self, error: Exception) -> None:
        self._log.warning("reconcile.failed", error=str(error))

    def _leave(self) -> None:
        super()._leave()
        self._api.close()

    def _ask_due(self) -> None:
        while not self._stopping.is_set() and self._is_due():
            if not self._takes_lease():
                return
            self._ask_all(self._bind(self._due()))  # what the last holder left
            self._tell()
        if self._leases.holds(self.lease):
            self._leases.release(self.lease)
            self._tell(now=True)

    def _audit(self) -> None:
        if self._takes_lease():
            try:
                self._auditor.run_once(self._stopping)
            finally:
                self._leases.release(self.lease)

    def _goes_on(self) -> bool:
        """Stay alive and keep the lease; return whether to go on."""
        self._alive()
        return self._keeps_lease() and not self._stopping.is_set()

    def _is_due(self) -> bool:
        self._alive()
        with self._store.reading() as connection:
            return plan.is_due(connection, self._turn())

    def _due(self) -> Sequence[Due]:
        self._alive()
        with self._store.reading() as connection:
            return plan.due(connection, self._turn(), _ROUND)

    def _turn(self) -> WhoseTurn:
        now = self._clock.now()
        return WhoseTurn(
            now=now,
            sent_after=now - self._part.schedule.window,
            provider=self._provider,
            account=self._account,
        )

    def _bind(self, due: Sequence[Due]) -> list[Due]:
        """Return what is to be asked about, after sends without an answer were given the rows under
        which they are known by now."""
        unanswered = [one for one in due if is_synthetic(one.biz_id)]
        known = {}
        if unanswered:
            with self._store.reading() as connection:
                known = plan.find_sent(connection, unanswered)
        if known:
            sends = [_send(one, known[one.key]) for one in unanswered if one.key in known]
            self._store.record_sends(sends, settled=list(known))
        askable, until = [], []
        for one in due:
            if one.key in known:
                continue
            if is_askable(one):
                askable.append(one)
            else:
                until.append((one.key, self._part.schedule.end(one.submitted_at)))
        if until:
            with self._store.writing() as connection:
                plan.put_off(connection, until)
        return askable

    def _ask_all(self, due: Sequence[Due]) -> None:
        """Ask about each, in several threads; those that are not answered come last."""
        waiting = deque(due)
        failures: Counter[str] = Counter()
        most = round(self._part.per_second * _CALL_S)
        threads = max(1, min(most, _MOST_THREADS, len(waiting)))
        with ThreadPoolExecutor(threads, thread_name_prefix=self.lease) as pool:
            running: set[Future[None]] = {
                pool.submit(self._drain, waiting, failures) for _ in range(threads)
            }
            while running:
                done, running = wait(running, timeout=1.0)
                self._keeps_lease()
                self._alive()
                for one in done:
                    one.result()

    def _drain(self, waiting: deque[Due], failures: Counter[str]) -> None:
        while not self._stopping.is_set() and self._leases.holds(self.lease):
            try:
                due = waiting.popleft()
            except IndexError:
                return
            if self._is_answered(due):
                continue
            name = f"{due.biz_id} {due.phone}"
            failures[name] += 1
            if failures[name] < _FAILURES:
                waiting.append(due)
            elif not self._stopping.is_set():
                self._put_off(due)

    def _is_answered(self, due: Due) -> bool:
        try:
            return self._asker.ask(due)
        except (StoreError, ConfigError):
            raise
        except Exception:
            # A bug that one answer brings out must not hold back the questions behind it.
            self._log.error("worker.failed", exc_info=True)
            return False

    def _put_off(self, due: Due) -> None:
        self._count(PUT_OFF)
        now = self._clock.now()
        left = self._part.schedule.end(due.submitted_at) - now
        until = now + min(_PUT_OFF, left / 4)  # never past the last chance
        with self._store.writing() as connection:
            plan.put_off(connection, [(due.key, until)])

    def _count(self, word: str) -> None:
        with self._lock:
            self._counts[word] += 1
        self._part.told(self._account, word)

    def _tell(self, *, now: bool = False) -> None:
        moment = self._clock.monotonic()
        if not (now or moment >= self._log_at):
            return
        self._log_at = moment + _LOG_EVERY_S
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if counts:
            self._log.info(
                "reconcile.progress",
                answered=counts[ANSWERED],
                waiting=counts[WAITING],
                nothing=counts[NOTHING],
                undecided=counts[UNDECIDED],
                unavailable=counts[UNAVAILABLE],
                refused=counts[REFUSED],
                put_off=counts[PUT_OFF],
            )


def _send(due: Due, biz_id: str) -> Receipt:
    """Return what the ledger knows of a send, under the provider's own id."""
    return Receipt(
        provider=due.provider,
        account=due.account,
        biz_id=biz_id,
        phone=due.phone,
        status=Status.AWAITED,
        origin=Origin.SEND,
        out_id=due.out_id,
        sign_name=due.sign_name,
        template_code=due.template_code,
        send_api=due.send_api,
        submitted_at=due.submitted_at,
    )
