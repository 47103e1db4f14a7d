"""What the protocol modules need from the server around them."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from receiptd.sandbox.credentials import Keyring
from receiptd.sandbox.mailbox import Delivery, Mailbox, Message
from receiptd.sandbox.polling import Polls
from receiptd.sandbox.world import World


@dataclass(slots=True)
class Service:
    """One sandbox's parts, as the request handlers use them."""

    world: World
    keyring: Keyring
    polls: Polls
    queue_prefix: str
    tokens_only: bool
    base_url: Callable[[], str]

    async def receive(
        self,
        mailbox: Mailbox,
        limit: int,
        wait_s: float,
        hidden_s: float,
        wanted: Callable[[Message], bool] | None = None,
    ) -> list[Delivery]:
        """Take messages, waiting up to `wait_s` for the first one.

        The wait ends on whichever clock gets there first, so that a poll ends by itself even where
        nobody turns the virtual one.
        """
        loop_time = asyncio.get_running_loop().time
        ends_at = loop_time() + wait_s
        ends_in_world = self.world.clock.now() + wait_s
        while True:
            waiter = self.polls.enter(mailbox)
            try:
                taken = self.world.take(mailbox, limit, hidden_s, wanted)
                left = min(ends_at - loop_time(), ends_in_world - self.world.clock.now())
                if taken or left <= 0:
                    return taken
                await self.polls.wait(mailbox, waiter, ends_at - loop_time())
            finally:
                self.polls.leave(mailbox, waiter)


def new_request_id() -> str:
    """Return an id as the queue services write it."""
    return secrets.token_hex(12).upper()
