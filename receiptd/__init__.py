"""receiptd: SMS delivery receipts, turned into rows a company can trust."""

__version__ = "0.1.0"
