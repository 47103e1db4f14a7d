"""Long polls: who waits for which mailbox, woken by events and by one timer per mailbox."""

import asyncio
from collections import deque
from collections.abc import Callable

from receiptd.sandbox.mailbox import Mailbox
from receiptd.sandbox.world import World


class Polls:
    """The waiting room of one event loop. `notice` may be called from any thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop: asyncio.AbstractEventLoop | None = None
        self.began_waiting: Callable[[], None] = lambda: None
        self._waiters: dict[Mailbox, deque[asyncio.Future[None]]] = {}
        self._timers: dict[Mailbox, asyncio.TimerHandle] = {}

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait on this loop from now on."""
        self._loop = loop

    def notice(self, mailbox: Mailbox) -> None:
        """Look at a mailbox that changed."""
        # Without the check every message sent from another thread would wake the loop for nobody. A
        # waiter enters the room before it looks into the mailbox, so none is overlooked.
        if mailbox in self._waiters and self._loop is not None:
            self._loop.call_soon_threadsafe(self._look, mailbox)

    def notice_all(self) -> None:
        """Wake every poll: the clock was turned."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_all)

    def waiting(self, mailbox: Mailbox | None = None) -> int:
        """Return how many polls wait, for one mailbox or in all."""
        rooms = list(self._waiters.items())
        return sum(len(room) for owner, room in rooms if mailbox is None or owner is mailbox)

    def enter(self, mailbox: Mailbox) -> "asyncio.Future[None]":
        """Take a place in the line; do this before looking into the mailbox."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(mailbox, deque()).append(waiter)
        return waiter

    def leave(self, mailbox: Mailbox, waiter: "asyncio.Future[None]") -> None:
        """Give up the place; a wake-up that came too late goes to the next in line."""
        room = self._waiters.get(mailbox)
        if room is None:
            return
        if waiter in room:
            room.remove(waiter)
        if not room:
            self._waiters.pop(mailbox, None)
            timer = self._timers.pop(mailbox, None)
            if timer is not None:
                timer.cancel()
        elif waiter.done():
            self._look(mailbox)

    async def wait(
        self, mailbox: Mailbox, waiter: "asyncio.Future[None]", timeout_s: float
    ) -> None:
        """Wait until this place is called or `timeout_s` (real seconds) have passed."""
        self._arm(mailbox)
        self.began_waiting()
        await asyncio.wait([waiter], timeout=timeout_s)

    def _look(self, mailbox: Mailbox) -> None:
        room = self._waiters.get(mailbox)
        if not room:
            return
        ready, _ = self._world.outlook(mailbox)
        for waiter in list(room):
            if ready <= 0:
                break
            if not waiter.done():
                waiter.set_result(None)
                ready -= 1
        self._arm(mailbox)

    def _arm(self, mailbox: Mailbox) -> None:
        old = self._timers.pop(mailbox, None)
        if old is not None:
            old.cancel()
        _, next_at = self._world.outlook(mailbox)
        if next_at is None or mailbox not in self._waiters:
            return
        wait_s = self._world.clock.seconds_until(next_at)
        if wait_s is not None:
            loop = asyncio.get_running_loop()
            self._timers[mailbox] = loop.call_later(wait_s, self._look, mailbox)

    def _wake_all(self) -> None:
        for room in self._waiters.values():
            for waiter in room:
                if not waiter.done():
                    waiter.set_result(None)
