"""Where the configuration comes from, and what lies on top of what."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from receiptd.config import Settings, durations, loading
from receiptd.config.loading import load
from receiptd.errors import ConfigError

DESIGN = Path(__file__).parent / "fixtures" / "config" / "design.toml"

MAIN = """
[accounts.main]
provider = "aliyun"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no system-wide file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    return tmp_path


def test_the_file_that_is_named_counts_before_the_variable_and_the_folder(folder: Path) -> None:
    for name, level in (("named", "debug"), ("variable", "warning"), ("config", "error")):
        (folder / f"{name}.toml").write_text(f'[log]\nlevel = "{level}"\n')
    environ = {"RECEIPTD_CONFIG": "variable.toml"}

    assert load(Path("named.toml"), environ).log.level == "debug"
    assert load(None, environ).log.level == "warning"
    assert load(None, {"RECEIPTD_CONFIG": ""}).log.level == "error"


def test_the_system_wide_file_counts_last(folder: Path) -> None:
    (folder / "etc").mkdir()
    (folder / "etc" / "config.toml").write_text('[log]\nlevel = "error"\n')

    assert load(None, {}).log.level == "error"


def test_without_a_configuration_it_says_where_it_looked() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"RECEIPTD_SERVICE_HOST": "10.0.0.1", "RECEIPTD_PORT_8650_TCP": "x"})

    text = str(caught.value)
    for place in ("--config", "$RECEIPTD_CONFIG", "./config.toml", "etc/config.toml"):
        assert place in text


def test_variables_alone_are_a_configuration() -> None:
    settings = load(
        None,
        {
            "RECEIPTD_DATABASE__URL": "sqlite:///elsewhere.db",
            "RECEIPTD_DATABASE__UPGRADE_ON_START": "false",
            "RECEIPTD_ACCOUNTS__MAIN__PROVIDER": "aliyun",
            "RECEIPTD_ACCOUNTS__MAIN__ACCESS_KEY_ID": "12345",
            "RECEIPTD_ACCOUNTS__MAIN__ENDPOINTS__MNS": "https://mns.example",
            "receiptd_sources__sms_report__puller": "mns",
            "RECEIPTD_SOURCES__SMS_REPORT__ACCOUNT": "main",
            "RECEIPTD_SOURCES__SMS_REPORT__THREADS": "4",
            "RECEIPTD_RECONCILE__THEN_AFTER": '["1h", "2d"]',
        },
    )

    assert settings.database.url.get_secret_value() == "sqlite:///elsewhere.db"
    assert settings.database.upgrade_on_start is False
    assert settings.accounts["main"].access_key_id == "12345"
    assert settings.accounts["main"].endpoints == {"mns": "https://mns.example"}
    assert settings.sources["sms_report"].threads == 4
    assert settings.reconcile.then_after == (timedelta(hours=1), timedelta(days=2))


def test_variables_lie_on_top_of_the_file(folder: Path) -> None:
    (folder / "config.toml").write_text(
        MAIN + 'access_key_id = "old"\nregion = "cn-shanghai"\n[log]\nlevel = "error"\n'
    )

    settings = load(None, {"RECEIPTD_ACCOUNTS__MAIN__ACCESS_KEY_ID": "new"})

    assert settings.accounts["main"].access_key_id == "new"
    assert settings.accounts["main"].region == "cn-shanghai"
    assert settings.log.level == "error"


def test_a_secret_variable_replaces_the_file_that_the_configuration_names(folder: Path) -> None:
    (folder / "config.toml").write_text(MAIN + 'access_key_secret_file = "/nowhere"\n')

    settings = load(None, {"RECEIPTD_ACCOUNTS__MAIN__ACCESS_KEY_SECRET": "fromVariable"})

    assert settings.accounts["main"].access_key_secret.get_secret_value() == "fromVariable"


def test_the_example_of_the_design_loads() -> None:
    settings = load(DESIGN, {})

    assert settings.sources["sms_report"].credentials == "token"
    assert settings.accounts["main"].endpoints["dysms"] == "https://dysmsapi.aliyuncs.com"
    assert settings.reconcile == Settings().reconcile
    assert settings.retention.journal == timedelta(days=90)
    assert settings.retention.receipts is None
    assert settings.notify["app"].url == "https://app.internal/sms/receipts"


def test_a_configuration_with_a_byte_order_mark_loads(folder: Path) -> None:
    (folder / "config.toml").write_bytes(b'\xef\xbb\xbf[log]\nlevel = "error"\n')

    assert load(None, {}).log.level == "error"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("15m", timedelta(minutes=15)),
        ("72h", timedelta(hours=72)),
        ("30d", timedelta(days=30)),
        ("45s", timedelta(seconds=45)),
        ("forever", None),
    ],
)
def test_durations_are_read_as_people_write_them(written: str, meant: timedelta | None) -> None:
    assert durations.parse_or_forever(written) == meant


@pytest.mark.parametrize(
    "written", ["", "15", "m", "1.5h", "-1h", "1 h", "1w", "0s", "１h", 15, True]
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        durations.parse(written)


@pytest.mark.parametrize("written", ["15m", "72h", "90d", "45s", "forever"])
def test_durations_are_written_as_they_are_read(written: str) -> None:
    again = durations.text(durations.parse_or_forever(written))

    assert durations.parse_or_forever(again) == durations.parse_or_forever(written)


def test_the_schema_has_defaults_as_one_writes_them() -> None:
    tables = loading.json_schema()["$defs"]

    assert tables["ReconcileSettings"]["properties"]["first_after"]["default"] == "15m"
    assert tables["ReconcileSettings"]["properties"]["then_after"]["default"][-1] == "28d"
    assert tables["RetentionSettings"]["properties"]["receipts"]["default"] == "forever"
    assert tables["DatabaseSettings"]["properties"]["url"]["default"] == "sqlite:///receiptd.db"
    assert tables["SourceSettings"]["additionalProperties"] is False
    json.dumps(loading.json_schema())


def test_secrets_stay_out_of_what_is_printed_of_the_settings() -> None:
    settings = load(
        None,
        {
            "RECEIPTD_ACCOUNTS__MAIN__PROVIDER": "aliyun",
            "RECEIPTD_ACCOUNTS__MAIN__ACCESS_KEY_SECRET": "veryMuchSecret",
            "RECEIPTD_DATABASE__URL": "postgresql+psycopg://me:veryMuchSecret@db/receiptd",
        },
    )

    assert "veryMuchSecret" not in repr(settings)
