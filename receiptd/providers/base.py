"""What a provider is: the contract behind the `receiptd.providers` entry points."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import msgspec

from receiptd.clock import Clock
from receiptd.config import AccountSettings
from receiptd.errors import Problem
from receiptd.model import CredentialsSource, Origin, Record


class Context(msgspec.Struct, frozen=True):
    """Where a body came from: what a normalizer needs beside the body itself."""

    provider: str
    account: str
    origin: Origin


# One JSON object, as decoded, into one record. Pure. Raises InvalidEnvelope and nothing else,
# whatever the object holds.
Normalizer: TypeAlias = Callable[[Mapping[str, object], Context], Record]


class Provider(Protocol):
    """One entry of the `receiptd.providers` entry points."""

    name: str
    normalizers: Mapping[str, Normalizer]  # message type -> function
    default_message_type: str | None  # for sources that need not name one

    def problems(self, name: str, account: AccountSettings) -> list[Problem]:
        """Return what is wrong with `[accounts.<name>]` for this provider; no I/O."""
        ...

    def credentials(
        self, account: AccountSettings, kind: str, message_type: str, clock: Clock
    ) -> CredentialsSource:
        """Return what signs the pulls of `message_type`, to be shared by all their threads; no I/O.

        `kind` is the source's `credentials`: `token` or `access_key`; that the two suit each
        other, the puller has checked.
        """
        ...
