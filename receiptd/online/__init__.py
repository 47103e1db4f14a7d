"""`receiptd check --online`: every account and source for real, one step after another, without
taking, hiding or sending a message."""

from receiptd.online.asking import Source, check_online
from receiptd.online.steps import Branch, Fault, Outcome, Step

__all__ = ["Branch", "Fault", "Outcome", "Source", "Step", "check_online"]
