"""The configuration: its shape (`settings`), and how it is found, overlaid and checked
(`loading`)."""

from receiptd.config.settings import (
    AccountSettings,
    DatabaseSettings,
    LogSettings,
    Settings,
    SourceSettings,
)

__all__ = ["AccountSettings", "DatabaseSettings", "LogSettings", "Settings", "SourceSettings"]
