"""What the journal's rows of one SMS said, and what each of them did to its row. Pure.

The bodies are read again by the normalizers that are installed now, and merged in the order in
which they came: so each change of the status is seen together with what made it.
"""

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from receiptd.config import Settings
from receiptd.errors import InvalidEnvelope
from receiptd.explain.events import Said
from receiptd.model import (
    FAILED_ID,
    QUERY_SOURCE,
    RECONCILE_SOURCE,
    REPLAY_SOURCE,
    WINDOW_CLOSED,
    Origin,
    Outcome,
    Receipt,
    Status,
)
from receiptd.providers.base import Asked, Context, Normalizer, Provider, message_type_of
from receiptd.providers.decode import decode
from receiptd.providers.details import ALIYUN, JUSHITA, read_detail
from receiptd.pullers.base import PullerKind, origin_of
from receiptd.store.lookups import JournalRow, StoredReceipt
from receiptd.store.merge import VERDICT, merge


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One journal row and what it did. `said` is None where its body is not understood."""

    row: JournalRow
    said: Receipt | None
    before: Receipt | None
    after: Receipt | None
    effect: Said


class Plugins(Protocol):
    """What is installed; None for what is not."""

    def provider(self, name: str) -> Provider | None: ...
    def puller(self, name: str) -> PullerKind | None: ...


class Reader:
    """Reads journal bodies as the configuration now reads them."""

    def __init__(self, settings: Settings, plugins: Plugins) -> None:
        self._settings = settings
        self._plugins = plugins

    def provider(self, name: str) -> Provider | None:
        """Return the provider called `name`, None if it is not installed."""
        return self._plugins.provider(name)

    def steps(self, sms: StoredReceipt, rows: Sequence[JournalRow]) -> list[Step]:
        """Return what each of `rows`, in the order in which they came, did to `sms`."""
        known = send_of(sms)
        found: list[Step] = []
        for row in rows:
            said = self._read(sms, row)
            after = known if said is None else said if known is None else merge(known, said)
            effect = _effect(known, said, after)
            found.append(Step(row=row, said=said, before=known, after=after, effect=effect))
            known = after
        return found

    def _read(self, sms: StoredReceipt, row: JournalRow) -> Receipt | None:
        if row.outcome in (Outcome.QUARANTINED, Outcome.DROPPED):
            return None
        if row.source == RECONCILE_SOURCE:
            return _lost(sms) if row.reason == WINDOW_CLOSED else None
        if row.source.startswith(QUERY_SOURCE):
            return _answer(sms, row)
        context = Context(sms.provider, sms.account, self._origin(row))
        for normalize in self._normalizers(sms, row):
            for data in _objects(row):
                try:
                    record = normalize(data, context)
                except InvalidEnvelope:
                    continue
                if isinstance(record, Receipt) and _is_of(record, sms):
                    return record
        return None

    def _normalizers(self, sms: StoredReceipt, row: JournalRow) -> Iterator[Normalizer]:
        """Yield the one that the source has, then the provider's others: a source may have been
        configured differently when the row came."""
        provider = self.provider(sms.provider)
        if provider is None:
            return
        normalizers: Mapping[str, Normalizer] = provider.normalizers
        source = self._settings.sources.get(row.source)
        wanted = message_type_of(provider, source.message_type if source else "")
        if wanted in normalizers:
            yield normalizers[wanted]
        yield from (dict.fromkeys(one for name, one in normalizers.items() if name != wanted))

    def _origin(self, row: JournalRow) -> Origin:
        if row.source == REPLAY_SOURCE:
            return Origin.REPLAY
        source = self._settings.sources.get(row.source)
        kind = None if source is None else self._plugins.puller(source.puller)
        return Origin.QUEUE if kind is None else origin_of(kind)


def send_of(sms: StoredReceipt) -> Receipt | None:
    """Return what the ledger knew when it was told of the send, None if it was not."""
    if sms.submitted_at is None and sms.send_api is None and sms.origin is not Origin.SEND:
        return None
    refused = sms.biz_id.startswith(FAILED_ID) or (
        sms.origin is Origin.SEND and sms.status is Status.FAILED
    )
    return _receipt(
        sms,
        Status.FAILED if refused else Status.AWAITED,
        Origin.SEND,
        err_code=sms.err_code if refused else None,
        err_msg=sms.err_msg if refused else None,
        err_class=sms.err_class if refused else None,
        out_id=sms.out_id,
        send_api=sms.send_api,
        sign_name=sms.sign_name,
        template_code=sms.template_code,
        submitted_at=sms.submitted_at,
    )


def _lost(sms: StoredReceipt) -> Receipt:
    return _receipt(sms, Status.LOST, Origin.QUERY)


def _receipt(sms: StoredReceipt, status: Status, origin: Origin, **fields: object) -> Receipt:
    identity = {"provider": sms.provider, "account": sms.account, "biz_id": sms.biz_id}
    given = identity | {"phone": sms.phone, "status": status, "origin": origin} | fields
    return msgspec.convert(given, Receipt)


def _answer(sms: StoredReceipt, row: JournalRow) -> Receipt | None:
    asked = Asked(
        biz_id=sms.biz_id,
        phone=sms.phone,
        submitted_at=sms.submitted_at or sms.created_at,
        out_id=sms.out_id,
    )
    context = Context(sms.provider, sms.account, Origin.QUERY)
    for data in _objects(row):
        for keys in (ALIYUN, JUSHITA):
            try:
                found = read_detail(data, asked, context, keys)
            except InvalidEnvelope:
                continue
            if found is not None:
                return found
    return None


def _objects(row: JournalRow) -> list[Mapping[str, object]]:
    try:
        body = b64decode(row.body) if row.encoding == "base64" else row.body.encode()
        parts = decode(body)
    except (InvalidEnvelope, ValueError):
        return []
    return [part.data for part in parts if not isinstance(part.data, InvalidEnvelope)]


def _is_of(record: Receipt, sms: StoredReceipt) -> bool:
    return record.biz_id == sms.biz_id and record.phone == sms.phone


def _effect(before: Receipt | None, said: Receipt | None, after: Receipt | None) -> Said:
    if said is None or after is None:
        return Said.UNREAD
    if before is None or before.status is not after.status:
        return Said.CHANGED
    if _verdict(before) != _verdict(after):
        return Said.UPDATED
    # That two sources disagree is told of the row as a whole.
    if before != msgspec.structs.replace(after, conflict=before.conflict):
        return Said.FILLED
    same = all(getattr(said, name) == getattr(before, name) for name in VERDICT if name != "origin")
    return Said.NOTHING_NEW if same else Said.WEAKER


def _verdict(receipt: Receipt) -> tuple[str | datetime | None, ...]:
    return tuple(getattr(receipt, name) for name in VERDICT)
