"""Sends the SMS, as an application would: through all four send APIs, each call in the ledger."""

import itertools
import random
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence

from receiptd.demo.account import Sent
from receiptd.model import Receipt
from receiptd.phone import to_e164
from receiptd.providers.base import SendOrder
from receiptd.sandbox import Truth
from receiptd.sending import Outcome, Sender, SendResult
from receiptd.store.merge import key

# API -> account of the sandbox's configuration, share of all SMS in tenths, numbers a call.
ACCOUNTS = {"SendSms": "main", "SendBatchSms": "main", "polyv": "live", "jushita": "shop"}
_TENTHS = {"SendSms": 3, "SendBatchSms": 3, "polyv": 2, "jushita": 2}
_NUMBERS = {"SendSms": 10, "SendBatchSms": 25, "polyv": 10, "jushita": 20}
# API -> the number, first in its first call, whose receipt never comes.
LOST = {"SendSms": "13900000001", "jushita": "13900000002"}
_PAUSE_S = 0.1  # between two rounds, so that there is something to see


class Sending(threading.Thread):
    """Sends `total` SMS, through each of `senders` in turn. `results` grows while it runs."""

    def __init__(self, senders: Mapping[str, Sender], total: int, seed: int) -> None:
        super().__init__(name="sending", daemon=True)
        self._senders = senders
        self._total = total
        self._chance = random.Random(seed)
        self.results: list[SendResult] = []
        self.stopping = threading.Event()
        self.error: Exception | None = None

    @property
    def count(self) -> int:
        """How many SMS were sent so far."""
        return sum(len(result.rows) for result in self.results.copy())

    @property
    def lost(self) -> list[tuple[SendResult, Receipt]]:
        """The sends whose receipts never come, of those made so far."""
        phones = {to_e164(phone) for phone in LOST.values()}
        results = self.results.copy()
        return [(one, row) for one in results for row in one.rows if row.phone in phones]

    def account_for(self, truth: Iterable[Truth]) -> list[Sent]:
        """Return every SMS that was sent, with what the sandbox says should become of it."""
        outcomes = {(one.biz_id, to_e164(one.phone)): one.outcome or "" for one in truth}
        lost = {key(row) for _, row in self.lost}
        return [
            Sent(
                api=result.api,
                key=key(row),
                outcome=outcomes[row.biz_id, row.phone],
                is_lost=key(row) in lost,
            )
            for result in self.results
            for row in result.rows
        ]

    def run(self) -> None:
        """Send until all are sent; what goes wrong is kept in `error`."""
        try:
            self._send_all()
        except Exception as exc:  # shown by the demonstration, which then ends
            self.error = exc

    def _send_all(self) -> None:
        left = {api: self._total * tenths // 10 for api, tenths in _TENTHS.items()}
        left["jushita"] += self._total - sum(left.values())
        first = {api: [LOST[api]] if api in LOST and left[api] else [] for api in left}
        others = self._others()
        while any(left.values()):
            for api, sender in self._senders.items():
                size = min(left[api], _NUMBERS[api])
                if size == 0:
                    continue
                phones = first.pop(api, [])
                phones += itertools.islice(others, size - len(phones))
                self._send(sender, phones)
                left[api] -= size
            if self.stopping.wait(_PAUSE_S):
                return

    def _send(self, sender: Sender, phones: Sequence[str]) -> None:
        order = SendOrder(
            phones=[to_e164(phone) for phone in phones],
            params=[{"code": "1234"}],
            sign_names=["示例"],
            template_code="SMS_1",
        )
        result = sender.send(order)
        if result.verdict.outcome is not Outcome.ACCEPTED or not result.is_complete:
            raise RuntimeError(f"{sender.api}: {result.verdict}")
        self.results.append(result)

    def _others(self) -> Iterator[str]:
        for number in itertools.count(1 + len(LOST)):
            yield f"{self._chance.choice(('136', '139', '158', '186', '199'))}{number:08d}"
