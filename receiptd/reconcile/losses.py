"""Saying what can no longer be known: a send whose window has closed is `lost`, once."""

from collections import Counter

import msgspec

from receiptd.chore import Chore
from receiptd.log import get_logger
from receiptd.model import RECONCILE_SOURCE, WINDOW_CLOSED, Envelope, Status
from receiptd.pulse import Pulse
from receiptd.reconcile.asking import bare_entry
from receiptd.reconcile.part import Part
from receiptd.store import plan
from receiptd.store.plan import Answer, Due

_ROUND = 500


class Losses(Chore):
    """One thread's work. It runs in every process: what another said first is not said again."""

    LOOK_S = 60.0

    def __init__(self, part: Part, *, pulse: Pulse) -> None:
        super().__init__(
            store_gate=part.store_gate,
            pulse=pulse,
            stopping=part.stopping,
            clock=part.clock,
            log=get_logger(thread="losses"),
        )
        self._part = part
        self._store = part.store
        self._schedule = part.schedule

    def _work(self) -> None:
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

    def _tell_failed(self, error: Exception) -> None:
        self._log.warning("reconcile.failed", error=str(error))

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
