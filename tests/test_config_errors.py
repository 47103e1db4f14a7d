"""What is said about a configuration that cannot be used: everything, at once, and no secret."""

from pathlib import Path

import pytest

from receiptd.config import loading
from receiptd.config.loading import load
from receiptd.errors import ConfigError, Problem
from tests.canaries import CANARY_KEY_ID, CANARY_SECRET, assert_holds_no_canary

GOOD = """
[accounts.main]
provider = "aliyun"
[sources.first]
puller = "mns"
account = "main"
queue = "Q"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    return tmp_path


def problems(folder: Path, text: str, environ: dict[str, str] | None = None) -> dict[str, Problem]:
    """Return what is wrong with a configuration, by place."""
    file = folder / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, environ or {})
    return {problem.place: problem for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("batch_size", "17", "must be at most 16"),
        ("batch_size", "0", "must be at least 1"),
        ("batch_size", "100", "must be at most 16"),
        ("wait_s", "31", "must be at most 30"),
        ("wait_s", "1.5", "must be a whole number"),
        ("threads", "true", "must be a whole number"),
        ("threads", "2.0", "must be a whole number"),
        ("threads", '"two"', "must be a whole number"),
        ("threads", "257", "must be at most 256"),
        ("pace_ms", "-1", "must be at least 0"),
        ("pace_ms", "[]", "must be a whole number"),
        ("tag", "5", "must be text"),
        ("credentials", '"password"', "must be one of 'token' or 'access_key'"),
        ("options", "5", "must be a table"),
    ],
)
def test_a_bad_value_is_refused_with_its_rule(
    folder: Path, key: str, value: str, rule: str
) -> None:
    found = problems(folder, GOOD + f"{key} = {value}\n")

    assert list(found) == [f"sources.first.{key}"]
    assert found[f"sources.first.{key}"].rule == rule


@pytest.mark.parametrize(
    ("text", "place", "cure"),
    [
        ("[databse]\n", "databse", "did you mean database?"),
        (GOOD + "thread = 2\n", "sources.first.thread", "did you mean threads?"),
        ('[log]\nlevle = "info"\n', "log.levle", "did you mean level?"),
        ("[log]\nzzz = 1\n", "log.zzz", "known here: format, level"),
        ('[accounts.main]\nprovider = "a"\n"odd key" = 1\n', 'accounts.main."odd key"', "known"),
    ],
)
def test_an_unknown_key_is_an_error_that_says_what_was_meant(
    folder: Path, text: str, place: str, cure: str
) -> None:
    found = problems(folder, text)

    assert list(found) == [place]
    assert found[place].rule == "unknown key"
    assert cure in found[place].cure


def test_an_unknown_variable_is_an_error(folder: Path) -> None:
    found = problems(folder, GOOD, {"RECEIPTD_DATABSE__URL": "x", "RECEIPTD_LOG__LEVLE": "x"})

    assert found["RECEIPTD_DATABSE__URL"].cure == "did you mean database?"
    assert found["log.levle"].cure == "did you mean level?"


def test_a_variable_that_is_no_list_is_refused_with_all_else_that_is_wrong(folder: Path) -> None:
    found = problems(
        folder, "[log]\nlevel = 1\n", {"RECEIPTD_RECONCILE__THEN_AFTER": "1h", "RECEIPTD_X__Y": "1"}
    )

    assert set(found) == {"log.level", "reconcile.then_after", "RECEIPTD_X__Y"}
    assert found["reconcile.then_after"].rule == "must be a list"


def test_all_problems_are_told_at_once(folder: Path) -> None:
    found = problems(
        folder,
        """
        typo = 1
        [database]
        upgrade_on_start = 5
        [accounts.main]
        access_key_secret = "a b"
        access_key_secret_file = "/nowhere"
        [accounts.shop]
        provider = "jushita"
        app_secret_file = "/nowhere"
        [sources.first]
        puller = "mns"
        account = "mian"
        batch_size = 17
        [retention]
        journal = "90"
        """,
    )

    assert set(found) == {
        "typo",
        "database.upgrade_on_start",
        "accounts.main.provider",
        "accounts.main.access_key_secret",
        "accounts.shop.app_secret_file",
        "sources.first.account",
        "sources.first.batch_size",
        "retention.journal",
    }
    assert found["sources.first.account"].cure == "did you mean main?"
    assert found["retention.journal"].value == "'90'"


@pytest.mark.parametrize("name", ["Main", "a b", "ü", "a" * 65, "a.b", ""])
def test_names_are_short_and_plain(folder: Path, name: str) -> None:
    found = problems(folder, f'[accounts."{name}"]\nprovider = "aliyun"\n')

    assert [problem.rule for problem in found.values()] == [
        "a name has only a-z 0-9 _ - and at most 64 of them"
    ]


def test_two_sources_on_one_queue_are_refused(folder: Path) -> None:
    second = '[sources.second]\npuller = "mns"\naccount = "main"\nqueue = "Q"\n'

    found = problems(folder, GOOD + second)

    assert list(found) == ["sources.second"]
    assert "sources.first" in found["sources.second"].rule


def test_two_sources_are_on_one_queue_even_if_one_names_the_endpoint(folder: Path) -> None:
    text = GOOD.replace(
        'provider = "aliyun"', 'provider = "aliyun"\nendpoints = { mns = "https://a.example" }'
    )
    second = '[sources.second]\npuller = "mns"\naccount = "main"\nqueue = "Q"\n'

    assert list(problems(folder, text + second + 'endpoint = "https://A.example/"')) == [
        "sources.second"
    ]


def test_the_same_queue_name_at_another_endpoint_is_another_queue(folder: Path) -> None:
    (folder / "config.toml").write_text(
        GOOD + '[sources.second]\npuller = "mns"\naccount = "main"\nqueue = "Q"\n'
        'endpoint = "https://b.example"\n'
    )

    assert set(load(None, {}).sources) == {"first", "second"}


def test_a_receipts_account_must_exist(folder: Path) -> None:
    found = problems(folder, '[accounts.p]\nprovider = "polyv"\nreceipts_account = "main"\n')

    assert list(found) == ["accounts.p.receipts_account"]


@pytest.mark.parametrize(
    ("text", "line"), [("[log\n", 1), ("[log]\nlevel = \n", 2), ('a = 1\n\na = "x"\n', 3)]
)
def test_a_syntax_error_has_file_and_line(folder: Path, text: str, line: int) -> None:
    found = problems(folder, text)

    assert list(found) == [f"{folder / 'config.toml'}:{line}"]


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read: No such file"):
        load(folder / "missing.toml", {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(folder, {})


def test_a_file_that_is_not_text_is_refused(folder: Path) -> None:
    (folder / "config.toml").write_bytes(b"\xff\xfe[log]")

    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(None, {})


def test_no_error_shows_a_secret(folder: Path) -> None:
    found = problems(
        folder,
        f"""
        [database]
        url = "postgresql://u:{CANARY_SECRET}@ db"
        [accounts.main]
        provider = 5
        access_key_id = "{CANARY_KEY_ID} "
        access_key_secret = "{CANARY_SECRET} x"
        acces_key_secret = "{CANARY_SECRET}"
        app_secret = ["{CANARY_SECRET}"]
        endpoints = "https://u:{CANARY_SECRET}@mns.example"
        options = "{CANARY_SECRET}"
        [http]
        token = "{CANARY_SECRET} x"
        [notify.app]
        url = ["https://x/{CANARY_SECRET}"]
        secret = "{CANARY_SECRET}\\u0000"
        """,
    )

    assert len(found) == 11
    assert_holds_no_canary("\n".join(map(str, found.values())))
