"""The log: a closed list of events, one line each, on stderr, with nothing in it that is secret."""

import logging
import os
import sys
import threading
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, cast

import msgspec

# structlog loads rich if it can, 4 MB in every daemon for a renderer that is not ours.
_hides_rich = "rich" not in sys.modules
if _hides_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402
from structlog.typing import FilteringBoundLogger, WrappedLogger  # noqa: E402

if _hides_rich:
    del sys.modules["rich"]

from receiptd import masking  # noqa: E402
from receiptd.clock import utc_text  # noqa: E402

Format = Literal["auto", "console", "json"]
Level = Literal["debug", "info", "warning", "error"]


class Event(NamedTuple):
    """What an event is logged at, and the fields it may have beside the bound ones."""

    level: Level
    fields: frozenset[str]


def _event(level: Level, fields: str = "") -> Event:
    return Event(level, frozenset(fields.split()))


# Fields that loggers are bound to, and so may stand in any line.
BOUND_FIELDS = frozenset({"source", "thread", "account", "exc_info"})

# Levels: info for the life cycle, warning for what we survive, error for what a human must do,
# debug for what happens many times a second. tests/test_log.py holds all calls to this table.
EVENTS: Mapping[str, Event] = {
    "daemon.started": _event("info", "version sources pid"),
    "daemon.stopping": _event("info", "signal"),
    "daemon.stopped": _event("info", "took_s"),
    "daemon.stuck": _event("error", "threads"),
    "shutdown.timed_out": _event("error", "threads after_s"),
    "config.loaded": _event("info", "file sources accounts"),
    "config.unused": _event("warning", "place"),
    "worker.started": _event("debug"),
    "worker.stopped": _event("debug"),
    "worker.failed": _event("error"),
    "thread.died": _event("error", "name"),
    "batch.committed": _event("debug", "pulled changed duplicate quarantined lag_s took_s"),
    "ack.failed": _event("warning", "count code error http"),
    "ack.repeated": _event("info", "count"),
    "ack.expired": _event("warning", "acked expired"),
    "batch.shrunk": _event("warning", "acked expired batch_size"),
    "batch.restored": _event("info", "batch_size"),
    "trial.failed": _event("warning", "error"),
    "envelope.quarantined": _event("warning", "envelope_id reason count pull_count"),
    "envelope.failed": _event("error", "envelope_id"),
    "source.progress": _event(
        "info",
        "pulled redelivered records changed quarantined acked ack_expired ack_failed",
    ),
    "source.lost": _event("warning", "error code http"),
    "source.throttled": _event("warning", "took_s wait_s"),
    "source.refused": _event("error", "error code http"),
    "source.recovered": _event("info", "outage_s attempts"),
    "store.lost": _event("error", "error"),
    "store.recovered": _event("info", "outage_s attempts"),
    "migration.applied": _event("info", "revision took_s"),
    "housekeeping.finished": _event("info", "journal receipts progress complete took_s"),
    "housekeeping.failed": _event("warning", "error"),
    "rollups.filling": _event("info"),
    "rollups.filled": _event("info", "blocks"),
    "rollups.failed": _event("warning", "error"),
    "query.failed": _event("warning", "error code http"),
    "query.recovered": _event("info", "outage_s attempts"),
    "reconcile.progress": _event(
        "info", "answered waiting nothing undecided unavailable refused put_off"
    ),
    "reconcile.failed": _event("warning", "error"),
    "sends.lost": _event("warning", "count"),
    "audit.failed": _event("warning", "error code http"),
    "audit.differs": _event("warning", "day provider_total held_total"),
    "http.started": _event("info", "listen"),
    "http.refused": _event("warning", "remote subject"),
    "http.failed": _event("error", "method"),
    "library.warned": _event("warning", "logger text"),
}

_LEVEL_NUMBERS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_PLAIN = "\x1b[0m"
# What stands first in a line, in this order; the other fields follow as they were given.
_HEAD = ("at", "level", "event")


def get_logger(**bound: object) -> FilteringBoundLogger:
    """Return a logger whose lines carry `bound`; it can be made before `configure`."""
    return cast(FilteringBoundLogger, structlog.get_logger(**bound))


def configure(format: Format = "auto", level: Level = "info") -> None:
    """Set the format and the lowest level of receiptd's lines, and take over those of libraries.

    `auto` is `console` on a terminal, else `json`. Libraries are heard from warning on, whatever
    the level: their debug lines hold keys, handles and bodies. Can be called again.
    """
    _set_up(format, level)
    logging.captureWarnings(True)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _LibraryHandler)]:
        root.removeHandler(handler)
    root.addHandler(_LibraryHandler())
    root.setLevel(logging.WARNING)


def catch_uncaught() -> None:
    """Let a thread that dies say so in the log, instead of a traceback with the exception's text
    on stderr. For the daemon's process only: it replaces `threading.excepthook`."""

    def died(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and args.exc_type is not SystemExit:
            name = args.thread.name if args.thread else ""
            get_logger().error("thread.died", name=name, exc_info=args.exc_value)

    threading.excepthook = died


def _set_up(format: Format, level: Level) -> None:
    if format == "auto":
        format = "console" if _is_terminal() else "json"
    structlog.configure(
        processors=[_complete, _console if format == "console" else _json],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVEL_NUMBERS[level]),
        logger_factory=lambda *args: _Output(),
        cache_logger_on_first_use=False,
    )


def _complete(
    logger: WrappedLogger, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Return the line's fields in order, masked, with the exception as type and frames."""
    line: dict[str, Any] = {
        "at": utc_text(datetime.now(UTC)),
        "level": method,
        "event": masking.text(str(event.pop("event"))),
    }
    exc_info = event.pop("exc_info", None)
    for name, value in event.items():
        line[name if name not in _HEAD else f"{name}_"] = masking.masked(name, value)
    exc = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
    if exc_info and exc is not None:
        line["exception"] = masking.exception(exc)
    return line


def _json(logger: WrappedLogger, method: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(event).decode()


def _console(logger: WrappedLogger, method: str, event: MutableMapping[str, Any]) -> str:
    level, name = event.pop("level"), event.pop("event")
    time = event.pop("at")[11:-1]
    colour, plain = (_COLOURS[level], _PLAIN) if _is_terminal() else ("", "")
    fields = " ".join(f"{field}={_shown(value)}" for field, value in event.items())
    return f"{time} {colour}{level:<7}{plain} {name:<22} {fields}".rstrip()


def _shown(value: object) -> str:
    if isinstance(value, str) and value and not set(value) & set(" =\"'"):
        return value
    return msgspec.json.encode(value).decode()


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr at all, or a closed one
        return False


class _Output:
    """Writes lines to the present stderr, and gives up on those that it does not take.

    Past Python's own buffer where there is a descriptor: what a full disk did not take would stay
    in that buffer for ever, grow there, and fail again when the interpreter ends.
    """

    _lock = threading.Lock()

    def msg(self, line: str) -> None:
        with self._lock:
            try:
                _write(line + "\n")
            except (OSError, ValueError, AttributeError):
                return  # EPIPE, ENOSPC, closed, none: the log must never stop the daemon

    debug = info = warning = error = critical = msg


def _write(line: str) -> None:
    stream = sys.stderr
    try:
        descriptor = stream.fileno()
    except (OSError, AttributeError):  # a test's or an embedder's stream
        stream.write(line)
        return
    data = line.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]


class _LibraryHandler(logging.Handler):
    """Turns what libraries log into our event, at warning, whatever they called it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:
            text = str(record.msg)  # arguments that do not fit the format
        exc = record.exc_info[1] if record.exc_info else None
        get_logger().warning("library.warned", logger=record.name, text=text, exc_info=exc)


_set_up("auto", "info")  # what is logged before `configure` is masked, too
