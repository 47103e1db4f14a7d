"""`receiptd audit`: which days and accounts, what is printed, how it ends."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from receiptd.china import china_day
from receiptd.cli import exit_codes, main
from receiptd.sandbox import Fault, Scenario
from receiptd.sandbox.configuration import config_toml
from receiptd.store import audits
from tests.reconcile.world import World, sqlite, world

LOST, FINE = "13900000011", "13900000013"
AWAY = Fault(kind="status", status=503, operation="query_statistics")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A sandbox with its configuration, at one in the afternoon in China; the commands have its
    time."""
    with world(sqlite(tmp_path), Scenario(phones={LOST: "lost"}, lost_failed=0.0)) as one:
        seconds = one.clock.now().timestamp() + 8 * 3600
        one.clock.advance((13 * 3600 - seconds) % 86400)
        (tmp_path / "config.toml").write_text(
            config_toml(one.sandbox.url, database_url=sqlite(tmp_path), with_polyv=True)
        )
        (tmp_path / "config.toml").chmod(0o600)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("receiptd.clock.SystemClock", lambda: one.clock)
        yield one


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command; returns its code, and what it said on stdout and on stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["audit", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def day(there: World, ago: int = 0) -> str:
    return (china_day(there.clock.now()) - timedelta(days=ago)).isoformat()


def test_yesterday_is_shown_side_by_side_and_a_difference_is_no_failure(
    there: World, run: Any
) -> None:
    there.send([LOST])
    there.sandbox.send_sms([FINE])
    there.advance(days=1)

    code, out, err = run("--account", "main")

    assert (code, err) == (exit_codes.OK, "")
    assert out.splitlines() == [
        f"main {day(there, 1)}: differs",
        "                provider        held  difference",
        "  total                2           1          -1",
        "  delivered            2           0          -2",
        "  failed               0           0           0",
        "  pending              0           1          +1",
    ]


def test_json_has_every_day_and_account_and_what_was_made_due(there: World, run: Any) -> None:
    there.send([LOST])
    there.sandbox.send_sms([FINE])

    code, out, _ = run("--day", day(there), "--day", day(there, 3), "--json")

    assert code == exit_codes.OK
    told = json.loads(out)
    nothing = dict.fromkeys(("total", "delivered", "failed", "pending"), 0)
    empty = {"account": "main", "day": day(there, 3), "differs": False, "made_due": 0}
    empty |= {"provider": nothing, "held": nothing}
    today = {"account": "main", "day": day(there), "differs": True, "made_due": 1}
    today["provider"] = {"total": 2, "delivered": 2, "failed": 0, "pending": 0}
    today["held"] = {"total": 1, "delivered": 0, "failed": 0, "pending": 1}
    assert told["audits"] == [empty, today]
    assert told["errors"] == []
    with there.store.reading() as connection:
        stored = audits.latest(connection, china_day(there.clock.now()))
    assert [(one.account, one.differs) for one in stored] == [("main", True)]


def test_the_last_days_come_in_order_and_without_today(there: World, run: Any) -> None:
    _, out, _ = run("--days", "3", "--account", "main", "--json")

    days = [one["day"] for one in json.loads(out)["audits"]]
    assert days == [day(there, ago) for ago in (3, 2, 1)]


def test_accounts_without_counts_are_named_with_the_place_that_counts_for_them(
    there: World, run: Any
) -> None:
    code, out, _ = run()
    _, told, _ = run("--json")

    assert code == exit_codes.OK
    assert "shop: the provider jushita has no daily counts" in out.splitlines()
    assert (
        "live: the provider polyv has no daily counts; its sends count with those of main"
        in out.splitlines()
    )
    assert json.loads(told)["without_counts"] == ["live", "shop"]


def test_what_was_made_due_is_found_by_reconciliation_and_then_the_day_is_equal(
    there: World, run: Any
) -> None:
    there.send([LOST])
    there.advance(minutes=1)  # long before the plan would ask
    assert "differs; 1 open send is asked about at once" in run("--day", day(there))[1]

    there.reconcile()

    assert f"main {day(there)}: equal" in run("--day", day(there))[1]


@pytest.mark.parametrize("days", [1, 30])
def test_the_oldest_day_is_thirty_days_ago(there: World, run: Any, days: int) -> None:
    assert run("--day", day(there, days), "--account", "main")[0] == exit_codes.OK
    assert run("--days", str(days), "--account", "main")[0] == exit_codes.OK


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--days", "0"], "1 to 30"),
        (["--days", "31"], "1 to 30"),
        (["--days", "1", "--day", "2026-05-06"], "either this or --days"),
        (["--day", "20260506"], "a day as 2026-05-06"),
        (["--day", "yesterday"], "a day as 2026-05-06"),
        (["--day", "2024-05-06"], "more than 30 days ago"),
        (["--day", "2999-01-01"], "has not begun in China"),
    ],
)
def test_days_that_make_no_sense_are_usage(
    there: World, run: Any, words: list[str], said: str
) -> None:
    code, out, err = run(*words)

    assert (code, out) == (exit_codes.USAGE, "")
    assert said in " ".join(err.split())
    assert there.sandbox.request_counts["query_statistics"] == 0


def test_the_day_after_the_oldest_is_refused(there: World, run: Any) -> None:
    assert run("--day", day(there, 31))[0] == exit_codes.USAGE


def test_tomorrow_in_china_is_refused_though_it_may_be_today_elsewhere(
    there: World, run: Any
) -> None:
    assert run("--day", day(there, -1))[0] == exit_codes.USAGE


def test_a_provider_that_is_away_for_a_moment_is_waited_for(there: World, run: Any) -> None:
    there.sandbox.set_fault(AWAY.model_copy(update={"times": 2}))

    assert run("--account", "main")[0] == exit_codes.OK


def test_a_provider_that_is_away_is_told_and_the_other_accounts_are_audited(
    there: World, run: Any
) -> None:
    there.sandbox.set_fault(AWAY)

    code, out, err = run()

    assert code == exit_codes.UNAVAILABLE
    assert err.startswith("receiptd: main: ")
    assert "http 503" in err
    assert "shop: " in out
    code, out, _ = run("--json")
    assert code == exit_codes.UNAVAILABLE
    assert [one["account"] for one in json.loads(out)["errors"]] == ["main"]
    assert json.loads(out)["audits"] == []


def test_refused_credentials_have_a_code_of_their_own(there: World, run: Any) -> None:
    file = Path("config.toml")
    file.write_text(file.read_text().replace("testSK", "wrongSK"))

    code, out, err = run("--account", "main")

    assert code == exit_codes.CREDENTIALS_REFUSED
    assert out == ""
    assert "wrongSK" not in err


def test_an_account_that_is_not_there_is_named_with_those_that_are(there: World, run: Any) -> None:
    code, _, err = run("--account", "nobody")

    assert code == exit_codes.CONFIG
    assert "configured: live, main, shop" in err


def test_an_account_that_cannot_work_is_a_configuration_error(there: World, run: Any) -> None:
    file = Path("config.toml")
    file.write_text(file.read_text().replace('access_key_id = "testAK"', 'access_key_id = ""'))

    code, _, err = run("--account", "main")

    assert code == exit_codes.CONFIG
    assert "accounts.main.access_key_id" in err


def test_the_schema_is_not_made_on_the_way(
    there: World, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECEIPTD_DATABASE__URL", f"sqlite:///{tmp_path}/another.db")

    code, _, err = run("--account", "main")

    assert code == exit_codes.CONFIG
    assert "receiptd db upgrade" in err
