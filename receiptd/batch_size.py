"""How many envelopes a source's workers ask for at once: fewer while handles expire before the work
is done."""

import threading

from receiptd.log import get_logger

# Good batches in a row after which the size is doubled again: soon enough after a slow minute, and
# seldom enough that a source that stays slow loses few handles to the trying.
_GOOD_BATCHES = 20


class BatchSize:
    """The size for one source, shared by its threads. Thread-safe."""

    def __init__(self, source: str, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._current = most
        self._good = 0
        self._log = get_logger(source=source)

    @property
    def current(self) -> int:
        return self._current

    @property
    def is_shrunk(self) -> bool:
        return self._current < self._most

    def acked(self, *, acked: int, expired: int) -> None:
        """Take note of a batch: `expired` handles were dead when the work was done.

        More than half of them halve the size, down to 1. It is said when the size leaves what is
        configured, and when it is back.
        """
        with self._lock:
            if expired > acked:
                self._shrink(acked, expired)
            elif expired == 0:
                self._grow()
            else:
                self._good = 0

    def _shrink(self, acked: int, expired: int) -> None:
        self._good = 0
        was, self._current = self._current, max(1, self._current // 2)
        if was == self._most > 1:
            self._log.warning(
                "batch.shrunk", acked=acked, expired=expired, batch_size=self._current
            )

    def _grow(self) -> None:
        if self._current == self._most:
            return
        self._good += 1
        if self._good < _GOOD_BATCHES:
            return
        self._good = 0
        self._current = min(self._most, self._current * 2)
        if self._current == self._most:
            self._log.info("batch.restored", batch_size=self._current)
