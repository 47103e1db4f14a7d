"""HTTP as the daemon sees it: opened before all else, stopped beside the workers, and none of its
troubles are the daemon's."""

from collections.abc import Mapping, Sequence

from receiptd.clock import Clock
from receiptd.config import Settings
from receiptd.gate import Gate
from receiptd.ledger import Books, Ledger
from receiptd.metrics import Metrics
from receiptd.pullers.push import Inbox
from receiptd.pulse import Pulse
from receiptd.store import Store
from receiptd.web.access import Access
from receiptd.web.health import Health, SourceView
from receiptd.web.work import Pool


class Http:
    """One daemon's HTTP."""

    def __init__(
        self,
        *,
        settings: Settings,
        accounts: Mapping[str, Books],
        store: Store,
        metrics: Metrics,
        inboxes: Mapping[str, Inbox],
        store_gate: Gate,
        pulses: Sequence[Pulse],
        clock: Clock,
    ) -> None:
        """Take the port; `pulses` may grow. Raises ConfigError if it cannot be had."""
        # Imported here: 5 MB that a daemon without HTTP never needs.
        from receiptd.web import server
        from receiptd.web.app import application
        from receiptd.web.parts import Parts

        http = settings.http
        taken = server.listen(http.host, http.port)
        self._metrics = metrics
        self._pool = Pool()
        self._health = Health(clock=clock, store_gate=store_gate, pulses=pulses)
        parts = Parts(
            settings=settings,
            store=store,
            ledger=Ledger(store, accounts, clock, ask_after=settings.reconcile.first_after),
            clock=clock,
            health=self._health,
            metrics=metrics,
            access=Access(http.token.get_secret_value(), http.host),
            pool=self._pool,
            inboxes=inboxes,
        )
        self._server = server.Server(application(parts), taken)
        self._server.start()

    @property
    def port(self) -> int:
        return self._server.port

    def serve(self, sources: Sequence[SourceView]) -> None:
        """The database is there and the workers run: from here on, all of it is served."""
        self._metrics.sources = sources
        self._health.sources = sources
        self._health.is_serving = True

    def begin_stop(self) -> None:
        """Take nothing more; what is being answered goes on. Returns at once."""
        self._health.is_stopping = True
        self._server.begin_stop()

    def wait_stopped(self) -> None:
        """Wait for the end, about a second at most: what then still hangs is left behind."""
        self._server.wait_stopped()
        self._pool.stop()
