"""`receiptd export`: what it prints, what it refuses, how it ends."""

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from receiptd.cli import exit_codes, main
from receiptd.clock import SystemClock
from receiptd.config import loading
from receiptd.model import Status
from receiptd.store import open_store
from tests.databases import ask
from tests.store.store_samples import entries, receipt, uplink


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    (tmp_path / "config.toml").write_text('[database]\nurl = "sqlite:///x.db"\n')
    store = open_store("sqlite:///x.db", SystemClock())
    store.upgrade()
    store.save(entries(receipt("1"), receipt("2", status=Status.FAILED), uplink("3")))
    store.close()
    return tmp_path


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Runs the command; returns its code, its bytes on stdout and its text on stderr."""

    def run(*arguments: str) -> tuple[int, bytes, str]:
        code = main(["export", *arguments])
        sys.stdout.flush()
        captured = capfdbinary.readouterr()
        return code, captured.out, captured.err.decode()

    return run


def rows(out: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(out.decode("utf-8-sig"), newline="")))


def test_csv_goes_to_stdout(run: Any) -> None:
    code, out, told = run("receipts")

    assert (code, told) == (exit_codes.OK, "")
    assert [row["biz_id"] for row in rows(out)] == ["\t1", "\t2"]
    assert rows(out)[0]["phone"] == "\t+8613900000001"


def test_a_file_is_whole_private_and_counted(run: Any, folder: Path) -> None:
    arguments = ["receipts", "--status", "failed", "--output", "failed.csv"]

    assert run(*arguments) == (exit_codes.OK, b"1 rows in failed.csv\n", "")

    assert [row["biz_id"] for row in rows((folder / "failed.csv").read_bytes())] == ["\t2"]
    assert (folder / "failed.csv").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_is_kept_without_force(run: Any, folder: Path) -> None:
    (folder / "a.csv").write_text("mine")

    code, _, told = run("receipts", "-o", "a.csv")
    assert code == exit_codes.USAGE
    assert "--force" in told
    assert (folder / "a.csv").read_text() == "mine"

    assert run("receipts", "-o", "a.csv", "--force")[0] == exit_codes.OK
    assert len(rows((folder / "a.csv").read_bytes())) == 2


@pytest.mark.parametrize(("table", "count"), [("receipts", 2), ("uplinks", 1), ("journal", 3)])
def test_each_table_in_each_format(run: Any, table: str, count: int) -> None:
    assert len(rows(run(table)[1])) == count
    assert len(run(table, "--format", "ndjson")[1].splitlines()) == count
    assert run(table, "--format", "parquet")[1].startswith(b"PAR1")


def test_numbers_are_masked_when_told(run: Any) -> None:
    for table in ("receipts", "uplinks", "journal"):
        out = run(table, "--format", "ndjson", "--mask")[1]
        assert b"13900000001" not in out
        assert b"139****0001" in out


def test_times_without_a_zone_are_chinas(run: Any) -> None:
    ask("sqlite:///x.db", "UPDATE receipts SET created_at = '2026-05-05 16:00:00.000000'")
    ask(
        "sqlite:///x.db",
        "UPDATE receipts SET created_at = '2026-05-06 16:00:00.000000' WHERE biz_id = '2'",
    )

    def found(*arguments: str) -> list[str]:
        lines = run("receipts", "--format", "ndjson", *arguments)[1].splitlines()
        return [json.loads(line)["biz_id"] for line in lines]

    assert found("--since", "2026-05-06", "--until", "2026-05-07") == ["1"]
    assert found("--since", "2026-05-06 00:00:01") == ["2"]
    assert found("--until", "2026-05-05T16:00:01Z") == ["1"]
    line = run("receipts", "--format", "ndjson", "--time-zone", "Asia/Shanghai")[1].splitlines()[0]
    assert json.loads(line)["created_at"] == "2026-05-06T00:00:00+08:00"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["journal", "--status", "failed"], "only receipts"),
        (["uplinks", "--status", "failed"], "only receipts"),
        (["receipts", "--status", "Failed"], "delivered"),
        (["journal", "--account", "main"], "the journal has none"),
        (["receipts", "--since", "yesterday"], "2024-05-06"),
        (["receipts", "--time-zone", "Mars/Olympus"], "Asia/Shanghai"),
        (["receipts", "--time-zone", "../etc"], "Asia/Shanghai"),
        (["notices"], "receipts"),
        (["receipts", "--format", "xml"], "parquet"),
    ],
)
def test_wrong_usage_is_told(run: Any, arguments: list[str], said: str) -> None:
    code, out, told = run(*arguments)

    assert (code, out) == (exit_codes.USAGE, b"")
    assert said in " ".join(told.replace("│", "").split())


def test_a_folder_that_is_not_there_is_told(run: Any) -> None:
    code, _, told = run("receipts", "-o", "no/a.csv")

    assert code == exit_codes.UNAVAILABLE
    assert "No such file or directory; nothing was kept" in told


def test_a_full_disk_is_told_and_is_no_bug() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "receiptd", "export", "receipts", "--format", "ndjson"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert done.returncode == exit_codes.UNAVAILABLE
    assert b"No space left on device" in done.stderr
    assert b"a bug" not in done.stderr


def test_without_a_schema_it_says_so(run: Any, folder: Path) -> None:
    (folder / "config.toml").write_text('[database]\nurl = "sqlite:///new.db"\n')

    code, _, told = run("receipts", "-o", "a.csv")

    assert code == exit_codes.CONFIG
    assert "receiptd db upgrade" in told
    assert not (folder / "a.csv").exists()


def many() -> None:
    store = open_store("sqlite:///x.db", SystemClock())
    for start in range(0, 20_000, 2000):
        store.save(entries(*(receipt(f"m{start + number}") for number in range(2000))))
    store.close()


def test_who_stops_reading_ends_it_without_a_word() -> None:
    many()
    process = subprocess.Popen(
        [sys.executable, "-m", "receiptd", "export", "receipts"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    process.stderr.close()

    assert process.wait(30) != exit_codes.OK
    assert told == b""


def test_ctrl_c_ends_it_with_130() -> None:
    many()
    process = subprocess.Popen(
        [sys.executable, "-m", "receiptd", "export", "receipts", "--format", "ndjson"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.read(1)  # the pipe is full, so it waits in the middle
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)

    assert process.returncode == exit_codes.INTERRUPTED
    assert b"Traceback" not in told


def test_progress_is_drawn_on_a_terminal_only(folder: Path) -> None:
    ours, theirs = pty.openpty()
    seen = bytearray()

    def read() -> None:
        try:
            while block := os.read(ours, 4096):
                seen.extend(block)
        except OSError:  # the last writer has gone
            return

    reader = threading.Thread(target=read)
    reader.start()
    done = subprocess.run(
        [sys.executable, "-m", "receiptd", "export", "receipts", "-o", "a.csv"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
        check=False,
    )
    os.close(theirs)
    reader.join(30)
    os.close(ours)

    assert (done.returncode, done.stdout) == (exit_codes.OK, b"2 rows in a.csv\n")
    assert b"exporting" in seen
