"""The configuration: its shape (`settings`), and how it is found, overlaid and checked
(`loading`)."""

from receiptd.config.settings import (
    AccountSettings,
    DatabaseSettings,
    HttpSettings,
    LogSettings,
    NotifySettings,
    ReconcileSettings,
    RetentionSettings,
    Settings,
    SourceSettings,
)

__all__ = [
    "AccountSettings",
    "DatabaseSettings",
    "HttpSettings",
    "LogSettings",
    "NotifySettings",
    "ReconcileSettings",
    "RetentionSettings",
    "Settings",
    "SourceSettings",
]
