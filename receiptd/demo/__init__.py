"""The main job, shown on real protocols, without an account, and with a kill -9 in the middle."""

from receiptd.demo.run import run

__all__ = ["run"]
