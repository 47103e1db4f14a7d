"""Saying what can no longer be known: a send whose window has closed is `lost`, once."""

from collections import Counter

import msgspec

from receiptd.errors import ConfigError, StoreError
from receiptd.log import get_logger
from receiptd.model import RECONCILE_SOURCE, WINDOW_CLOSED, Envelope, Status
from receiptd.pulse import Pulse
from receiptd.reconcile.asking import bare_entry
from receiptd.reconcile.part import Part
from receiptd.store import plan
from receiptd.store.plan import Answer, Due

LOOK_S = 60.0
_ROUND = 500
_ALLOWANCE_S = 60.0


class Losses:
    """One thread's work. It runs in every process: what another said first is not said again."""

    def __init__(self, part: Part, *, pulse: Pulse) -> None:
        self._part = part
        self._store = part.store
        self._schedule = part.schedule
        self._stopping = part.stopping
        self._clock = part.clock
        self._pulse = pulse
        self._failing = False
        self._log = get_logger(thread="losses")

    def run(self) -> None:
        """Work until stopped. Never raises: a bug is logged, waited out and tried again."""
        try:
            while not self._rest(LOOK_S):
                try:
                    self.run_once()
                except Exception:
                    self._log.error("worker.failed", exc_info=True)
        finally:
            self._pulse.stop()

    def run_once(self) -> None:
        """Declare lost what is over, if the database is there."""
        if not self._part.store_gate.wait_open(self._stopping, self._alive):
            return
        try:
            self._declare_all()
        except (StoreError, ConfigError) as exc:
            if not self._failing:
                self._log.warning("reconcile.failed", error=str(exc))
            self._failing = True
            return
        self._failing = False

    def _declare_all(self) -> None:
        lost: Counter[str] = Counter()
        try:
            while not self._stopping.is_set():
                self._alive()
                over = self._over()
                for answer in self._store.answer([self._answer(one) for one in over]):
                    lost[answer.key[3]] += 1
                if len(over) < _ROUND:
                    return
        finally:
            for account, count in lost.items():
                self._part.lost(account, count)
                self._log.warning("sends.lost", account=account, count=count)

    def _over(self) -> list[Due]:
        now = self._clock.now()
        with self._store.reading() as connection:
            return plan.over(connection, now, now - self._schedule.window, _ROUND)

    def _answer(self, due: Due) -> Answer:
        body = msgspec.json.encode(
            {"asked": due.query_count, "window_days": self._schedule.window.days}
        )
        envelope = Envelope(source=RECONCILE_SOURCE, envelope_id=due.biz_id, body=body, handle="")
        entry = bare_entry(envelope, due, Status.LOST, WINDOW_CLOSED, self._clock)
        return Answer(key=due.key, entries=[entry], next_query_at=None, counts=False)

    def _rest(self, seconds: float) -> bool:
        self._pulse.beat(seconds + _ALLOWANCE_S)
        return self._clock.wait(self._stopping, seconds)

    def _alive(self) -> None:
        self._pulse.beat(_ALLOWANCE_S)
