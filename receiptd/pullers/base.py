"""What a puller is: the contract that every transport keeps, built in or third-party."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from receiptd.clock import Clock
from receiptd.config import AccountSettings, SourceSettings
from receiptd.errors import Problem, SourceError
from receiptd.model import Committed, CredentialsSource, Envelope, Origin


class AckResult(msgspec.Struct, frozen=True):
    """What the broker said to an ack, handle by handle.

    `expired` handles are no error: their envelopes come again and merge into the same rows. Where
    it took several calls, `error` is what one of them failed with; its handles are among `failed`.
    """

    acked: int = 0
    expired: int = 0
    failed: int = 0
    error: SourceError | None = None


class Puller(Protocol):
    """A transport for one source, used by one thread; only `cancel` may be called from another."""

    def pull(self, batch_size: int, wait_s: float) -> list[Envelope]:
        """Take up to `batch_size` envelopes, waiting at most `wait_s` seconds for the first.

        While full batches come, several batches' worth are asked for at once, without a wait: a
        transport may then make its requests side by side, or give fewer.
        Returns an empty list if nothing came. Blocks at most `wait_s` plus a few seconds,
        whatever the broker does. Raises SourceUnavailable, SourceRefused, or SourceCancelled
        after `cancel`.
        """
        ...

    def ack(self, committed: Sequence[Committed]) -> AckResult:
        """Tell the broker that these envelopes, however many, are durable; works after `cancel`
        too. Envelopes without a handle are passed over. After a call that failed they are given
        once more, to any of the source's pullers; that one was acked already is no error. Raises
        SourceUnavailable or SourceRefused if nothing was acked because each call failed.
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
    """One entry of the `receiptd.pullers` entry points.

    An attribute `origin` (a `model.Origin`) says what its receipts come through, where that is no
    queue.
    """

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


def origin_of(kind: PullerKind) -> Origin:
    """Return what the receipts of this kind of puller come through."""
    origin: Origin = getattr(kind, "origin", Origin.QUEUE)
    return origin


class Seen(msgspec.Struct, frozen=True):
    """What a probe saw: `envelopes` without handles, still there for everybody.

    `unasked` says what could not be asked without taking a message; "" if nothing.
    """

    envelopes: tuple[Envelope, ...] = ()
    unasked: str = ""


@runtime_checkable
class Probing(Protocol):
    """What a puller may offer besides, for `receiptd check --online`."""

    def probe(self) -> Seen:
        """Ask the broker whether this source may be read; takes, hides and changes nothing.

        Bounded in time; `cancel` ends it. Raises as `pull`.
        """
        ...


@runtime_checkable
class Addressed(Protocol):
    """What a PullerKind may offer besides, for `receiptd check --online`."""

    def endpoint(self, source: SourceSettings, account: AccountSettings) -> str:
        """Return the URL that pullers for these settings connect to, "" if nobody says so."""
        ...
