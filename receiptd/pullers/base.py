"""What a puller is: the contract that every transport keeps, built in or third-party."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from receiptd.clock import Clock
from receiptd.config import AccountSettings, SourceSettings
from receiptd.errors import Problem
from receiptd.model import Committed, CredentialsSource, Envelope


class AckResult(msgspec.Struct, frozen=True):
    """What the broker said to an ack, handle by handle.

    `expired` handles are no error: their envelopes come again and merge into the same rows.
    """

    acked: int = 0
    expired: int = 0
    failed: int = 0


class Puller(Protocol):
    """A transport for one source, used by one thread; only `cancel` may be called from another."""

    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        """Take up to `batch_size` envelopes, waiting at most `wait_s` seconds for the first.

        Returns an empty list if nothing came. Blocks at most `wait_s` plus a few seconds,
        whatever the broker does. Raises SourceUnavailable, SourceRefused, or SourceCancelled
        after `cancel`.
        """
        ...

    def ack(self, committed: Sequence[Committed]) -> AckResult:
        """Tell the broker that these envelopes are durable; works after `cancel` too. Envelopes
        without a handle are passed over. Raises SourceUnavailable or SourceRefused if the call
        failed as a whole.
        """
        ...

    def cancel(self) -> None:
        """End a running pull at once and refuse later ones. Safe from any thread; a running ack
        is left alone."""
        ...

    def close(self) -> None:
        """Release the connection. Nothing may be called afterwards."""
        ...


class PullerKind(Protocol):
    """One entry of the `receiptd.pullers` entry points."""

    def problems(
        self, name: str, source: SourceSettings, account: AccountSettings
    ) -> list[Problem]:
        """Return what is wrong with `[sources.<name>]` for this kind of puller; no I/O."""
        ...

    def open(
        self,
        name: str,
        source: SourceSettings,
        account: AccountSettings,
        credentials: CredentialsSource,
        clock: Clock,
    ) -> Puller:
        """Build a puller for the calling thread; connects lazily."""
        ...
