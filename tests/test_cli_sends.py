"""`receiptd sends`: what goes in, what is refused, what is printed, how it ends."""

import io
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from receiptd.cli import exit_codes, main
from receiptd.clock import SystemClock
from receiptd.config import loading
from receiptd.store import open_store
from tests.databases import SERVERS, ask, fresh_url

CONFIG = """
[database]
url = "sqlite:///x.db"
[accounts.main]
provider = "aliyun"
[accounts.live]
provider = "polyv"
receipts_account = "main"
"""
PAIR = {
    "request": {"PhoneNumbers": "13900000001,13900000002", "SignName": "云通信"},
    "response": {"Code": "OK", "BizId": "900000000000000001^0", "RequestId": "R-000001"},
}
TIME = "2024-05-06T15:08:09+08:00"
HEADER = "phone,biz_id,out_id,submitted_at\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    (tmp_path / "config.toml").write_text(CONFIG)
    store = open_store("sqlite:///x.db", SystemClock())
    store.upgrade()
    store.close()
    return tmp_path


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    def give(*objects: Any, text: str | None = None) -> None:
        lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in objects)
        body = (lines if text is None else text).encode()
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(body)))

    return give


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command; returns its code, its JSON result and its lines on stderr."""

    def run(*arguments: str) -> tuple[int, Any, list[str]]:
        code = main(["sends", *arguments, "--json"])
        captured = capsys.readouterr()
        result = json.loads(captured.out) if captured.out else None
        return code, result, captured.err.splitlines()

    return run


def rows(columns: str) -> list[tuple[Any, ...]]:
    return ask("sqlite:///x.db", f"SELECT {columns} FROM receipts ORDER BY biz_id, phone")


def test_record_reads_a_pair_from_stdin(run: Any, stdin: Any) -> None:
    stdin(PAIR)

    code, result, told = run("record", "--api", "SendSms", "--account", "main")

    assert (code, told) == (exit_codes.OK, [])
    assert (result["lines"], result["rows"], result["accepted"]) == (1, 2, 2)
    [(phone, status, at), _] = rows("phone, status, submitted_at")
    assert (phone, status) == ("+8613900000001", "awaited")
    assert at is not None  # now


@pytest.mark.parametrize(
    "layout", [lambda two: json.dumps(two), lambda two: "\n".join(map(json.dumps, two))]
)
def test_record_reads_arrays_and_lines(run: Any, stdin: Any, layout: Any) -> None:
    refused = {"Code": "isv.AMOUNT_NOT_ENOUGH", "RequestId": "R-000002"}
    stdin(text=layout([PAIR, PAIR | {"response": refused}]))

    code, result, _ = run("record", "--api", "SendSms", "--account", "main")

    assert code == exit_codes.OK
    assert (result["accepted"], result["refused"]) == (2, 2)


def test_record_reads_an_object_over_many_lines(run: Any, stdin: Any) -> None:
    stdin(text=json.dumps(PAIR, indent=2))

    assert run("record", "--api", "SendSms", "--account", "main")[1]["rows"] == 2


def test_record_books_polyv_under_its_aliyun_account(run: Any, stdin: Any) -> None:
    answer = {"serialNo": "605320356903663783^0", "phoneNumber": "13900000001", "status": 12}
    request = {"phoneNumbers": ["13900000001"]}
    stdin({"request": request, "response": {"code": 200, "data": [answer]}})

    assert run("record", "--api", "polyv", "--account", "live")[0] == exit_codes.OK

    assert rows("provider, account, send_api") == [("aliyun", "main", "polyv")]


def test_record_with_a_time_can_be_repeated(run: Any, stdin: Any) -> None:
    arguments = ["record", "--api", "SendSms", "--account", "main", "--submitted-at", TIME]
    changed = []
    for _ in range(2):
        stdin(PAIR | {"response": {}})
        changed.append(run(*arguments)[1]["changed"])

    assert changed == [2, 0]


@pytest.mark.parametrize("text", ["", "nonsense", "[1]", '{"request": {}}', '{"response": {}}'])
def test_record_refuses_what_is_no_send(run: Any, stdin: Any, text: str) -> None:
    stdin(text=text)

    code, result, told = run("record", "--api", "SendSms", "--account", "main")

    assert code == exit_codes.DATA_REFUSED
    assert (result["rows"], result["bad_lines"], len(told)) == (0, 1, 1)
    assert told[0].startswith("receiptd: line 1: ")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--api", "SendSMS", "--account", "main"], exit_codes.USAGE, "SendBatchSms"),
        (["--api", "jushita", "--account", "main"], exit_codes.USAGE, "SendSms"),
        (["--api", "SendSms", "--account", "no"], exit_codes.CONFIG, "configured: live, main"),
        (
            ["--api", "SendSms", "--account", "main", "--submitted-at", "noon"],
            exit_codes.USAGE,
            "2024-05-06",
        ),
    ],
)
def test_record_refuses_wrong_options(
    run: Any, stdin: Any, arguments: list[str], code: int, said: str
) -> None:
    stdin(PAIR)

    found, result, told = run("record", *arguments)

    assert (found, result) == (code, None)
    assert said in " ".join(told)


def test_import_takes_a_csv_and_lists_its_bad_lines(run: Any, folder: Path) -> None:
    (folder / "a.csv").write_text(
        HEADER
        + "13900000001,1^0,order-1,2024-05-06 15:08:09\n"
        + "\n"
        + "1.39E+10,2^0,,2024-05-06 15:08:09\n"
        + '13900000003,"3^0,,2024-05-06 15:08:09\n'
        + "13900000004,4^0,,yesterday\n"
        + "13900000005,5^0\n"
        + ',6^0,"a,b",\n'
        + '13900000007,7^0,"a,b",2024-05-06T07:08:09Z\n'
    )

    code, result, told = run("import", "a.csv", "--account", "main")

    assert code == exit_codes.DATA_REFUSED
    assert (result["lines"], result["bad_lines"], result["rows"]) == (7, 5, 2)
    assert [line.split(":")[1].strip() for line in told] == [f"line {n}" for n in range(4, 9)]
    assert all("; " in line for line in told)  # the cure
    assert "13900000" not in "".join(told)
    [one, seven] = rows("biz_id, out_id, send_api, submitted_at")
    assert (one[:3], seven[:3]) == (("1^0", "order-1", None), ("7^0", "a,b", None))
    assert one[3] == seven[3]  # China's time


def test_import_takes_what_excel_writes(run: Any, folder: Path) -> None:
    text = "PHONE,biz_id, sign_name \r\n13900000001,1^0,云通信\r\n"
    (folder / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.encode() + "1,2^0,云\n".encode("gbk"))

    code, result, told = run("import", "a.csv", "--account", "main", "--api", "SendSms")

    assert code == exit_codes.DATA_REFUSED
    assert "line 3: is no line of CSV in UTF-8" in told[0]
    assert result["undated"] == 1
    assert rows("sign_name, send_api") == [("云通信", "SendSms")]


def test_import_refuses_a_header_without_the_needed_columns(run: Any, folder: Path) -> None:
    (folder / "a.csv").write_text("number,biz_id\n13900000001,1^0\n")

    code, _, told = run("import", "a.csv", "--account", "main")

    assert code == exit_codes.DATA_REFUSED
    assert "line 1: the header lacks phone; the columns are provider" in told[0]


def test_import_takes_ndjson_of_both_shapes(run: Any, folder: Path) -> None:
    own = {"phone": "13900000009", "biz_id": "1^0", "account": "main", "submitted_at": TIME}
    lines = [
        own,
        PAIR | {"api": "SendSms", "submitted_at": TIME},
        PAIR | {"api": "SendSms"},
        PAIR | {"submitted_at": TIME},
        own | {"account": "other"},
        PAIR | {"api": "SendSms", "submitted_at": TIME, "response": json.dumps(PAIR["response"])},
    ]
    (folder / "a.ndjson").write_text("\n".join(map(json.dumps, lines)) + "\n{broken\n")

    code, result, told = run("import", "a.ndjson", "--account", "main")

    assert code == exit_codes.DATA_REFUSED
    assert (result["lines"], result["rows"], result["changed"]) == (7, 5, 3)
    assert [line.split(";")[0] for line in told] == [
        "receiptd: line 3: submitted_at is missing",
        "receiptd: line 4: api is missing",
        "receiptd: line 5: there is no such account",
        "receiptd: line 7: is no JSON object (not_json)",
    ]


def test_import_tells_how_to_give_an_array(run: Any, folder: Path) -> None:
    (folder / "a.json").write_text("[{}]")

    assert "jq -c" in run("import", "a.json", "--account", "main")[2][0]


def test_importing_twice_changes_nothing(run: Any, folder: Path) -> None:
    lines = (f"139{n:08d},{n}^0,order-{n},2024-05-06 15:08:09\n" for n in range(1201))
    (folder / "a.csv").write_text(HEADER + "".join(lines))

    results = [run("import", "a.csv", "--account", "main") for _ in range(2)]

    assert [code for code, _, _ in results] == [exit_codes.OK] * 2
    assert [result["changed"] for _, result, _ in results] == [1201, 0]
    assert len(rows("id")) == 1201


def test_import_goes_on_after_a_line_without_an_end(run: Any, folder: Path) -> None:
    (folder / "a.csv").write_text(HEADER + "1" * (3 << 20) + "\n13900000001,1^0,,\n")

    code, result, told = run("import", "a.csv", "--account", "main")

    assert (code, result["rows"]) == (exit_codes.DATA_REFUSED, 1)
    assert "line 2: is longer than 1 MiB" in told[0]


def test_import_of_an_empty_file_is_nothing(run: Any, folder: Path) -> None:
    (folder / "a.csv").write_text("")

    code, result, _ = run("import", "a.csv", "--account", "main")

    assert (code, result["lines"]) == (exit_codes.OK, 0)


def test_import_reads_stdin(run: Any, stdin: Any) -> None:
    stdin(text=HEADER + "13900000001,1^0,,\n")

    assert run("import", "-", "--account", "main")[1]["rows"] == 1


def test_import_of_no_file_is_wrong_usage(run: Any) -> None:
    assert run("import", "no.csv", "--account", "main")[0] == exit_codes.USAGE


def test_without_a_schema_it_says_so(run: Any, folder: Path) -> None:
    (folder / "x.db").unlink()
    (folder / "a.csv").write_text(HEADER)

    code, _, told = run("import", "a.csv", "--account", "main")

    assert code == exit_codes.CONFIG
    assert "receiptd db upgrade" in told[0]
    assert not (folder / "x.db").exists()


@pytest.mark.parametrize("kind", SERVERS)
def test_import_works_on_servers(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    lines = (f"139{n:08d},{n}^0,order-{n},2024-05-06 15:08:09\n" for n in range(600))
    (folder / "a.csv").write_text(HEADER + "".join(lines))
    with fresh_url(kind) as url:
        monkeypatch.setenv("RECEIPTD_DATABASE__URL", url)
        assert main(["db", "upgrade"]) == exit_codes.OK
        run_twice = []
        for _ in range(2):
            assert main(["sends", "import", "a.csv", "--account", "main"]) == exit_codes.OK
            run_twice.append(ask(url, "SELECT count(*), min(updated_at) FROM receipts"))

    assert run_twice[0] == run_twice[1]
    assert run_twice[0][0][0] == 600


def test_nothing_is_drawn_where_stderr_is_no_terminal(folder: Path) -> None:
    (folder / "a.csv").write_text(HEADER + "13900000001,1^0,,\n")

    done = subprocess.run(
        [sys.executable, "-m", "receiptd", "sends", "import", "a.csv", "--account", "main"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (exit_codes.OK, "")
    assert done.stdout.splitlines() == [
        "1 lines, 0 bad",
        "1 sends: 1 accepted, 0 refused by the API, 0 unanswered; 1 new or changed",
        "1 without submitted_at: nobody can be asked about them",
    ]


def test_a_lock_that_is_let_go_is_waited_for(folder: Path) -> None:
    (folder / "a.csv").write_text(HEADER + "13900000001,1^0,,\n")
    with closing(sqlite3.connect("x.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        command = [sys.executable, "-m", "receiptd", "sends", "import", "a.csv"]
        with subprocess.Popen(
            [*command, "--account", "main"], stdout=subprocess.PIPE, text=True
        ) as running:
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(1.5)
            other.execute("ROLLBACK")
            assert running.wait(30) == exit_codes.OK
