"""Access keys that do not expire."""

from receiptd.model import Credentials


class StaticCredentials:
    """An access key that does not expire: for a queue of one's own."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def current(self) -> Credentials:
        """Return the key; never blocks, never raises."""
        return self._credentials

    def refused(self, used: Credentials) -> bool:
        """Return False: there is no fresher key to try."""
        return False

    def cancel(self) -> None:
        """Do nothing: nothing ever runs."""
