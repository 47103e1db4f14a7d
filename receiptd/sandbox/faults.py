"""Broker misbehaviour as data: which requests it strikes, how often, and what then happens."""

import random
import threading
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# What a request wants, and the wider words for it.
OPERATIONS: dict[str, frozenset[str]] = {
    "receive": frozenset({"mns"}),
    "peek": frozenset({"mns"}),
    "delete": frozenset({"mns"}),
    "change_visibility": frozenset({"mns"}),
    "send_message": frozenset({"mns", "send"}),
    "manage_queue": frozenset({"mns"}),
    "consume": frozenset({"mq"}),
    "ack": frozenset({"mq"}),
    "publish": frozenset({"mq", "send"}),
    "token": frozenset({"rpc"}),
    "send_sms": frozenset({"rpc", "send"}),
    "query_details": frozenset({"rpc", "query"}),
    "query_statistics": frozenset({"rpc", "query"}),
    "query": frozenset({"rpc"}),
    "top_send": frozenset({"top", "send"}),
    "top_query": frozenset({"top", "query"}),
    "top": frozenset(),
    "polyv_send": frozenset({"polyv", "send"}),
    "rpc": frozenset(),
    "unknown": frozenset(),
}
WORDS = frozenset(OPERATIONS).union(*OPERATIONS.values())

Kind = Literal[
    # instead of executing
    "status",  # status, body, content_type, headers
    "error",  # a code of the service, in its own form
    "empty",  # 404 MessageNotExist at once, without waiting
    "huge",  # 200 with mib MiB
    "entity_bomb",
    "external_entity",
    "deep_xml",
    "not_utf8",
    "refuse_handles",  # <Errors> for all handles at `status`, nothing deleted
    # partly executing
    "partial",  # the first `handles` handles fail and are not deleted, the rest are
    # before or after executing
    "delay",
    "hang",
    "reset",  # RST
    "drop",  # FIN without an answer
    # executing, then spoiling the answer
    "reset_mid_body",
    "truncate",  # Content-Length says more than comes, then FIN
    "cut_xml",  # a whole HTTP answer with half of its XML
    "slow_headers",
    "slow_body",
    "header_case",  # X-Mns-Request-Id
    "no_request_id",
    # executing and answering well, then spoiling the connection
    "close_after",  # FIN, unannounced
    "reset_after",  # RST on the idle connection
]

_ANSWERING_INSTEAD = frozenset(
    {"status", "error", "empty", "huge", "entity_bomb", "external_entity", "deep_xml", "not_utf8"}
)
_BEFORE_OR_AFTER = frozenset({"delay", "hang", "reset", "drop"})

PROXY_PAGE = (
    "<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n"
    "<center><h1>{status} {reason}</h1></center>\r\n<hr><center>nginx</center>\r\n"
    "</body>\r\n</html>\r\n"
)
PORTAL_PAGE = (
    "<!DOCTYPE html><html><body><form action=/login>Welcome to Hotel WiFi</form></body></html>"
)
REASONS = {
    429: "Too Many Requests",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Time-out",
}


class Fault(BaseModel):
    """One misbehaviour. Without `times` it lasts until it is cleared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    operation: tuple[str, ...] | str = ()  # a word of WORDS or several; none: every request
    target: str = ""  # only requests whose path?query or form contains this
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    times: Annotated[int, Field(gt=0)] | None = None
    skip: Annotated[int, Field(ge=0)] = 0  # let so many matching requests pass first
    when: Literal["before", "after"] = (
        "before"  # delay, hang, reset, drop: the operation is executed
    )

    status: Annotated[int, Field(ge=200, le=599)] = 503
    body: str = ""
    content_type: str = "text/html"
    headers: dict[str, str] = Field(default_factory=dict)
    code: str = ""  # of `error`
    message: str = ""
    seconds: Annotated[float, Field(ge=0)] = (
        0.05  # delay; pause per byte; idle time before reset_after
    )
    mib: Annotated[int, Field(gt=0)] = 16
    depth: Annotated[int, Field(gt=0)] = 200_000
    handles: Annotated[int, Field(gt=0)] = 1
    handle_code: str = "MessageNotExist"

    @field_validator("operation", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        unknown = sorted(set(self.words) - WORDS)
        if unknown:
            raise ValueError(
                f"unknown operation {unknown[0]!r}; known are {', '.join(sorted(WORDS))}"
            )
        if self.kind == "error" and not self.code:
            raise ValueError("an error needs a code")
        if self.when == "after" and self.kind not in _BEFORE_OR_AFTER:
            raise ValueError(f"{self.kind} has no before and after")
        return self

    @property
    def words(self) -> tuple[str, ...]:
        """The operations struck, as a tuple."""
        return (self.operation,) if isinstance(self.operation, str) else self.operation

    @property
    def answers_instead(self) -> bool:
        """Whether the operation is not executed at all."""
        return self.kind in _ANSWERING_INSTEAD

    def strikes(self, operation: str, target: str) -> bool:
        """Tell whether a request is one of those this fault is for."""
        if self.target and self.target not in target:
            return False
        words = OPERATIONS.get(operation, frozenset()) | {operation}
        return not self.words or not words.isdisjoint(self.words)

    @classmethod
    def html(
        cls, status: int = 502, operation: str | Iterable[str] = (), **more: object
    ) -> "Fault":
        """Return a proxy's HTML error page."""
        page = PROXY_PAGE.format(status=status, reason=REASONS.get(status, "Error"))
        return cls.build("status", operation, status=status, body=page, **more)

    @classmethod
    def portal(cls, operation: str | Iterable[str] = (), **more: object) -> "Fault":
        """Return a captive portal: 200 and a login page."""
        return cls.build("status", operation, status=200, body=PORTAL_PAGE, **more)

    @classmethod
    def redirect(
        cls, location: str, operation: str | Iterable[str] = (), status: int = 302, **more: object
    ) -> "Fault":
        """Return a redirect."""
        return cls.build("status", operation, status=status, headers={"Location": location}, **more)

    @classmethod
    def error(cls, code: str, operation: str | Iterable[str] = (), **more: object) -> "Fault":
        """Return an error of the service in its own form, at its documented status."""
        return cls.build("error", operation, code=code, **more)

    @classmethod
    def build(cls, kind: str, operation: str | Iterable[str] = (), **more: object) -> "Fault":
        """Return a fault; `operation` may be one word or several."""
        words = (operation,) if isinstance(operation, str) else tuple(operation)
        return cls.model_validate({"kind": kind, "operation": words, **more})


class Faults:
    """The faults in force. Safe to change from any thread while requests run."""

    def __init__(self, faults: Sequence[Fault] = (), seed: int | None = None) -> None:
        self._lock = threading.Lock()
        self._active: list[tuple[Fault, list[int]]]  # with [matches seen, strikes left]
        self.struck = 0
        self.set(faults, seed)

    def set(self, faults: Sequence[Fault], seed: int | None = None) -> None:
        """Replace all faults."""
        with self._lock:
            self._chance = random.Random(seed)
            self._active = [self._entry(fault) for fault in faults]

    def add(self, fault: Fault) -> None:
        """Put one more fault in force."""
        with self._lock:
            self._active.append(self._entry(fault))

    def clear(self) -> None:
        """End all faults."""
        with self._lock:
            self._active = []

    def in_force(self) -> list[Fault]:
        """Return the faults that may still strike."""
        with self._lock:
            return [fault for fault, state in self._active if state[1] != 0]

    def striking(self, operation: str, target: str) -> list[Fault]:
        """Return the faults that strike this request, and use up one strike of each."""
        struck: list[Fault] = []
        with self._lock:
            for fault, state in self._active:
                if state[1] == 0 or not fault.strikes(operation, target):
                    continue
                state[0] += 1
                if state[0] <= fault.skip:
                    continue
                if fault.share < 1 and self._chance.random() >= fault.share:
                    continue
                state[1] -= 1
                struck.append(fault)
            self.struck += len(struck)
        return struck

    @staticmethod
    def _entry(fault: Fault) -> tuple[Fault, list[int]]:
        return fault, [0, -1 if fault.times is None else fault.times]
