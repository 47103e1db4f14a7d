"""Secrets from files and from credentials: read, checked, never shown."""

import os
from pathlib import Path

import pytest

from receiptd.config import Settings
from receiptd.config.loading import load
from receiptd.errors import ConfigError
from tests.canaries import CANARY_SECRET, assert_holds_no_canary


def configure(folder: Path, line: str = "", environ: dict[str, str] | None = None) -> Settings:
    """Load a configuration with one account and one more line in it."""
    file = folder / "config.toml"
    file.write_text(f'[accounts.main]\nprovider = "aliyun"\n{line}\n')
    return load(file, environ or {})


def secret_file(folder: Path, content: str | bytes = CANARY_SECRET, mode: int = 0o600) -> Path:
    file = folder / "secret"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(mode)
    return file


def refusal(folder: Path, line: str = "", environ: dict[str, str] | None = None) -> str:
    """Return the text of the ConfigError, which must not hold the secret."""
    with pytest.raises(ConfigError) as caught:
        configure(folder, line, environ)
    assert_holds_no_canary(str(caught.value))
    return str(caught.value)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_secret_comes_from_a_file_without_its_last_newline(tmp_path: Path, end: str) -> None:
    file = secret_file(tmp_path, CANARY_SECRET + end)

    settings = configure(tmp_path, f'access_key_secret_file = "{file}"')

    assert settings.accounts["main"].access_key_secret.get_secret_value() == CANARY_SECRET


def test_a_relative_path_begins_at_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret_file(tmp_path)
    monkeypatch.chdir("/")

    settings = configure(tmp_path, 'access_key_secret_file = "secret"')

    assert settings.accounts["main"].access_key_secret.get_secret_value() == CANARY_SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o666])
def test_a_file_that_others_may_read_is_refused_with_the_cure(tmp_path: Path, mode: int) -> None:
    file = secret_file(tmp_path, mode=mode)

    text = refusal(tmp_path, f'access_key_secret_file = "{file}"')

    assert f"mode {mode:04o}" in text
    assert f"chmod 600 {file}" in text


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        (b"\xff\xfe", "is not text"),
        ("a" * 70_000, "is too large"),
        (f"{CANARY_SECRET} {CANARY_SECRET}", "no access key has"),
        (f"{CANARY_SECRET}\n{CANARY_SECRET}\n", "no access key has"),
        (f"{CANARY_SECRET}\x1b", "no access key has"),
        (f"{CANARY_SECRET}\u00a0", "no access key has"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(
    tmp_path: Path, content: str | bytes, rule: str
) -> None:
    file = secret_file(tmp_path, content)

    assert rule in refusal(tmp_path, f'access_key_secret_file = "{file}"')


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)

    missing = refusal(tmp_path, 'access_key_secret_file = "missing"')

    assert "accounts.main.access_key_secret_file: cannot be read: No such file" in missing
    assert str(tmp_path / "missing") in missing
    assert "is not a file" in refusal(tmp_path, 'access_key_secret_file = "."')
    assert "is not a file" in refusal(tmp_path, 'access_key_secret_file = "pipe"')


def test_a_secret_in_two_places_is_refused(tmp_path: Path) -> None:
    file = secret_file(tmp_path)
    line = f'access_key_secret = "{CANARY_SECRET}"\naccess_key_secret_file = "{file}"'

    text = refusal(tmp_path, line)

    assert "accounts.main.access_key_secret: is given more than once" in text


@pytest.mark.parametrize(
    "line", [f'access_key_secret = "{CANARY_SECRET}"', 'access_key_secret_file = "secret"']
)
def test_a_credential_and_another_place_are_one_too_many(tmp_path: Path, line: str) -> None:
    secret_file(tmp_path)
    (tmp_path / "accounts.main.access_key_secret").write_text(CANARY_SECRET)

    text = refusal(tmp_path, line, {"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert "a credential" in text


def test_a_credential_is_used_whatever_its_mode(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name in ("accounts.main.access_key_secret", "http.token", "database.url", "unrelated"):
        (credentials / name).write_text(f"{CANARY_SECRET}\n")
        (credentials / name).chmod(0o444)

    settings = configure(tmp_path, environ={"CREDENTIALS_DIRECTORY": str(credentials)})

    assert settings.accounts["main"].access_key_secret.get_secret_value() == CANARY_SECRET
    assert settings.http.token.get_secret_value() == CANARY_SECRET
    assert settings.database.url.get_secret_value() == CANARY_SECRET


def test_a_file_within_the_credentials_directory_is_used_whatever_its_mode(tmp_path: Path) -> None:
    file = secret_file(tmp_path, mode=0o444)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    settings = configure(tmp_path, f'access_key_secret_file = "{file}"', environ)

    assert settings.accounts["main"].access_key_secret.get_secret_value() == CANARY_SECRET


def test_an_unreadable_credentials_directory_is_no_credential(tmp_path: Path) -> None:
    settings = configure(tmp_path, environ={"CREDENTIALS_DIRECTORY": str(tmp_path / "none")})

    assert settings.accounts["main"].access_key_secret.get_secret_value() == ""


@pytest.mark.parametrize("key", ["access_key_id", "access_key_secret", "app_secret", "app_key"])
def test_the_newline_that_echo_leaves_is_no_part_of_a_key(tmp_path: Path, key: str) -> None:
    settings = configure(tmp_path, f'{key} = "abc\\n"')

    value = getattr(settings.accounts["main"], key)
    assert (value if isinstance(value, str) else value.get_secret_value()) == "abc"


def test_every_secret_can_come_from_a_file(tmp_path: Path) -> None:
    secret_file(tmp_path)
    lines = """app_secret_file = "secret"
        [database]
        url_file = "secret"
        [http]
        token_file = "secret"
        [notify.app]
        url = "https://app.example"
        secret_file = "secret"
    """

    settings = configure(tmp_path, lines)

    for secret in (
        settings.accounts["main"].app_secret,
        settings.database.url,
        settings.http.token,
        settings.notify["app"].secret,
    ):
        assert secret.get_secret_value() == CANARY_SECRET
