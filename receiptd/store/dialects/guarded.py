"""A psycopg connection that never waits for ever.

When the path to the server falls silent in the middle of a statement, none of PostgreSQL's own
limits helps: the server is well, and acknowledges what it is sent. psycopg waits on the socket in
steps of 0.1 s in which it asks the operation's generator whether to go on, so the limit is put
there: no thread, and no signal.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

_Result = TypeVar("_Result")


class GuardedConnection(psycopg.Connection[tuple[Any, ...]]):
    """Closes itself and raises OperationalError if an operation takes more than `patience_s`."""

    patience_s = 12.0

    def wait(
        self, gen: Generator[Any, Any, _Result], *args: Any, **kwargs: Any
    ) -> _Result:  # psycopg: once per statement, commit and rollback
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, operation: Generator[Any, Any, _Result]) -> Generator[Any, Any, _Result]:
        deadline = time.monotonic() + self.patience_s
        try:
            wish = next(operation)
            while True:
                ready = yield wish
                wish = operation.send(ready)
                # Looked at last, so that an answer that has come is never thrown away.
                if time.monotonic() >= deadline:
                    break
        except StopIteration as end:
            result: _Result = end.value
            return result
        # So that the pool sees a connection that is gone; nothing more is sent on it.
        self.pgconn.finish()
        raise psycopg.OperationalError(f"no answer within {self.patience_s:g} s")

    @contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """Let operations take `seconds` within the block."""
        before = self.patience_s
        self.patience_s = seconds
        try:
            yield
        finally:
            self.patience_s = before
