"""From the rows of one SMS to its timeline. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from receiptd.explain.events import Event, Fact, Meaning, Said, Timeline, What, is_open
from receiptd.explain.reading import Reader, Step, send_of
from receiptd.explain.words import ERR_CLASSES
from receiptd.model import (
    FAILED_ID,
    QUERY_SOURCE,
    RECONCILE_SOURCE,
    UNANSWERED_ID,
    ErrClass,
    Origin,
    Outcome,
    Receipt,
    Status,
)
from receiptd.store.lookups import JournalRow, Reply, StoredReceipt

_ORDER = {what: place for place, what in enumerate(What)}
# Stable among themselves, as they came.
_TOLD = (What.PULLED, What.QUARANTINED, What.ASKED, What.WINDOW_CLOSED, What.STATUS)
_CUT = (What.HANDED_OVER, What.REPORTED)
_SECOND = timedelta(seconds=1)


def build(
    sms: StoredReceipt,
    rows: Sequence[JournalRow],
    replies: Sequence[Reply],
    reader: Reader,
    window: timedelta,
) -> Timeline:
    """Return the timeline of `sms`: `rows` are its journal's, `replies` those after it, both in the
    order in which they came; `window` is how long its provider remembers a send."""
    steps = reader.steps(sms, rows)
    lost_at = sms.submitted_at + window if is_open(sms) and sms.submitted_at else None
    events = [*_begun(sms), *_carried(sms), *_journal(sms, steps)]
    events += [_reply(one, sms) for one in replies]
    events += _unexplained(sms, steps)
    if is_open(sms) and sms.next_query_at is not None:
        events.append(Event(at=sms.next_query_at, what=What.NEXT_QUERY))
    if lost_at is not None:
        events.append(Event(at=lost_at, what=What.LOST_AT))
    return Timeline(
        sms=sms,
        events=tuple(_sorted(events, sms.submitted_at)),
        meaning=meaning_of(sms, reader),
        lost_at=lost_at,
    )


def meaning_of(sms: StoredReceipt, reader: Reader) -> Meaning | None:
    """Return what the err_code of `sms` means, None if it has none."""
    if sms.err_code is None:
        return None
    kind = sms.err_class or ErrClass.UNKNOWN
    text = ERR_CLASSES[kind]
    provider = reader.provider(sms.provider)
    refusal = provider.refusal(sms.err_code) if provider is not None else None
    # A number is a code of the send APIs only where the send API said it: carriers have others.
    if refusal is None or not (sms.origin is Origin.SEND or sms.err_code.startswith("is")):
        return Meaning(kind.value, text, "")
    return Meaning(kind.value, f"{text}: {refusal.meaning}", refusal.cure)


def _begun(sms: StoredReceipt) -> list[Event]:
    """The send itself."""
    send = send_of(sms)
    if send is None:
        return [Event(at=None, what=What.NOT_RECORDED)]
    facts: dict[str, Fact] = {
        "api": sms.send_api,
        "account": sms.account,
        "sign_name": sms.sign_name,
        "template_code": sms.template_code,
        "out_id": sms.out_id,
    }
    if sms.biz_id.startswith(UNANSWERED_ID):
        return [Event(at=sms.submitted_at, what=What.UNANSWERED, facts=facts)]
    if sms.biz_id.startswith(FAILED_ID) or send.status is Status.FAILED:
        told: dict[str, Fact] = {"err_code": sms.err_code, "err_msg": sms.err_msg}
        return [Event(at=sms.submitted_at, what=What.REFUSED, facts=facts | told)]
    return [Event(at=sms.submitted_at, what=What.SENT, facts=facts)]


def _carried(sms: StoredReceipt) -> list[Event]:
    """What the carrier did, by the times that the row has."""
    events = []
    if sms.sent_at is not None:
        events.append(Event(at=sms.sent_at, what=What.HANDED_OVER))
    if sms.reported_at is not None:
        facts: dict[str, Fact] = {
            "status": sms.status.value,
            "err_code": sms.err_code,
            "err_msg": sms.err_msg,
        }
        events.append(Event(at=sms.reported_at, what=What.REPORTED, facts=facts))
    return events


def _journal(sms: StoredReceipt, steps: Sequence[Step]) -> list[Event]:
    events = []
    for step in steps:
        events.append(_told(step))
        change = _status(sms, step)
        if change is not None:
            events.append(change)
    return events


def _told(step: Step) -> Event:
    row, said = step.row, step.said
    facts: dict[str, Fact] = {
        "journal_id": row.id,
        "source": row.source,
        "outcome": row.outcome.value,
        "effect": step.effect.value,
        "says": None if said is None else said.status.value,
        "err_code": None if said is None else said.err_code,
        "reported_at": None if said is None else said.reported_at,
        "reason": row.reason,
    }
    if row.source == RECONCILE_SOURCE:
        return Event(at=row.received_at, what=What.WINDOW_CLOSED, facts=facts)
    if row.source.startswith(QUERY_SOURCE):
        return Event(at=row.received_at, what=What.ASKED, facts=facts)
    lag = row.received_at - row.enqueued_at if row.enqueued_at is not None else None
    facts |= {
        "envelope_id": row.envelope_id,
        "part": row.part,
        "pull_count": row.pull_count,
        "enqueued_at": row.enqueued_at,
        "lag_s": None if lag is None else round(lag.total_seconds(), 3),
    }
    what = What.QUARANTINED if _was_quarantined(row) else What.PULLED
    return Event(at=row.received_at, what=what, facts=facts)


def _was_quarantined(row: JournalRow) -> bool:
    # A row keeps its reason when it is replayed; one that came from a file never had one.
    replayed = row.outcome is Outcome.REPLAYED and row.reason is not None
    return replayed or row.outcome in (Outcome.QUARANTINED, Outcome.DROPPED)


def _status(sms: StoredReceipt, step: Step) -> Event | None:
    if step.effect is not Said.CHANGED or step.after is None:
        return None
    before = step.before.status.value if step.before is not None else None
    facts: dict[str, Fact] = {
        "before": before,
        "after": step.after.status.value,
        "origin": step.after.origin.value,
        "source": step.row.source,
    }
    # What was quarantined and replayed later changed nothing when it came.
    at = sms.updated_at if _was_quarantined(step.row) else step.row.received_at
    return Event(at=at, what=What.STATUS, facts=facts)


def _unexplained(sms: StoredReceipt, steps: Sequence[Step]) -> list[Event]:
    """What the row says and no journal row that was found accounts for: retention has taken it, or
    its provider is not installed here."""
    known: Receipt | None = steps[-1].after if steps else send_of(sms)
    before = known.status if known is not None else None
    if before is sms.status:
        return []
    facts: dict[str, Fact] = {
        "before": None if before is None else before.value,
        "after": sms.status.value,
        "origin": sms.origin.value,
    }
    return [Event(at=sms.updated_at, what=What.UNEXPLAINED, facts=facts)]


def _reply(reply: Reply, sms: StoredReceipt) -> Event:
    at = reply_time(reply)
    facts: dict[str, Fact] = {
        "content": reply.content,
        "after_s": round((at - began_at(sms)).total_seconds(), 3),
        "sequence_id": reply.sequence_id,
    }
    return Event(at=at, what=What.REPLY, facts=facts)


def reply_time(reply: Reply) -> datetime:
    """Return when the phone's user sent it, or when it came if that is not told."""
    return reply.sent_at or reply.created_at


def began_at(sms: StoredReceipt) -> datetime:
    """Return the first time that is known of an SMS."""
    return sms.submitted_at or sms.sent_at or sms.created_at


def _sorted(events: Sequence[Event], began: datetime | None) -> list[Event]:
    """By time; at the same time by the order of a message's life, but journal rows in the order in
    which they came, each followed by what it changed."""

    def place(event: Event) -> tuple[datetime, int]:
        assert event.at is not None
        at = event.at
        # The vendors' times are cut to the second: nothing was handed over before it was sent.
        if event.what in _CUT and began is not None and timedelta(0) < began - at < _SECOND:
            at = began
        return at, _ORDER[What.PULLED if event.what in _TOLD else event.what]

    # What has no time came before everything that has one.
    dated = sorted((one for one in events if one.at is not None), key=place)
    return [one for one in events if one.at is None] + dated
