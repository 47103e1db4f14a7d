"""The quarantine as an operator sees it: the list, one row, and what is dropped."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from receiptd import quarantine
from receiptd.cli import exit_codes, main
from receiptd.clock import ManualClock
from receiptd.config import loading
from receiptd.model import Entry, Envelope, Kind, Outcome, Reason
from receiptd.store import Store, open_store
from tests.canaries import CANARY_HANDLE, CANARY_PHONE, CANARY_TOKEN
from tests.databases import ask, databases, fresh_url


@pytest.fixture(params=databases())
def url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "config.toml")
    with fresh_url(request.param, tmp_path) as url:
        monkeypatch.setenv("RECEIPTD_DATABASE__URL", url)
        yield url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = open_store(url, ManualClock())
    store.upgrade()
    yield store
    store.close()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store on SQLite, for what is no matter of the database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "config.toml")
    monkeypatch.setenv("RECEIPTD_DATABASE__URL", "sqlite:///receiptd.db")
    store = open_store("sqlite:///receiptd.db", ManualClock())
    store.upgrade()
    yield store
    store.close()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command; returns its code, its output and its lines on stderr."""

    def run(*arguments: str) -> tuple[int, Any, list[str]]:
        code = main(["quarantine", *arguments])
        captured = capsys.readouterr()
        out = json.loads(captured.out) if "--json" in arguments and captured.out else captured.out
        return code, out, captured.err.splitlines()

    return run


def put(store: Store, reason: str | None, body: bytes = b"x", source: str = "sms_report") -> None:
    envelope = Envelope(source=source, envelope_id="m1", body=body, handle="", pull_count=2)
    clock = ManualClock()
    store.save(
        [
            Entry(
                envelope=envelope,
                part=0,
                body=body,
                kind=Kind.UNREADABLE,
                outcome=Outcome.QUARANTINED,
                reason=reason,
                received_at=clock.now(),
            )
        ]
    )


def fill(store: Store) -> None:
    for reason in ("bad_field:err_code", "not_json", "bad_field:err_code", "bad_field:state"):
        put(store, reason, source="other" if reason == "not_json" else "sms_report")


def test_every_reason_has_a_meaning_and_a_cure() -> None:
    assert set(quarantine.ADVICE) == set(Reason)
    for advice in quarantine.ADVICE.values():
        assert advice.meaning
        assert advice.cure
    assert quarantine.advice("bad_field:err_code") is quarantine.ADVICE[Reason.BAD_FIELD]
    assert "does not know" in quarantine.advice("of_tomorrow").meaning
    assert "does not know" in quarantine.advice(None).meaning


def test_the_list_is_by_reason_with_the_newest_rows(store: Store, run: Any) -> None:
    fill(store)

    code, found, _ = run("list", "--json", "--limit", "1")

    assert (code, found["quarantined"]) == (exit_codes.OK, 4)
    assert [(one["reason"], one["rows"]) for one in found["reasons"]] == [
        ("bad_field:state", 1),
        ("bad_field:err_code", 2),
        ("not_json", 1),
    ]
    assert [[row["id"] for row in one["newest"]] for one in found["reasons"]] == [[4], [3], [2]]
    assert found["reasons"][0]["newest_at"] == "2026-01-01T00:00:00Z"


def test_the_list_can_be_of_one_reason_or_source(file: Store, run: Any) -> None:
    fill(file)

    assert run("list", "--json", "--reason", "bad_field")[1]["quarantined"] == 3
    assert run("list", "--json", "--reason", "bad_field:state")[1]["quarantined"] == 1
    assert run("list", "--json", "--source", "other")[1]["quarantined"] == 1
    assert run("list", "--source", "nobody")[1] == "nothing is quarantined for this\n"


def test_the_list_for_people_says_what_to_do(file: Store, run: Any) -> None:
    fill(file)

    out = run("list", "--limit", "1")[1].splitlines()

    assert out[4:9] == [
        "bad_field:err_code: 2 rows",
        "  a field holds what it never held; it is named behind the colon",
        "  cure: " + quarantine.ADVICE[Reason.BAD_FIELD].cure,
        "           3  2026-01-01T00:00:00Z  sms_report        m1",
        "           …  and 1 more",
    ]


HOSTILE = (
    f'{{"phone_number":"{CANARY_PHONE}","to":"85261234567","receiver":"+852 6123 4567",'
    f'"a":"86{CANARY_PHONE}\\u001b","token":"{CANARY_TOKEN}","x":"'
).encode() + b'\x1b]0;owned\x07\x9b31m\r\n\xff"}'


def test_a_body_is_shown_without_phones_secrets_and_escapes(store: Store, run: Any) -> None:
    put(store, "bad_field:a", HOSTILE)

    for arguments in (["show", "1"], ["show", "1", "--raw"], ["show", "1", "--json"]):
        code, out, _ = run(*arguments)
        shown = out["body"] if isinstance(out, dict) else out
        assert code == exit_codes.OK
        for secret in (CANARY_PHONE, CANARY_TOKEN, "85261234567", "6123 4567"):
            assert secret not in shown
        assert all(one.isprintable() or one == "\n" for one in shown)
        assert '"phone_number":"139****4321"' in shown
        assert r"\u001b]0;owned\u0007" in shown


@pytest.mark.parametrize("length", range(1480, 1530))
def test_a_number_is_masked_wherever_it_stands(length: int) -> None:
    text = quarantine.shown(b'"' + b"x" * length + b'","' + CANARY_PHONE.encode() + b'"', None)

    assert text.endswith(',"139****4321"')


def test_a_wrapped_body_is_unwrapped_before_it_is_shown() -> None:
    inner = b'{"phone_number":"%s"}' % CANARY_PHONE.encode()
    wrapped = base64.b64encode(inner)
    xml = b"<Message><ReceiptHandle>%s</ReceiptHandle><MessageBody>%s</MessageBody></Message>"

    for body in (wrapped, base64.encodebytes(inner), xml % (CANARY_HANDLE.encode(), wrapped)):
        assert quarantine.shown(body) == '{"phone_number":"139****4321"}'
    broken = (xml % (CANARY_HANDLE.encode(), b"&"))[:-10]
    assert CANARY_HANDLE not in quarantine.shown(broken)


def test_a_long_body_is_cut_unless_it_is_asked_for() -> None:
    body = b"[" + b'"abc",' * 10_000 + b"1]"

    assert quarantine.shown(body).endswith(" … and 58003 more characters")
    assert quarantine.shown(body, None) == body.decode()


def test_one_row_is_explained(file: Store, run: Any) -> None:
    put(file, "not_json", b"{broken")

    code, out, _ = run("show", "1")

    assert code == exit_codes.OK
    assert "meaning      the body is no JSON\n" in out
    assert "pull_count   2\n" in out
    assert out.endswith("body         {broken\n")
    assert run("show", "2")[0] == exit_codes.DATA_REFUSED


def test_rows_are_dropped_with_a_reason_and_stay(store: Store, url: str, run: Any) -> None:
    fill(store)

    code, found, _ = run("drop", "1", "2", "--because", f"tests of {CANARY_PHONE}", "--json")

    assert (code, found) == (exit_codes.OK, {"dropped": 2, "not_quarantined": 0})
    outcomes = ask(url, "SELECT outcome, reason FROM journal ORDER BY id")
    assert [one[0] for one in outcomes] == ["dropped"] * 2 + ["quarantined"] * 2
    reason, _, note = outcomes[0][1].partition("|dropped:")
    assert (reason, note.partition(": ")[2]) == ("bad_field:err_code", "tests of 139****4321")
    shown = run("show", "1", "--json")[1]
    assert (shown["reason"], shown["dropped"]) == (reason, note)
    assert run("list", "--json")[1]["quarantined"] == 2


def test_all_of_a_reason_are_dropped(store: Store, run: Any) -> None:
    fill(store)
    arguments = ["drop", "--reason", "bad_field", "--because", "x", "--json"]

    assert run(*arguments, "--before", "2026-01-01")[1]["dropped"] == 0
    assert run(*arguments, "--source", "other")[1]["dropped"] == 0
    assert run(*arguments, "--before", "2026-01-01T00:00:01Z")[1]["dropped"] == 3
    assert run("list", "--json")[1]["quarantined"] == 1


def test_what_is_not_quarantined_is_not_dropped(file: Store, run: Any) -> None:
    fill(file)
    run("drop", "1", "--because", "x")

    code, found, told = run("drop", "1", "2", "99", "--because", "x", "--json")

    assert (code, found) == (exit_codes.DATA_REFUSED, {"dropped": 1, "not_quarantined": 2})
    assert told == ["receiptd: 2 of these are not quarantined"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["1"],
        ["1", "--because", " "],
        ["--because", "x"],
        ["1", "--reason", "not_json", "--because", "x"],
        ["--reason", "not_json", "--before", "noon", "--because", "x"],
    ],
)
def test_wrong_usage_drops_nothing(file: Store, run: Any, arguments: list[str]) -> None:
    fill(file)

    assert run("drop", *arguments)[0] == exit_codes.USAGE
    assert run("list", "--json")[1]["quarantined"] == 4


@pytest.mark.parametrize(
    ("arguments", "answer", "left"),
    [
        (["--reason", "bad_field"], "n\n", 4),
        (["--reason", "bad_field"], "y\n", 1),
        (["--reason", "bad_field", "--yes"], "", 1),
        (["--reason", "not_json"], "", 3),
        (["1", "2"], "n\n", 4),
        (["1"], "", 3),
    ],
)
def test_more_than_one_is_asked_about_on_a_terminal(
    file: Store,
    run: Any,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    answer: str,
    left: int,
) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    fill(file)
    monkeypatch.setattr("sys.stdin", Terminal(answer))

    code = run("drop", *arguments, "--because", "x")[0]

    assert code == (exit_codes.INTERRUPTED if answer == "n\n" else exit_codes.OK)
    assert run("list", "--json")[1]["quarantined"] == left
