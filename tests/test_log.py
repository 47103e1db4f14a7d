"""The log: a closed list of events, one line each, and nothing in it that is secret."""

import ast
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

import pytest
import structlog

import receiptd
from receiptd import log, masking
from receiptd.errors import SourceUnavailable
from receiptd.log import BOUND_FIELDS, EVENTS
from tests.canaries import (
    CANARY_CONTENT,
    CANARY_HANDLE,
    CANARY_KEY_ID,
    CANARY_PHONE,
    CANARY_SECRET,
    CANARY_TOKEN,
    assert_holds_no_canary,
)

PACKAGE = Path(receiptd.__file__).parent
LEVELS = {"debug", "info", "warning", "error"}
Lines = Callable[[], list[dict[str, object]]]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave no configuration of ours behind."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.captureWarnings(False)
    log._set_up("auto", "info")


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Lines:
    """What was logged since the last call, as JSON."""
    log.configure("json", "debug")
    return lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines()]


# --- the closed list ---


def log_calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield each call of a logger in the package: where, its level, and the call."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if "sandbox" in file.relative_to(PACKAGE).parts:
            continue  # a program apart, without our log
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr not in LEVELS | {"exception", "critical", "log", "msg"}:
                    continue
                if ast.unparse(node.func.value).split(".")[-1] in ("log", "_log", "get_logger()"):
                    where = f"{file.relative_to(PACKAGE)}:{node.lineno}"
                    yield where, node.func.attr, node


@pytest.mark.parametrize(("where", "level", "call"), list(log_calls()))
def test_every_call_is_in_the_table_with_its_level_and_fields(
    where: str, level: str, call: ast.Call
) -> None:
    [name] = call.args
    assert isinstance(name, ast.Constant), "an event's name is a literal"
    assert isinstance(name.value, str)
    assert name.value in EVENTS, f"add {name.value} to EVENTS in log.py"
    event = EVENTS[name.value]
    assert level == event.level
    fields = {keyword.arg for keyword in call.keywords}
    assert None not in fields, "fields are written out, so that they can be checked"
    assert fields <= event.fields | BOUND_FIELDS


def test_the_walk_finds_the_calls() -> None:
    found = {
        call.args[0].value for _, _, call in log_calls() if isinstance(call.args[0], ast.Constant)
    }

    assert {"batch.committed", "daemon.started", "library.warned"} <= found


def test_loggers_are_bound_to_known_fields_only() -> None:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("get_logger"):
                assert {keyword.arg for keyword in node.keywords} <= BOUND_FIELDS | {None}, file


def test_names_are_subject_and_past_tense_or_state() -> None:
    for name, event in EVENTS.items():
        subject, dot, happened = name.partition(".")
        assert dot, name
        assert (subject + happened).replace("_", "").isalpha()
        assert name == name.lower()
        assert event.level in LEVELS


# --- the line ---


def test_an_event_is_one_json_line_with_its_fields(lines: Lines) -> None:
    log.get_logger(source="sms_report").info("source.recovered", outage_s=1.5, attempts=3)

    [line] = lines()
    assert list(line) == ["at", "level", "event", "source", "outage_s", "attempts"]
    assert line["event"] == "source.recovered"
    assert line["level"] == "info"
    assert datetime.fromisoformat(str(line["at"])).tzinfo is not None


def test_what_is_below_the_level_is_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    log.configure("json", "warning")

    log.get_logger().info("daemon.stopped")
    log.get_logger().warning("ack.failed", count=1)

    assert capfd.readouterr().err.count("\n") == 1


def test_nothing_is_logged_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    log.configure("console", "debug")

    log.get_logger().error("store.lost", error="away")

    captured = capfd.readouterr()
    assert captured.out == ""
    assert "error" in captured.err
    assert "store.lost" in captured.err
    assert "error=away" in captured.err


def test_a_logger_made_before_configure_obeys_it(capfd: pytest.CaptureFixture[str]) -> None:
    early = log.get_logger()
    log.configure("json", "error")

    early.warning("ack.failed")

    assert capfd.readouterr().err == ""


def test_tests_can_capture_events() -> None:
    with structlog.testing.capture_logs() as captured:
        log.get_logger(source="s").info("daemon.stopped")

    assert captured == [{"source": "s", "event": "daemon.stopped", "log_level": "info"}]


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize(
    "evil", ["a\nb", "a\r\nb", "a\x1b[2Jb", "a\x00b", "a\x9bb", "a\u2028b", "a\u202eb", "a\ud800b"]
)
def test_no_value_breaks_out_of_its_line(
    capfd: pytest.CaptureFixture[str], format: log.Format, evil: str
) -> None:
    log.configure(format, "debug")

    log.get_logger(source=evil).warning("ack.failed", error=evil, code=[evil], http={evil: evil})

    text = capfd.readouterr().err
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()


# --- secrets and phones ---


@pytest.mark.parametrize(
    "written",
    [
        CANARY_PHONE,
        f"+86{CANARY_PHONE}",
        f"86{CANARY_PHONE}",
        f"0086{CANARY_PHONE}",
        f"+86 {CANARY_PHONE}",
        f"0{CANARY_PHONE}",
        f"to {CANARY_PHONE}, twice {CANARY_PHONE}.",
        f'{{"phone_number":"{CANARY_PHONE}"}}',
        f"PhoneNumber=%2B86{CANARY_PHONE}&x=%20{CANARY_PHONE}",
        f"\\u0000{CANARY_PHONE}",
        f"\x00{CANARY_PHONE}",
        f"x{CANARY_PHONE}x",
    ],
)
def test_a_mainland_phone_is_masked_wherever_it_stands(written: str) -> None:
    assert_holds_no_canary(masking.text(written))
    assert "4321" in masking.text(written)


@pytest.mark.parametrize("written", ["139-8765-4321", "139 8765 4321", "+85291234567"])
def test_other_spellings_and_countries_are_masked(written: str) -> None:
    assert "****" in masking.text(written)


@pytest.mark.parametrize(
    "written",
    ["900213913987654321^0", "1767225600000", "20260101T131313", "Alicom-Queue-1000000000000001-X"],
)
def test_longer_numbers_are_left_as_they_are(written: str) -> None:
    assert masking.text(written) == written


def test_a_phone_is_masked_as_a_number_and_in_any_depth(lines: Lines) -> None:
    nested = [{"a": (CANARY_PHONE, {CANARY_PHONE: {int(CANARY_PHONE)}})}]

    log.get_logger().warning("ack.failed", code=int(CANARY_PHONE), error=nested)

    assert_holds_no_canary(json.dumps(lines()))


@pytest.mark.parametrize("name", ["phone", "phones", "PhoneNumber", "phone_number", "mobile"])
@pytest.mark.parametrize("number", ["+8613987654321", "85291234567", "1234567", 13987654321])
def test_what_is_called_a_phone_is_always_masked(name: str, number: object) -> None:
    assert "****" in str(masking.masked(name, number))
    assert "****" in str(masking.masked(name, [number]))


@pytest.mark.parametrize(
    "name",
    [
        *("secret", "token", "handle", "handles", "signature", "authorization", "body", "password"),
        *("access_key_secret", "security_token", "receipt_handle", "raw_body", "content"),
        *("ReceiptHandle", "SecurityToken", "AccessKeyId", "access_key_id", "accessKeySecret"),
    ],
)
@pytest.mark.parametrize("value", ["anything", b"anything", ["anything"], {"a": "anything"}, 12345])
def test_what_is_called_a_secret_is_hidden(name: str, value: object) -> None:
    assert masking.masked(name, value) == "[hidden]"


@pytest.mark.parametrize("name", ["token_expires_at", "body_length", "secret_file", "handled"])
def test_what_only_speaks_of_secrets_is_shown(name: str) -> None:
    assert masking.masked(name, "shown") == "shown"


@pytest.mark.parametrize(
    "written",
    [
        f"https://user:{CANARY_SECRET}@db.example/x",
        f"postgresql+psycopg://user:{CANARY_SECRET}@db/receiptd failed",
        f"AccessKeyId={CANARY_KEY_ID}&Signature={CANARY_SECRET}&Action=Query",
        f"Authorization: MNS {CANARY_KEY_ID}:{CANARY_SECRET}",
        f'{{"SecurityToken": "{CANARY_TOKEN}", "AccessKeySecret":"{CANARY_SECRET}"}}',
        f"<ReceiptHandle>{CANARY_HANDLE}</ReceiptHandle>",
        f"password='{CANARY_SECRET}'",
    ],
)
def test_a_secret_with_its_name_is_hidden_in_any_text(written: str) -> None:
    assert_holds_no_canary(masking.text(written))


def test_a_url_keeps_what_is_no_secret() -> None:
    masked = masking.text("connect to https://u:p@mns.example/queues/Q")

    assert masked == "connect to https://[hidden]@mns.example/queues/Q"


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (0.5, 0.5),
        (2**70, "<71 bits>"),
        (Colour.RED, "red"),
        (b"\x00\x01", "<2 bytes>"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
        (timedelta(minutes=1), 60.0),
        (Path("/a/b"), "/a/b"),
        (object(), "<object>"),
        (ValueError(CANARY_SECRET), "ValueError"),
        ("x" * 5000, "x" * 2000),
    ],
)
def test_any_value_is_shown_as_plain_data(value: object, shown: object) -> None:
    assert masking.masked("field", value) == shown


def test_a_value_that_holds_itself_ends(lines: Lines) -> None:
    endless: list[object] = []
    endless.append(endless)

    log.get_logger().warning("ack.failed", error=endless)

    assert len(lines()) == 1


# --- exceptions ---


def fail_with_everything() -> None:
    try:
        raise ValueError(f"{CANARY_CONTENT} {CANARY_PHONE} {CANARY_HANDLE}")
    except ValueError as exc:
        raise SourceUnavailable("timeout", http_status=504, cure="look at the network") from exc


def test_a_foreign_exception_is_told_without_its_text(lines: Lines) -> None:
    try:
        fail_with_everything()
    except SourceUnavailable:
        log.get_logger().error("worker.failed", exc_info=True)

    [line] = lines()
    assert_holds_no_canary(json.dumps(line))
    told = line["exception"]
    assert isinstance(told, dict)
    assert told["type"] == "SourceUnavailable: timeout; http 504; look at the network"
    assert told["frames"][-1].endswith(" fail_with_everything")
    assert told["causes"][0]["type"] == "ValueError"


def test_libraries_are_heard_from_warning_on_and_masked(lines: Lines) -> None:
    library = logging.getLogger("mns.mns_client")
    library.setLevel(logging.DEBUG)

    library.debug("Authorization: %s", CANARY_SECRET)
    library.info("ReceiptHandle=%s", CANARY_HANDLE)
    library.warning("phone %s\nSignature=%s", CANARY_PHONE, CANARY_SECRET)
    try:
        raise ValueError(CANARY_CONTENT)
    except ValueError:
        library.exception("token: %s", CANARY_TOKEN)

    told = lines()
    assert [line["event"] for line in told] == ["library.warned", "library.warned"]
    assert told[0]["logger"] == "mns.mns_client"
    assert_holds_no_canary(json.dumps(told))


def test_a_library_that_logs_wrongly_does_no_harm(lines: Lines) -> None:
    record = logging.LogRecord("odd", logging.WARNING, "odd.py", 1, "%d", ("no number",), None)

    log._LibraryHandler().handle(record)  # not through `logging`: pytest's own handler would raise

    assert [line["event"] for line in lines()] == ["library.warned"]


def test_configuring_twice_logs_once(lines: Lines) -> None:
    log.configure("json", "info")

    logging.getLogger("x").warning("once")

    assert len(lines()) == 1


# --- a log that nobody takes ---

TALK = """
import sys
from receiptd import log
{before}
log.configure("json", "info")
for _ in range(1000):
    log.get_logger().warning("ack.failed", error="x" * 500)
print("still here")
"""


@pytest.mark.parametrize(
    "before", ["", "sys.stderr.close()", "sys.stderr = None", "import os; os.close(2)"]
)
def test_a_stderr_that_takes_nothing_stops_nobody(before: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", TALK.format(before=before)],
            stdout=subprocess.PIPE,
            stderr=full,
            check=False,
        )

    assert done.stdout == b"still here\n"
    assert done.returncode == 0


def test_a_stderr_whose_reader_left_stops_nobody() -> None:
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [sys.executable, "-c", TALK.format(before="")],
        stdout=subprocess.PIPE,
        stderr=writer,
        check=False,
    )
    os.close(writer)

    assert done.stdout == b"still here\n"
    assert done.returncode == 0


def test_a_thread_that_dies_says_so_without_the_text() -> None:
    code = f"""
import threading
from receiptd import log
log.configure("json", "info")
log.catch_uncaught()
def die():
    raise ValueError({CANARY_SECRET!r})
thread = threading.Thread(target=die, name="w/1")
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    line = json.loads(done.stderr)
    assert line["event"] == "thread.died"
    assert line["name"] == "w/1"
    assert_holds_no_canary(done.stderr)
