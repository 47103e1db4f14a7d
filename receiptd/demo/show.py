"""What is shown: a live view on a terminal, plain lines elsewhere, and the closing table."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from receiptd.demo.account import Account

_PLAIN_EVERY_S = 1.0


class View(Protocol):
    """A place where progress is shown."""

    def say(self, text: str) -> None: ...
    def update(self, *, sent: int, landed: int, acked: int) -> None: ...


class LiveView:
    """Three bars that move."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._sent = progress.add_task("SMS sent", total=total)
        self._landed = progress.add_task("receipts in the database", total=total)
        self._acked = progress.add_task("envelopes acked, after commit", total=None)

    def say(self, text: str) -> None:
        self._progress.console.print(text)

    def update(self, *, sent: int, landed: int, acked: int) -> None:
        self._progress.update(self._sent, completed=sent)
        self._progress.update(self._landed, completed=landed)
        self._progress.update(self._acked, completed=acked)


class PlainView:
    """A line a second, for logs and pipes."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._next_at = 0.0

    def say(self, text: str) -> None:
        self._console.print(text)

    def update(self, *, sent: int, landed: int, acked: int) -> None:
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + _PLAIN_EVERY_S
        self._console.print(
            f"  sent {sent}/{self._total}, receipts in the database {landed}, acked {acked}"
        )


@contextmanager
def view(console: Console, total: int) -> Iterator[View]:
    """Show progress while the block runs, in the way that suits `console`."""
    if not console.is_terminal:
        yield PlainView(console, total)
        return
    columns = (
        TextColumn("{task.description:<32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield LiveView(progress, total)


def closing_table(account: Account) -> Table:
    """Return the table that accounts for every send."""
    table = Table(title="Every send accounted for", title_justify="left")
    table.add_column("sent through")
    for column in ("sent", "delivered", "failed", "of these found by query", "lost"):
        table.add_column(column, justify="right")
    for api, count in account.sent.items():
        statuses = account.landed.get(api, Counter())
        numbers = (
            count,
            statuses["delivered"],
            statuses["failed"],
            account.queried[api],
            count - statuses["delivered"] - statuses["failed"],
        )
        table.add_row(api, *map(str, numbers))
    return table


def closing_lines(account: Account) -> list[str]:
    """Return the rest of the account, a line each."""
    return [
        f"sent            {sum(account.sent.values())}",
        f"accounted for   {sum(sum(one.values()) for one in account.landed.values())}",
        f"found by query  {account.queried.total()}",
        f"replies in      {account.replies_landed} of {account.replies}",
        f"journal rows    {account.journal_rows}",
        f"duplicates      {account.duplicates}, merged",
        f"redeliveries    {account.redelivered}, merged",
        f"quarantined     {account.quarantined}, from {account.poison} poison bodies",
        f"left on broker  {account.left_on_broker}",
        f"wrong status    {len(account.wrong)}",
        f"unexpected rows {account.unexpected}",
        f"early acks      {account.early_acks}",
        f"lost            {len(account.missing)}",
    ]
