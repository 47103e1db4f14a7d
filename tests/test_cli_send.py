"""`receiptd send`: what is sent, what is refused, what is printed, how it ends."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from receiptd.cli import exit_codes, main
from receiptd.clock import SystemClock
from receiptd.config import loading
from receiptd.sandbox import Fault, Sandbox, Scenario
from receiptd.sandbox.configuration import config_toml
from receiptd.store import open_store
from tests.canaries import CANARY_KEY_ID, CANARY_PHONE, CANARY_SECRET, assert_holds_no_canary
from tests.databases import ask
from tests.providers.loopback import Peer, response

TEXT = ("--sign", "云通信", "--template", "SMS_1", "--param", "code=1234")
TO = ("--phone", "13900000001", *TEXT)
REFUSAL = "isv.AMOUNT_NOT_ENOUGH"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(access_keys={CANARY_KEY_ID: CANARY_SECRET}) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    configure(tmp_path, sandbox)
    store = open_store("sqlite:///receiptd.db", SystemClock())
    store.upgrade()
    store.close()
    return tmp_path


def configure(folder: Path, sandbox: Sandbox, **changes: Any) -> None:
    keys = {"access_key_id": CANARY_KEY_ID, "access_key_secret": CANARY_SECRET}
    text = config_toml(sandbox.url, with_polyv=True, **keys | changes)
    (folder / "config.toml").write_text(text + '\n[http]\nlisten = ""\n')


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command; returns its code, its JSON result and its lines on stderr."""

    def run(*arguments: str) -> tuple[int, Any, list[str]]:
        code = main(["send", *arguments, "--json"])
        captured = capsys.readouterr()
        assert_holds_no_canary(captured.out + captured.err)
        result = json.loads(captured.out) if captured.out else None
        return code, result, captured.err.splitlines()

    return run


def rows(columns: str) -> list[tuple[Any, ...]]:
    return ask("sqlite:///receiptd.db", f"SELECT {columns} FROM receipts ORDER BY phone")


@contextmanager
def daemon(folder: Path) -> Iterator[None]:
    """`receiptd run`, beside the command."""
    with (folder / "receiptd.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "receiptd", "run"], stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


@pytest.mark.parametrize(
    ("account", "api"),
    [("main", "SendSms"), ("main", "SendBatchSms"), ("live", "polyv"), ("shop", "jushita")],
)
def test_one_sms_through_each_api(account: str, api: str, run: Any, sandbox: Sandbox) -> None:
    code, result, told = run("--account", account, "--api", api, *TO)

    assert (code, told) == (exit_codes.OK, [])
    assert (result["outcome"], result["api"], result["accepted"]) == ("accepted", api, 1)
    [sent] = sandbox.sends
    [call] = result["calls"]
    assert (call["biz_ids"], call["out_id"] or "") == ([sent.biz_id], sent.out_id)
    assert call["rows"][0]["phone"] == "139****0001"
    assert rows("biz_id, status, send_api") == [(sent.biz_id, "awaited", api)]


@pytest.mark.parametrize(
    "number", ["13900000001", "+86 139 0000 0001", "0086-139-0000-0001", " (86) 13900000001"]
)
def test_a_number_may_be_written_in_any_way(number: str, run: Any, sandbox: Sandbox) -> None:
    assert run("--account", "main", "--phone", number, *TEXT)[0] == exit_codes.OK

    assert rows("phone") == [("+8613900000001",)]
    assert sandbox.sends[0].phone == "13900000001"


def test_variables_come_one_by_one_or_as_json(run: Any, sandbox: Sandbox) -> None:
    common = ("--account", "main", "--phone", "13900000001", "--sign", "云", "--template", "SMS_1")

    codes = [
        run(*common, "--param", "code=1=2", "--out-id", "order-1")[0],
        run(*common, "--params-json", '{"code": "1234"}')[0],
        run(*common, "--params-json", '{"code": 1234}')[0],
        run(*common, "--params-json", "code")[0],
        run(*common, "--param", "code")[0],
    ]

    assert codes == [exit_codes.OK] * 2 + [exit_codes.USAGE] * 3
    assert sandbox.sends[0].out_id == "order-1"


def test_the_receipts_are_waited_for(run: Any, folder: Path, sandbox: Sandbox) -> None:
    sandbox.scenario = Scenario(
        delay_s=0.3, phones={"13900000002": "failed", "13900000003": "lost"}
    )
    two = ("--phone", "13900000002")
    with daemon(folder):
        delivered = run("--account", "main", *TO, "--wait", "--timeout", "30s")
        failed = run("--account", "main", *TO, *two, "--wait", "--timeout", "30s")
        lost = run(
            "--account", "shop", "--phone", "13900000003", *TEXT, "--wait", "--timeout", "1s"
        )

    code, result, told = delivered
    assert (code, result["outcome"], told) == (exit_codes.OK, "delivered", [])
    [row] = result["calls"][0]["rows"]
    assert (row["status"], row["origin"]) == ("delivered", "queue")
    for leg in ("provider_to_carrier_s", "carrier_to_phone_s", "receipt_to_database_s"):
        assert 0 <= row[leg] < 30
    code, result, _ = failed
    assert (code, result["outcome"]) == (exit_codes.DATA_REFUSED, "failed")
    assert [row["status"] for row in result["calls"][0]["rows"]] == ["delivered", "failed"]
    assert result["calls"][0]["rows"][1]["err_code"]
    code, result, _ = lost
    assert (code, result["outcome"]) == (exit_codes.TRY_AGAIN, "awaited")


def test_a_refusal_is_told_with_its_meaning_and_cure(run: Any, sandbox: Sandbox) -> None:
    sandbox.scenario = Scenario(send_refusals={REFUSAL: 1.0})

    code, result, told = run("--account", "main", *TO, "--wait")

    assert (code, result["outcome"]) == (exit_codes.DATA_REFUSED, "refused")
    assert told == [f"receiptd: refused: {REFUSAL}: 账户余额不足; top up the account"]
    assert result["calls"][0]["cure"] == "top up the account"
    assert rows("status, err_code") == [("failed", REFUSAL)]


def test_refused_credentials_have_an_exit_code_of_their_own(
    run: Any, folder: Path, sandbox: Sandbox
) -> None:
    configure(folder, sandbox, access_key_secret="another")

    code, result, told = run("--account", "main", *TO)

    assert (code, result["outcome"]) == (exit_codes.CREDENTIALS_REFUSED, "refused")
    assert "check access_key_secret" in told[0]


def test_what_may_have_been_sent_is_not_to_be_sent_again(run: Any, sandbox: Sandbox) -> None:
    sandbox.set_fault(Fault.build("drop", "send", when="after"))

    code, result, told = run("--account", "main", *TO, "--wait", "--timeout", "1s")

    assert (code, result["outcome"]) == (exit_codes.TRY_AGAIN, "unanswered")
    assert "may have been sent; do not send it again" in told[0]
    assert rows("status, out_id") == [("awaited", sandbox.sends[0].out_id)]


def test_what_was_surely_not_sent_can_be_sent_again(run: Any, sandbox: Sandbox) -> None:
    sandbox.stop()

    code, result, told = run("--account", "main", *TO)

    assert (code, result["outcome"]) == (exit_codes.UNAVAILABLE, "not_sent")
    assert "nothing was sent" in told[0]
    assert rows("id") == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--account", "no", *TO], exit_codes.CONFIG, "configured: live, main, shop"),
        (["--account", "main", "--api", "jushita", *TO], exit_codes.USAGE, "SendBatchSms"),
        (["--account", "main", *TEXT], exit_codes.USAGE, "--csv"),
        (["--account", "main", *TO, "--csv", "a.csv"], exit_codes.USAGE, "--phone"),
        (["--account", "main", "--csv", "no.csv", *TEXT], exit_codes.USAGE, "No such file"),
        (["--account", "main", *TO, "--timeout", "soon"], exit_codes.USAGE, "duration"),
        (["--account", "main", "--phone", "1", *TEXT], exit_codes.DATA_REFUSED, "no phone number"),
        (["--account", "main", "--phone", "13900000001"], exit_codes.DATA_REFUSED, "SignName"),
        (["--account", "live", *TO, "--out-id", "x"], exit_codes.DATA_REFUSED, "leave it out"),
    ],
)
def test_wrong_options_send_nothing(
    run: Any, sandbox: Sandbox, arguments: list[str], code: int, said: str
) -> None:
    found, _, told = run(*arguments)

    assert found == code
    assert said in " ".join(told)
    assert not sandbox.requests
    assert rows("id") == []


def test_without_a_schema_nothing_is_sent(run: Any, folder: Path, sandbox: Sandbox) -> None:
    (folder / "receiptd.db").unlink()

    code, _, told = run("--account", "main", *TO)

    assert code == exit_codes.CONFIG
    assert "receiptd db upgrade" in told[0]
    assert not sandbox.requests


def test_a_csv_goes_out_in_calls(run: Any, folder: Path, sandbox: Sandbox) -> None:
    lines = (f"139{n:08d},{n},,签名\r\n" for n in range(150))
    text = "phone,code,out_id,sign_name\r\n" + "".join(lines) + "13900000200,1,order-1,\r\n"
    (folder / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())

    code, result, told = run(
        "--account", "main", "--api", "SendBatchSms", "--csv", "a.csv", *TEXT[:4]
    )

    assert (code, told) == (exit_codes.OK, [])
    assert (result["numbers"], result["accepted"]) == (151, 151)
    assert [call["lines"] for call in result["calls"]] == [[2, 101], [102, 151], [152, 152]]
    assert sandbox.sends[-1].out_id == result["calls"][-1]["out_id"] == "order-1"
    assert sorted({sign for (sign,) in rows("sign_name")}) == ["云通信", "签名"]


def test_a_bad_line_holds_back_all_and_all_bad_lines_are_listed(
    run: Any, folder: Path, sandbox: Sandbox
) -> None:
    (folder / "a.csv").write_bytes(
        b"phone,code,out_id\n"
        b"13900000001,1,\n"
        b"1.39E+10,2,\n"
        b"\n"
        b'13900000003,"3,\n'
        b"13900000004,4\n"
        b"13900000005,\xff,\n"
        b"13900000006,6," + b"x" * 256 + b"\n"
        b"13900000007," + b"7" * 70_000 + b",\n"
        b"+852 9123 4567,8,\n"
    )

    code, result, told = run("--account", "main", "--csv", "a.csv", *TEXT[:4])

    assert (code, result["outcome"]) == (exit_codes.DATA_REFUSED, "invalid")
    assert [line.split(":")[1] for line in told] == [f" line {n}" for n in (3, 5, 6, 7, 8, 9)]
    assert [one["line"] for one in result["problems"]] == [3, 5, 6, 7, 8, 9]
    assert all("; " in line for line in told)  # the cure
    assert not sandbox.requests
    assert rows("id") == []


@pytest.mark.parametrize("text", ["", "13900000001\n", "phone,phone\n1,2\n", "phone,\n1,2\n"])
def test_a_csv_needs_a_header(text: str, run: Any, folder: Path) -> None:
    (folder / "a.csv").write_text(text)

    code, _, told = run("--account", "main", "--csv", "a.csv", *TEXT)

    assert code == exit_codes.DATA_REFUSED
    assert told[0].startswith("receiptd: line 1: CSV: is no header; write phone,")


def test_a_csv_of_a_header_only_is_refused(run: Any, folder: Path) -> None:
    (folder / "a.csv").write_text("phone\n")

    assert run("--account", "main", "--csv", "a.csv", *TEXT)[0] == exit_codes.DATA_REFUSED


def test_a_refused_call_does_not_hold_back_the_next(
    run: Any, folder: Path, sandbox: Sandbox
) -> None:
    (folder / "a.csv").write_text("phone,code\n13900000001,1\n13900000002,2\n13900000003,3\n")
    sandbox.set_fault(Fault.error(REFUSAL, "send", skip=1, times=1))

    code, result, told = run("--account", "main", "--csv", "a.csv", *TEXT[:4])

    assert (code, result["accepted"], result["refused"]) == (exit_codes.DATA_REFUSED, 2, 1)
    assert told[0].startswith(f"receiptd: line 3: refused: {REFUSAL}: ")
    assert rows("status") == [("awaited",), ("failed",), ("awaited",)]


@contextmanager
def answering_once(body: bytes) -> Iterator[str]:
    """A service that takes one connection, answers one request on it, and is gone."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = listener.accept()
        listener.close()
        with sock:
            peer = Peer(sock, threading.Event())
            peer.request()
            peer.send(response(body, headers=b"Connection: close\r\n"))

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join(10)


def test_a_csv_stops_where_the_service_is_away(
    run: Any, folder: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "phone,code\n13900000001,1\n13900000002,2\n13900000003,3\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))

    with answering_once(b'{"Code":"OK","BizId":"9^0","RequestId":"R-000001"}') as url:
        config = (folder / "config.toml").read_text()
        (folder / "config.toml").write_text(config.replace(sandbox.url, url))
        code, result, told = run("--account", "main", "--csv", "-", *TEXT[:4])

    assert (code, result["outcome"]) == (exit_codes.TRY_AGAIN, "stopped")
    assert [call["outcome"] for call in result["calls"]] == ["accepted", "not_sent"]
    assert result["stopped_at_line"] == 3
    assert told[-1] == "receiptd: stopped before line 3"
    assert rows("phone, biz_id") == [("+8613900000001", "9^0")]


def test_ctrl_c_in_a_call_tells_that_it_may_have_been_sent(folder: Path, sandbox: Sandbox) -> None:
    sandbox.set_fault(Fault.build("hang", "send"))
    process = subprocess.Popen(
        [sys.executable, "-m", "receiptd", "send", "--account", "main", *TO],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert sandbox.wait_until(lambda: bool(sandbox.requests), 30)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)

    assert process.returncode == exit_codes.INTERRUPTED
    assert "interrupted: it may have been sent; do not send it again" in told
    assert rows("status") == [("awaited",)]


def test_a_canary_is_quiet_unless_something_is_wrong(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    to = ("--account", "main", "--phone", CANARY_PHONE, *TEXT)
    sandbox.set_fault(Fault.error(REFUSAL, "send", skip=1))

    codes = [main(["send", *to, "--quiet"])]
    quiet = capsys.readouterr()
    codes.append(main(["send", *to, "--quiet"]))
    told = capsys.readouterr()

    assert codes == [exit_codes.OK, exit_codes.DATA_REFUSED]
    assert (quiet.out, quiet.err) == ("", "")
    assert "139****4321" in told.out
    assert REFUSAL in told.err
    assert_holds_no_canary(told.out + told.err)


def test_what_a_person_reads(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "--account", "main", *TO]) == exit_codes.OK

    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["awaited", "139****0001", sandbox.sends[0].biz_id]
    assert second.startswith("SendSms: booked in 0.")
    assert second.endswith(f"out_id {sandbox.sends[0].out_id}")


def test_a_call_that_is_killed_leaves_its_row(folder: Path, sandbox: Sandbox) -> None:
    sandbox.set_fault(Fault.build("hang", "send"))
    process = subprocess.Popen(
        [sys.executable, "-m", "receiptd", "send", "--account", "main", *TO], env=dict(os.environ)
    )
    assert sandbox.wait_until(lambda: bool(sandbox.requests), 30)
    process.kill()
    process.wait(10)

    [(biz_id, status, out_id)] = rows("biz_id, status, out_id")
    assert (biz_id[:11], status, out_id[:9]) == ("unanswered:", "awaited", "receiptd-")
