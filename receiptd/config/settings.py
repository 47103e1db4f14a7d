"""The shape of the configuration: one frozen model per table, each key with its default.

Checks shapes, not kinds: whether a puller or provider exists is known where it is built
(daemon.py).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class Table(BaseModel):
    """A TOML table: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(Table):
    url: SecretStr = SecretStr("sqlite:///receiptd.db")
    upgrade_on_start: bool | None = None  # None: SQLite yes, servers no


class AccountSettings(Table):
    """Who we are to a provider. Which keys a provider needs, the provider says."""

    provider: str
    access_key_id: str = ""
    access_key_secret: SecretStr = SecretStr("")
    app_key: str = ""
    app_secret: SecretStr = SecretStr("")
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
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    batch_size: Annotated[int, Field(ge=1, le=16)] = 16
    wait_s: Annotated[int, Field(ge=0, le=30)] = 30
    pace_ms: Annotated[int, Field(ge=0, le=60_000)] = 5
    options: dict[str, Any] = Field(default_factory=dict)  # for third-party pullers


class LogSettings(Table):
    format: Literal["auto", "console", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Table):
    """The whole configuration."""

    database: DatabaseSettings = DatabaseSettings()
    accounts: dict[str, AccountSettings] = Field(default_factory=dict)
    sources: dict[str, SourceSettings] = Field(default_factory=dict)
    log: LogSettings = LogSettings()
