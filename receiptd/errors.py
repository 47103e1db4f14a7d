"""Every error of receiptd, typed by what the caller does next.

ConfigError -> exit 78 · SourceUnavailable -> back off, pull again · SourceRefused -> slow retry,
health red · InvalidEnvelope -> quarantine, then ack · StoreUnavailable -> nothing acked, back off
· StoreRejected -> one by one.

Texts name the place, the rule and the cure. They never hold a body, a handle, a key, a token or a
phone number, because they end in logs.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class ReceiptdError(Exception):
    """Base of all errors that receiptd raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a configuration.

    `place` is the dotted key (`sources.sms_report.batch_size`), `value` is already safe to show
    (secrets hidden).
    """

    place: str
    rule: str
    value: str = ""
    cure: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: {self.rule}"
        if self.value:
            text += f" (is: {self.value})"
        if self.cure:
            text += f"; {self.cure}"
        return text


class ConfigError(ReceiptdError):
    """The configuration cannot be used; holds every problem at once. Never retried."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SourceError(ReceiptdError):
    """A source or a provider's API did not do what was asked.

    `code` is the service's own error code or a short word of ours (`timeout`, `refused`,
    `bad_answer`), `cure` says what an operator can do.
    """

    def __init__(
        self,
        code: str,
        *,
        http_status: int | None = None,
        request_id: str = "",
        cure: str = "",
    ) -> None:
        self.code = code
        self.http_status = http_status
        self.request_id = request_id
        self.cure = cure
        parts = [code]
        if http_status is not None:
            parts.append(f"http {http_status}")
        if request_id:
            parts.append(f"request {request_id}")
        if cure:
            parts.append(cure)
        super().__init__("; ".join(parts))


class SourceUnavailable(SourceError):
    """Network, throttling or a failing server: back off and pull again."""


class SourceRefused(SourceError):
    """Credentials refused or no such queue: retry slowly, because it can be mended while we run."""


class SourceCancelled(SourceError):
    """The call was ended by `cancel()` because the daemon stops."""


class InvalidEnvelope(ReceiptdError):
    """A body that cannot become a record. `reason` is a `model.Reason`, `detail` names the field,
    never its value."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}:{detail}" if detail else reason)


class StoreError(ReceiptdError):
    """The database did not take the rows."""


class StoreUnavailable(StoreError):
    """Connection, lock, timeout or disk: nothing is acked, nothing is quarantined, try again
    later."""


class StoreRejected(StoreError):
    """The data of some row was refused: save the envelopes one by one, quarantine the one that
    fails alone."""


def let_go(error: BaseException) -> None:
    """Let go of the frames that an error went through, once it has been dealt with.

    A frame that holds the error it raised is a cycle, and keeps what it and all before it worked
    on, a batch for example, until garbage is next collected in full.
    """
    chain: BaseException | None = error
    while chain is not None:
        chain.__traceback__ = None
        chain = chain.__cause__ or chain.__context__
