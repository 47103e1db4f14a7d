"""A timeline in English, one line an event. Pure; phones and texts stand as they are."""

from collections.abc import Callable, Mapping

from receiptd.explain.events import Event, Fact, Said, What
from receiptd.model import NOTHING_FOUND, REPLAY_SOURCE, ErrClass, Origin

ERR_CLASSES: Mapping[ErrClass, str] = {
    ErrClass.OK: "delivered",
    ErrClass.ABSENT: "the phone is off, out of reach or suspended",
    ErrClass.INVALID_NUMBER: "there is no such number",
    ErrClass.BLACKLIST: "the number is blacklisted, or its user has unsubscribed",
    ErrClass.CARRIER: "the carrier or the platform failed",
    ErrClass.CONTENT: "the content was refused",
    ErrClass.LIMIT: "too many to this number, or too fast",
    ErrClass.CONFIG: "signature, template, account or permission: for the sender to put right",
    ErrClass.EXPIRED: "it was too late: its time to live was over",
    ErrClass.UNKNOWN: "not in the dictionary, or carriers mean different things by it",
}

_ORIGINS: Mapping[str, str] = {
    Origin.QUEUE: "a receipt from the queue",
    Origin.PUSH: "a receipt that was pushed",
    Origin.QUERY: "an answer to a query",
    Origin.REPLAY: "a replay",
    Origin.SEND: "the send itself",
}


def describe(event: Event) -> str:
    """Return what happened, in one sentence without its time."""
    return _WORDS[event.what](event.facts)


def span(seconds: float) -> str:
    """Return a length of time in two units at most: `0.4 s`, `3 min`, `5 h 12 min`, `2 d 4 h`."""
    if abs(seconds) < 1:
        return f"{seconds:.1f} s"
    minutes, left = divmod(int(abs(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next(place for place, (count, _) in enumerate(parts) if count)
    # Nobody wants the seconds of an hour.
    shown = [f"{count} {unit}" for count, unit in parts[first : first + 2] if count]
    return ("-" if seconds < 0 else "") + " ".join(shown)


def ordinal(number: int) -> str:
    """Return `1st`, `2nd`, `3rd`, `4th`."""
    teens = 10 <= number % 100 <= 20
    ending = "th" if teens else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _sent(facts: Mapping[str, Fact]) -> str:
    return f"sent through {facts['api'] or 'an API that was not told'}{_of(facts)}"


def _unanswered(facts: Mapping[str, Fact]) -> str:
    return f"{_sent(facts)}; the call had no answer, so it may have been sent or not"


def _refused(facts: Mapping[str, Fact]) -> str:
    return f"refused by {facts['api'] or 'the send API'}{_of(facts)}: {_verdict(facts)}"


def _of(facts: Mapping[str, Fact]) -> str:
    named = (("account", "account"), ("sign_name", "sign"), ("template_code", "template"))
    parts = [f"{word} {facts[key]}" for key, word in named if facts[key]]
    if facts["out_id"]:
        parts.append(f"out_id {facts['out_id']}")
    return " (" + ", ".join(parts) + ")" if parts else ""


def _reported(facts: Mapping[str, Fact]) -> str:
    return f"the carrier reported: {facts['status']}{_with_code(facts)}"


def _pulled(facts: Mapping[str, Fact]) -> str:
    ending = "committed" if facts["source"] == REPLAY_SOURCE else "committed, then acked"
    return f"{_came(facts)}: {_says(facts)}; {ending}"


def _quarantined(facts: Mapping[str, Fact]) -> str:
    text = f"{_came(facts)}: not understood ({facts['reason']})"
    # A row that was replayed keeps its reason.
    endings = {"replayed": "replayed since", "dropped": "dropped since"}
    ending = endings.get(str(facts["outcome"]), "quarantined, then acked")
    return f"{text}; journal row {facts['journal_id']}, {ending}"


def _came(facts: Mapping[str, Fact]) -> str:
    if facts["source"] == REPLAY_SOURCE:
        return "read from a file by `receiptd replay`"
    text = f"pulled from {facts['source']}"
    count, lag = facts.get("pull_count"), facts.get("lag_s")
    if isinstance(count, int):
        text += f" for the {ordinal(count)} time"
    if isinstance(lag, int | float):
        text += f", {span(lag)} after it was enqueued"
    return text


def _asked(facts: Mapping[str, Fact]) -> str:
    who = str(facts["source"]).partition(":")[2] or "the account"
    if facts["says"] is None:
        told = "it knows nothing of it" if facts["reason"] == NOTHING_FOUND else _unread(facts)
        return f"asked the provider as {who}: {told}"
    return f"asked the provider as {who}: {_says(facts)}"


def _unread(facts: Mapping[str, Fact]) -> str:
    return f"an answer that decides nothing ({facts['reason'] or 'not understood'})"


def _says(facts: Mapping[str, Fact]) -> str:
    if facts["says"] is None:
        return "its body is not understood by what is installed here"
    return f"says {facts['says']}{_with_code(facts)}{_EFFECTS[str(facts['effect'])]}"


def _status(facts: Mapping[str, Fact]) -> str:
    before = f"{facts['before']} -> " if facts["before"] else ""
    return f"status {before}{facts['after']}, by {_ORIGINS[str(facts['origin'])]}"


def _unexplained(facts: Mapping[str, Fact]) -> str:
    return f"{_status(facts)} that the journal does not hold (any more)"


def _reply(facts: Mapping[str, Fact]) -> str:
    after = facts["after_s"]
    late = f", {span(after)} after the send" if isinstance(after, int | float) else ""
    return f"a reply came from the phone{late}: {facts['content'] or '(empty)'}"


def _verdict(facts: Mapping[str, Fact]) -> str:
    return " ".join(str(facts[key]) for key in ("err_code", "err_msg") if facts.get(key))


def _with_code(facts: Mapping[str, Fact]) -> str:
    text = _verdict(facts)
    return f" ({text})" if text else ""


_EFFECTS: Mapping[str, str] = {
    Said.CHANGED: "",
    Said.UPDATED: ", which is the later word",
    Said.FILLED: ", which fills in what was missing",
    Said.NOTHING_NEW: ", which was known",
    Said.WEAKER: ", which does not outrank what was known",
    Said.UNREAD: "",
}

_WORDS: Mapping[What, Callable[[Mapping[str, Fact]], str]] = {
    What.NOT_RECORDED: lambda facts: "nobody told receiptd of the send: known from what came back",
    What.SENT: _sent,
    What.UNANSWERED: _unanswered,
    What.REFUSED: _refused,
    What.HANDED_OVER: lambda facts: "handed to the carrier",
    What.REPORTED: _reported,
    What.PULLED: _pulled,
    What.QUARANTINED: _quarantined,
    What.ASKED: _asked,
    What.WINDOW_CLOSED: lambda facts: "the provider has forgotten it: nobody can be asked any more",
    What.STATUS: _status,
    What.UNEXPLAINED: _unexplained,
    What.REPLY: _reply,
    What.NEXT_QUERY: lambda facts: "will be asked about next",
    What.LOST_AT: lambda facts: "lost for ever, if nothing is heard by then",
}
