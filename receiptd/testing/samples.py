"""What a provider gives its suite, and what every record and every refusal must be."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import msgspec
import pytest

from receiptd.config import AccountSettings
from receiptd.errors import InvalidEnvelope, StoreRejected
from receiptd.ledger import Books, books_of
from receiptd.model import ErrClass, Kind, Notice, Origin, Reason, Receipt, Record, Status, Uplink
from receiptd.phone import to_e164
from receiptd.providers.base import Context, Provider
from receiptd.providers.decode import decode
from receiptd.store import rows
from receiptd.testing.mutations import mutations

# When the samples' sends were made.
SUBMITTED_AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
_MUTANTS = 2000  # of all samples together: a second
_KINDS = {Receipt: Kind.RECEIPT, Uplink: Kind.UPLINK, Notice: Kind.NOTICE}

# Of a record: those of its fields that matter, as JSON has them (`"status": "delivered"`, times as
# `2024-05-06T07:08:14Z`), and its `kind`. Or a refusal's text: `missing_field:biz_id`.
Meaning: TypeAlias = Mapping[str, object] | str


class MessageSample(msgspec.Struct, frozen=True):
    """One message as the broker brings it: the text of one JSON object; and what it means."""

    message_type: str
    body: bytes
    means: Meaning

    @property
    def data(self) -> dict[str, Any]:
        """The body, decoded as receiptd decodes it, anew each time."""
        [part] = decode(self.body)
        assert not isinstance(part.data, InvalidEnvelope), f"no JSON object: {self.body[:80]!r}"
        return part.data


class SendSample(msgspec.Struct, frozen=True):
    """One call of a send API: its parameters and its answer ({} if none came), and the rows that
    they mean, one per number in the order of the numbers. An id of receiptd's own (`failed:…`) is
    left out."""

    api: str
    request: Mapping[str, object]
    response: Mapping[str, object]
    means: Sequence[Mapping[str, object]] | str


class Samples(msgspec.Struct, frozen=True):
    """A provider and what it reads. `account` is one that it has nothing to complain about.

    There is a message for each message type, and for each send API a call that was accepted and one
    that was refused: whatever the real service was seen to send, the odd ones above all.
    """

    provider: Provider
    account: AccountSettings
    messages: Sequence[MessageSample] = ()
    sends: Sequence[SendSample] = ()

    @property
    def context(self) -> Context:
        """Where the messages come from."""
        return Context(self.provider.name, "main", Origin.QUEUE)

    @property
    def books(self) -> Books:
        """Where the sends are booked."""
        return books_of(self.provider, "main", self.account.receipts_account)

    def some_messages(self) -> Sequence[MessageSample]:
        """Return the messages; a test without any is skipped, which shows."""
        if not self.provider.normalizers:
            pytest.skip(f"the provider {self.provider.name} has no messages")
        return self.messages

    def some_sends(self) -> Sequence[SendSample]:
        """Return the sends; a test without any is skipped, which shows."""
        if not self.provider.send_readers:
            pytest.skip(f"the provider {self.provider.name} reads no sends")
        return self.sends

    def read(self, sample: MessageSample, data: Mapping[str, object] | None = None) -> Record:
        """Return the record of a sample, or of `data` in its place."""
        normalize = self.provider.normalizers[sample.message_type]
        return normalize(sample.data if data is None else data, self.context)

    def mutants(self) -> Iterator[tuple[MessageSample, dict[str, Any]]]:
        """Yield each message as it might be, were it another: with the sample that it was."""
        samples = self.some_messages()
        for number, sample in enumerate(samples):
            for data in mutations(sample.data, number, _MUTANTS // len(samples)):
                yield sample, data

    def mutant_calls(self) -> Iterator[tuple[str, Mapping[str, object], Mapping[str, object]]]:
        """Yield each call as it might be: API, request and response, one of which is as it was."""
        samples = self.some_sends()
        most = _MUTANTS // len(samples) // 2
        for number, sample in enumerate(samples):
            for request in mutations(sample.request, number, most):
                yield sample.api, request, sample.response
            for response in mutations(sample.response, number, most):
                yield sample.api, sample.request, response

    def receipts(self) -> list[tuple[MessageSample, Receipt]]:
        """Return the samples that are receipts."""
        found = []
        for sample in self.messages:
            try:
                record = self.read(sample)
            except InvalidEnvelope:
                continue
            if isinstance(record, Receipt):
                found.append((sample, record))
        return found

    def rows(self, sample: SendSample, submitted_at: datetime = SUBMITTED_AT) -> list[Receipt]:
        """Return the rows of a sample."""
        return self.rows_of(sample.api, sample.request, sample.response, submitted_at)

    def rows_of(
        self,
        api: str,
        request: Mapping[str, object],
        response: Mapping[str, object],
        submitted_at: datetime = SUBMITTED_AT,
    ) -> list[Receipt]:
        """Return the rows of a call."""
        return self.provider.send_readers[api](request, response, self.books.context, submitted_at)


def meaning(record: Record) -> dict[str, object]:
    """Return a record in the words of `Meaning`."""
    return {"kind": _KINDS[type(record)].value, **msgspec.to_builtins(record)}


def flaws(record: Record, context: Context) -> list[str]:
    """Return what is wrong with a record, whatever it was made of; `context` is where it came
    from."""
    found = []
    if not isinstance(record, Receipt | Uplink | Notice):
        return [f"a {type(record).__name__} is no record"]
    if (record.provider, record.account) != (context.provider, context.account):
        found.append("provider and account are not the context's")
    for field in msgspec.structs.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, datetime) and value.utcoffset() != timedelta(0):
            found.append(f"{field.name} is not aware, or not UTC")
    if not isinstance(record, Notice):
        # A number that can be read either way is E.164; any other stays as it came.
        readings = {to_e164(record.phone), to_e164(record.phone, international=True)}
        if record.phone not in readings:
            found.append("phone could be E.164 and is not")
    if isinstance(record, Receipt):
        found += _flaws_of_receipt(record, context)
    try:
        # As strict as all databases together, so that nothing is quarantined as store_rejected.
        if isinstance(record, Receipt):
            rows.receipt_row(record, lambda at: at, None)
        elif isinstance(record, Uplink):
            rows.uplink_row(record, lambda at: at, None)
        else:
            rows.notice_row(record, lambda at: at, None)
        same = msgspec.convert(msgspec.to_builtins(record), type(record))
    except (StoreRejected, msgspec.ValidationError, TypeError, AttributeError) as exc:
        return [*found, f"no database takes it: {exc}"]
    return found if same == record else [*found, "a field is of another type than it should be"]


def _flaws_of_receipt(receipt: Receipt, context: Context) -> list[str]:
    found = []
    if not isinstance(receipt.status, Status):
        found.append("status is no model.Status")
    if receipt.origin is not context.origin:
        found.append("origin is not the context's")
    if not receipt.biz_id or not receipt.phone:
        found.append("biz_id or phone is empty")
    if receipt.err_class is not None and not isinstance(receipt.err_class, ErrClass):
        found.append("err_class is no model.ErrClass")
    if receipt.status is Status.FAILED and receipt.err_class in (None, ErrClass.OK):
        found.append("it failed, and err_class does not say of what (providers.codes.classify)")
    if receipt.status is Status.DELIVERED and receipt.err_class not in (None, ErrClass.OK):
        found.append("it was delivered, and err_class says that it failed")
    return found


def flaws_of_refusal(refusal: InvalidEnvelope) -> list[str]:
    """Return what is wrong with a refusal. Its text becomes a reason in the journal and the log."""
    found = []
    if refusal.reason not in set(Reason):
        found.append(f"{refusal.reason!r} is no model.Reason")
    if any(digits in str(refusal) for digits in ("139000000", "139****")):
        found.append("its text holds a phone number")
    if len(str(refusal)) > 200 or not str(refusal).isprintable():
        found.append("its text holds a value: name the field only")
    return found
