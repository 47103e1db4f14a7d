"""Do a source's messages, and its queue's name, fit its message_type?"""

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from receiptd.config import AccountSettings, SourceSettings
from receiptd.errors import InvalidEnvelope, Problem
from receiptd.model import Envelope, Kind, Notice, Receipt, Record, Uplink
from receiptd.online.steps import Fault, Verdict, fail, ok, skip, warn
from receiptd.plugins import find_provider
from receiptd.providers.base import Addressed, Context, Normalizer, Provider
from receiptd.providers.decode import decode
from receiptd.pullers.base import Seen


class Typed(Protocol):
    """What of a source is needed here."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> SourceSettings: ...
    @property
    def account(self) -> AccountSettings: ...
    @property
    def context(self) -> Context: ...
    @property
    def normalize(self) -> Normalizer: ...


def name_problem(source: Typed) -> Problem | None:
    """Return what is wrong with a queue whose name ends in another message type than the source's,
    as the names of the provider's own queues do; no I/O."""
    queue, wanted = source.settings.queue, source.settings.message_type
    ending = queue.rpartition("-")[2]
    provider = _provider(source)
    if not wanted or ending == wanted or provider is None or ending not in provider.normalizers:
        return None
    return Problem(
        f"sources.{source.name}.message_type",
        "is not the type in the queue's name",
        repr(wanted),
        f'set message_type = "{ending}", or name the queue that ends in -{wanted}',
    )


def compare(source: Typed, seen: Seen) -> Verdict:
    """Return whether what lies in the queue is of the source's message_type, and can be read."""
    if seen.unasked:
        return skip(seen.unasked)
    total = len(seen.envelopes)
    if not total:
        return ok("the queue is empty, so message_type could not be compared")
    read = [_kinds(one, source) for one in seen.envelopes]
    kinds = _message_kinds(source)
    wanted = kinds.get(_type(source))
    others = Counter(kind for found in read for kind in found if wanted not in (None, kind))
    if others:
        kind, count = others.most_common(1)[0]
        other = next((name for name, its in kinds.items() if its == kind), kind)
        cure = "correct queue or message_type"
        if count == total:
            detail = f"the queue holds {other}, but message_type is {_type(source)}"
            return fail(Fault.CONFIGURATION, detail, cure)
        return warn(f"{count} of {total} peeked messages are {other}", cure)
    unreadable = read.count(frozenset())
    if unreadable:
        cure = "receiptd would keep them in the quarantine; nothing is lost"
        return warn(f"{unreadable} of {total} peeked messages cannot be read", cure)
    return ok(f"{total} of {total} peeked messages fit message_type")


_KINDS: dict[type[Record], Kind] = {
    Receipt: Kind.RECEIPT,
    Uplink: Kind.UPLINK,
    Notice: Kind.NOTICE,
}


def _kinds(envelope: Envelope, source: Typed) -> frozenset[Kind]:
    """Return what an envelope holds; nothing if a part of it cannot be read."""
    if envelope.flaw is not None:
        return frozenset()
    found = set()
    try:
        for part in decode(envelope.body):
            if isinstance(part.data, InvalidEnvelope):
                return frozenset()
            found.add(_KINDS[type(source.normalize(part.data, source.context))])
    except InvalidEnvelope:
        return frozenset()
    return frozenset(found)


def _type(source: Typed) -> str:
    return source.settings.message_type


def _message_kinds(source: Typed) -> Mapping[str, Kind]:
    provider = _provider(source)
    return provider.message_kinds if isinstance(provider, Addressed) else {}


def _provider(source: Typed) -> Provider | None:
    return find_provider(source.account.provider, f"sources.{source.name}.account", [])
