"""The shape of the configuration: one frozen model per table, each key with its default.

Checks shapes, not kinds: whether a puller or provider exists is known where it is built
(daemon.py). Every secret `x` has a sibling `x_file`; `secrets.py` reads it.
"""

import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
)

from receiptd.config.durations import FOREVER, Duration, DurationOrForever

_TOKEN_LEAST = 16  # characters
_ACCESS_KEY = re.compile(r"[A-Za-z0-9._-]*")


def _without_newline(value: object) -> object:
    # Files and `echo` leave a newline behind, and a key with one signs wrongly without any error.
    return value.rstrip("\r\n") if isinstance(value, str) else value


def _no_bool(value: object) -> object:
    # Lax pydantic would read `threads = true` as 1 and 2.0 as 2.
    if isinstance(value, bool | float):
        raise ValueError("must be a whole number")
    return value


def _access_key(value: str) -> str:
    if not _ACCESS_KEY.fullmatch(value):
        raise ValueError("holds characters that no access key has (only A-Z a-z 0-9 . _ -)")
    return value


def _access_key_secret(value: SecretStr) -> SecretStr:
    _access_key(value.get_secret_value())
    return value


def _one_word(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isprintable() or any(character.isspace() for character in text):
        raise ValueError("holds whitespace or control characters")
    return value


def _address(value: str) -> str:
    if value:
        host, port = _host_and_port(value)
        if not host or not 0 <= port <= 65_535:
            raise ValueError("must be host:port, or nothing for no HTTP")
    return value


def _host_and_port(value: str) -> tuple[str, int]:
    """Return the parts of `127.0.0.1:8650` or `[::1]:8650`; nonsense as an impossible port."""
    host, _, port = value.rpartition(":")
    is_number = port.isascii() and port.isdigit() and len(port) <= 5
    bare = host.removeprefix("[").removesuffix("]")
    return bare, int(port) if is_number and (":" in bare) == host.startswith("[") else -1


def _token(value: SecretStr, info: ValidationInfo) -> SecretStr:
    token = value.get_secret_value()
    host = _host_and_port(info.data.get("listen", ""))[0]
    if not token and host and not _is_loopback(host):
        raise ValueError(
            f"is required, because {host} can be reached from other machines:"
            " openssl rand -hex 16 > token, chmod 600 token, and token_file"
        )
    if token and len(token) < _TOKEN_LEAST:
        raise ValueError(f"must have at least {_TOKEN_LEAST} characters: openssl rand -hex 16")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
Whole = Annotated[int, BeforeValidator(_no_bool)]
KeyId = Annotated[str, BeforeValidator(_without_newline), AfterValidator(_access_key)]
KeySecret = Annotated[
    SecretStr, BeforeValidator(_without_newline), AfterValidator(_access_key_secret)
]
Secret = Annotated[SecretStr, BeforeValidator(_without_newline), AfterValidator(_one_word)]


class Table(BaseModel):
    """A TOML table: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DatabaseSettings(Table):
    url: Secret = SecretStr("sqlite:///receiptd.db")  # secret: it can hold a password
    url_file: str = ""
    upgrade_on_start: bool | None = None  # None: SQLite yes, servers no


class AccountSettings(Table):
    """Who we are to a provider. Which keys a provider needs, the provider says."""

    provider: str
    access_key_id: KeyId = ""
    access_key_secret: KeySecret = SecretStr("")
    access_key_secret_file: str = ""
    app_key: KeyId = ""
    app_secret: Secret = SecretStr("")
    app_secret_file: str = ""
    app_id: str = ""
    receipts_account: str = ""
    region: str = "cn-hangzhou"
    endpoints: dict[str, str] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)  # for third-party providers


class SourceSettings(Table):
    """One queue or topic. Which keys a puller needs, the puller says."""

    puller: str
    account: str
    message_type: str = ""
    credentials: Literal["token", "access_key"] = "access_key"
    queue: str = ""
    endpoint: str = ""
    instance_id: str = ""
    topic: str = ""
    group: str = ""
    tag: str = ""
    push_secret: Secret = SecretStr("")
    push_secret_file: str = ""
    threads: Annotated[Whole, Field(ge=1, le=256)] = 2
    batch_size: Annotated[Whole, Field(ge=1, le=16)] = 16
    wait_s: Annotated[Whole, Field(ge=0, le=30)] = 30
    pace_ms: Annotated[Whole, Field(ge=0, le=60_000)] = 5
    options: dict[str, Any] = Field(default_factory=dict)  # for third-party pullers


class ReconcileSettings(Table):
    enabled: bool = True
    first_after: Duration = timedelta(minutes=15)
    then_after: tuple[Duration, ...] = (
        timedelta(hours=1),
        timedelta(hours=6),
        timedelta(hours=24),
        timedelta(hours=72),
        timedelta(days=7),
        timedelta(days=14),
        timedelta(days=28),
    )
    max_per_second: Annotated[Whole, Field(ge=1, le=1000)] = 20
    window_days: Annotated[Whole, Field(ge=1, le=30)] = 30  # what QuerySendDetails remembers


class RetentionSettings(Table):
    journal: DurationOrForever = timedelta(days=90)
    receipts: DurationOrForever = Field(default=None, json_schema_extra={"default": FOREVER})


class HttpSettings(Table):
    listen: Annotated[str, AfterValidator(_address)] = "127.0.0.1:8650"
    # Looked at even where it is not given: some addresses need one.
    token: Annotated[Secret, Field(validate_default=True), AfterValidator(_token)] = SecretStr("")
    token_file: str = ""

    @property
    def host(self) -> str:
        """The address to listen on, without brackets; "" for none."""
        return _host_and_port(self.listen)[0]

    @property
    def port(self) -> int:
        return _host_and_port(self.listen)[1]


class NotifySettings(Table):
    url: str
    secret: Secret = SecretStr("")
    secret_file: str = ""


class LogSettings(Table):
    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Table):
    """The whole configuration."""

    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    accounts: dict[Name, AccountSettings] = Field(default_factory=dict)
    sources: dict[Name, SourceSettings] = Field(default_factory=dict)
    reconcile: ReconcileSettings = Field(default_factory=ReconcileSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    notify: dict[Name, NotifySettings] = Field(default_factory=dict)

    @property
    def unused(self) -> list[str]:
        """The tables that have no effect yet, as they are named in the file."""
        return [f"notify.{name}" for name in self.notify]


def table_model(model: type[Table], key: str) -> type[Table] | None:
    """Return the model of the table under `key` of `model`, for a table of tables that of each
    entry; None if the key holds no table."""
    field = model.model_fields.get(key)
    if field is None:
        return None
    kinds = (field.annotation, *getattr(field.annotation, "__args__", ()))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Table)), None)


def is_table_of_tables(model: type[Table], key: str) -> bool:
    """Return whether `key` of `model` holds named tables, like `accounts`."""
    return getattr(model.model_fields[key].annotation, "__origin__", None) is dict


def secret_keys(model: type[Table]) -> list[str]:
    """Return the keys of `model` that hold a secret."""
    return [key for key, field in model.model_fields.items() if field.annotation is SecretStr]
