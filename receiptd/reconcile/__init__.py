"""Asking the providers for what never came, and saying what can no longer be known."""
