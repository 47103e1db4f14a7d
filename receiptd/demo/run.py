"""The course of the demonstration: send, receive, kill, restart, account for every send."""

import contextlib
import tempfile
import time
from pathlib import Path

from rich.console import Console
from sqlalchemy import Engine, make_url

from receiptd import client
from receiptd.clock import SystemClock
from receiptd.config.loading import load
from receiptd.demo import account as accounts
from receiptd.demo import show
from receiptd.demo.child import Daemon
from receiptd.demo.sending import ACCOUNTS, LOST, Sending
from receiptd.ledger import Ledger
from receiptd.model import OPEN, Origin
from receiptd.phone import mask
from receiptd.sandbox import AckEvent, Sandbox, Scenario
from receiptd.sandbox.configuration import config_toml
from receiptd.sending import Sender, open_sender
from receiptd.store import Store, dialects, following, open_store
from receiptd.store.merge import Key, key

# A tenth fails at the carrier, some receipts come twice or out of order, some bodies are garbage.
_SCENARIO = {
    "failed": 0.1,
    "delay_s": (0.2, 2.0),
    "duplicates": 0.05,
    "reordered": 0.2,
    "poison": 0.02,
    "poison_on_the_wire": True,
    "replies": 0.03,
    "jushita_envelope": True,
    "phones": dict.fromkeys(LOST.values(), "lost"),
}
# Asked about after seconds, where it would be minutes and days. No port is taken.
_CONFIGURATION = """
[reconcile]
enabled = true
first_after = "5s"
then_after = ["10s", "20s", "30s", "40s"]

[http]
listen = ""
"""
_QUERIES = {"SendSms": "QuerySendDetails", "jushita": "alibaba.aliqin.ta.sms.num.query"}
# Short, so that what the killed daemon held comes back within seconds instead of half a minute.
_VISIBILITY_S = 3.0
_GIVE_UP_S = 50.0
_LOOK_S = 0.1
_ATTEMPTS = 5  # of a booking, should the daemon hold the database
_EXIT_OK = 0
_EXIT_NOT_TRUE = 1


def run(
    *,
    messages: int = 1000,
    seed: int = 1,
    keep: Path | None = None,
    database_url: str | None = None,
) -> int:
    """Run the demonstration on stdout; return 0 only if every send is accounted for.

    Stores into `database_url`, beside whatever is there, or into a SQLite file of its own. The
    configuration, that file and the daemon's log stay in `keep` if it is given.
    """
    console = Console(highlight=False)
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiptd-")))
        folder.mkdir(parents=True, exist_ok=True)
        url = database_url or f"sqlite:///{(folder / 'receiptd.db').resolve()}"
        return _Demonstration(console, folder, url, messages, seed).run()


class _Demonstration:
    def __init__(self, console: Console, folder: Path, url: str, messages: int, seed: int) -> None:
        self._console = console
        self._folder = folder
        self._messages = messages
        self._seed = seed
        self._url = make_url(url)
        self._since = accounts.Mark()
        self._found: set[Key] = set()

    def run(self) -> int:
        scenario = Scenario.model_validate(
            {**_SCENARIO, "seed": self._seed, "polyv_per_day": 2000 + self._messages}
        )
        with contextlib.ExitStack() as stack:
            sandbox = stack.enter_context(
                Sandbox(
                    scenario=scenario,
                    tokens_only=True,
                    visibility_s=_VISIBILITY_S,
                    invisible_s=_VISIBILITY_S,
                )
            )
            self._introduce(sandbox)
            store = open_store(self._url.render_as_string(hide_password=False), SystemClock())
            stack.callback(store.close)
            store.upgrade()
            engines = dialects.load(self._url.drivername).engines(self._url)
            stack.callback(engines.dispose)
            engine = engines.reader
            self._since = accounts.mark(engine)
            sending = Sending(self._senders(sandbox, store, stack), self._messages, self._seed)
            daemon = Daemon(self._folder)
            stack.callback(daemon.end)
            daemon.start()
            witness = accounts.Witness(engine, self._since)
            sandbox.on_ack = lambda event: witness.check(event.message_id)
            stack.callback(sending.stopping.set)
            sending.start()
            self._follow(sandbox, daemon, sending, engine, store)
            code, took_s = daemon.stop()
            self._say(f"SIGTERM: the daemon left after {took_s:.2f} s, exit code {code}")
            return self._close(sandbox, sending, engine, witness)

    def _senders(
        self, sandbox: Sandbox, store: Store, stack: contextlib.ExitStack
    ) -> dict[str, Sender]:
        """Write the configuration, and return a sender for each send API."""
        config = self._folder / "config.toml"
        config.touch(mode=0o600)
        url = self._url.render_as_string(hide_password=False)
        text = config_toml(sandbox.url, database_url=url, with_polyv=True) + _CONFIGURATION
        config.write_text(text, encoding="utf-8")
        settings = load(config, {})
        clock = SystemClock()
        ledger = Ledger(
            store,
            client.accounts(settings),
            clock,
            attempts=_ATTEMPTS,
            ask_after=settings.reconcile.first_after,
        )
        senders = {
            api: open_sender(settings, account, ledger, clock, api)
            for api, account in ACCOUNTS.items()
        }
        for sender in senders.values():
            stack.callback(sender.close)
        return senders

    def _introduce(self, sandbox: Sandbox) -> None:
        kind = self._url.get_backend_name()
        self._say(
            f"A sandbox at {sandbox.url} speaks MNS, RocketMQ over HTTP and the send and query APIs"
            " of Aliyun, Polyv and Jushita.\n"
            f"{self._messages} SMS are sent; `receiptd run` is a process of its own on {kind},"
            " and is killed with -9 half way. Two receipts are lost on purpose."
        )

    def _follow(
        self, sandbox: Sandbox, daemon: Daemon, sending: Sending, engine: Engine, store: Store
    ) -> None:
        """Show progress until all has come in; kill and restart the daemon half way."""
        began_at = time.monotonic()
        killed = False
        with show.view(self._console, self._messages) as view:
            while time.monotonic() - began_at < _GIVE_UP_S:
                in_rows = accounts.landed(engine, self._since)
                view.update(sent=sending.count, landed=in_rows, acked=len(sandbox.acked))
                if sending.error is not None:
                    raise sending.error
                if daemon.died() is not None:
                    raise RuntimeError(f"the daemon has died, see {daemon.log}")
                if not killed and in_rows >= self._messages // 2:
                    view.say(f"kill -9 {daemon.kill()}, then a new start")
                    daemon.start()
                    killed = True
                self._tell_found(sending, store, view)
                if killed and not sending.is_alive() and _all_in(sandbox, sending, in_rows):
                    return
                sending.stopping.wait(_LOOK_S)

    def _tell_found(self, sending: Sending, store: Store, view: show.View) -> None:
        """Show a line for each lost receipt that a query has just found."""
        apis = {key(row): result.api for result, row in sending.lost}
        wanted = apis.keys() - self._found
        if not wanted:
            return
        with store.reading() as connection:
            rows = following.find(connection, wanted)
        for one, row in rows.items():
            if row.status in OPEN or row.origin is not Origin.QUERY or row.submitted_at is None:
                continue
            self._found.add(one)
            after_s = (row.updated_at - row.submitted_at).total_seconds()
            view.say(
                f"the receipt of {mask(one[1])} never came; found by {_QUERIES[apis[one]]} "
                f"after {after_s:.0f} s: {row.status}"
            )

    def _close(
        self, sandbox: Sandbox, sending: Sending, engine: Engine, witness: accounts.Witness
    ) -> int:
        replies = {event.message_id for event in sandbox.acked if _is_reply(sandbox, event)}
        account = accounts.close(
            engine,
            sending.account_for(sandbox.truth()),
            self._since,
            poison=int(str(sandbox.state["poison"])),
            replies=len(replies) + sandbox.depth(sandbox.queue("SmsUp")),
            early_acks=len(witness.early),
            left_on_broker=_left(sandbox),
        )
        self._console.print(show.closing_table(account))
        for line in show.closing_lines(account):
            self._say(line)
        if account.is_true:
            self._say("Every send is accounted for.")
            return _EXIT_OK
        self._say("NOT every send is accounted for.")
        return _EXIT_NOT_TRUE

    def _say(self, text: str) -> None:
        self._console.print(text)


def _all_in(sandbox: Sandbox, sending: Sending, in_rows: int) -> bool:
    return in_rows >= sending.count and not _left(sandbox)


def _left(sandbox: Sandbox) -> int:
    """Return how many envelopes the broker still holds, replies included."""
    queues = [sandbox.queue("SmsReport"), sandbox.queue("SmsUp"), sandbox.topic]
    return sum(sandbox.depth(name) for name in queues)


def _is_reply(sandbox: Sandbox, event: AckEvent) -> bool:
    return event.queue == sandbox.queue("SmsUp")
