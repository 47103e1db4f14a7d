"""An explanation as plain data for JSON. The shape is documented in docs/explain-and-status.md.

Phones are masked and what a phone's user wrote is hidden, unless the caller may see them: what is
piped on is no operator's own terminal.
"""

from datetime import datetime
from typing import Any

from receiptd import masking, phone
from receiptd.clock import utc_text
from receiptd.explain.events import Event, Explanation, Timeline, What
from receiptd.explain.words import describe
from receiptd.store.lookups import JournalRow, Reply

_TEXTS = (
    "provider", "account", "biz_id", "out_id", "err_code", "err_msg", "sign_name",
    "template_code", "send_api",
)  # fmt: skip
_TIMES = ("submitted_at", "sent_at", "reported_at", "next_query_at", "created_at", "updated_at")


def plain(explanation: Explanation, *, show_phones: bool) -> dict[str, Any]:
    """Return `explanation` as what json.dumps takes."""
    show = _Shower(show_phones=show_phones)
    return {
        "found_by": explanation.found_by,
        "searched": list(explanation.searched),
        "total": explanation.total,
        "more": explanation.total - len(explanation.timelines),
        "complete": explanation.is_complete,
        "messages": [show.timeline(one) for one in explanation.timelines],
        "quarantined": [show.quarantined(one) for one in explanation.quarantined],
        "replies": [show.reply(one) for one in explanation.replies],
    }


class _Shower:
    def __init__(self, *, show_phones: bool) -> None:
        self._show_phones = show_phones

    def timeline(self, timeline: Timeline) -> dict[str, Any]:
        sms, meaning = timeline.sms, timeline.meaning
        return {
            **{name: self._value(getattr(sms, name)) for name in _TEXTS},
            "phone": self._phone(sms.phone),
            "status": sms.status.value,
            "origin": sms.origin.value,
            "err_class": None if sms.err_class is None else sms.err_class.value,
            "err_meaning": None if meaning is None else meaning.text,
            "err_cure": None if meaning is None else meaning.cure or None,
            "segments": sms.segments,
            "conflict": sms.conflict,
            "query_count": sms.query_count,
            **{name: self._value(getattr(sms, name)) for name in _TIMES},
            "lost_at": self._value(timeline.lost_at),
            "events": [self._event(one) for one in timeline.events],
        }

    def quarantined(self, row: JournalRow) -> dict[str, Any]:
        return {
            "journal_id": row.id,
            "source": row.source,
            "outcome": row.outcome.value,
            "reason": row.reason,
            "received_at": self._value(row.received_at),
        }

    def reply(self, reply: Reply) -> dict[str, Any]:
        return {
            "provider": reply.provider,
            "account": reply.account,
            "phone": self._phone(reply.phone),
            "content": self._content(reply.content),
            "sequence_id": self._value(reply.sequence_id),
            "biz_id": self._value(reply.biz_id),
            "sent_at": self._value(reply.sent_at),
        }

    def _event(self, event: Event) -> dict[str, Any]:
        facts = self._facts(event)
        text = describe(Event(at=event.at, what=event.what, facts=facts))
        return {"at": self._value(event.at), "what": event.what.value, "text": text, **facts}

    def _facts(self, event: Event) -> dict[str, Any]:
        facts = {name: self._value(value) for name, value in event.facts.items()}
        if event.what is What.REPLY:
            content = event.facts["content"]
            facts["content"] = self._content(None if content is None else str(content))
        return facts

    def _value(self, value: object) -> Any:
        if isinstance(value, datetime):
            return utc_text(value)
        if isinstance(value, str) and not self._show_phones:
            return masking.text(value)
        return value

    def _phone(self, number: str) -> str:
        return number if self._show_phones else masking.escaped(phone.mask(number))

    def _content(self, content: str | None) -> str | None:
        return content if self._show_phones or not content else masking.HIDDEN
