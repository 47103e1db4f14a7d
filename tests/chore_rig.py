"""What the tests of the daemon's chores share: a real SQLite file, and a clock that they drive."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from receiptd.clock import ManualClock
from receiptd.gate import Gate
from receiptd.pulse import Pulse
from receiptd.store import Store, open_store


class SlowClock(ManualClock):
    """A clock that tells who waits for how long, and does something at each wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.meanwhile()
        return super().wait(event, seconds)


class ChoreRig:
    """What a chore of one instance needs; several may share a file and a clock."""

    def __init__(self, path: Path, clock: SlowClock) -> None:
        self.path = path
        self.clock = clock
        self.store: Store = open_store(f"sqlite:///{path}", clock)
        self.store.upgrade()
        self.gate = Gate(clock, spread=lambda: 0.5)
        self.pulse = Pulse("chore", clock)
        self.stopping = threading.Event()


_Rig = TypeVar("_Rig", bound=ChoreRig)


@contextmanager
def opened(
    make_one: Callable[[Path, SlowClock, str], _Rig], folder: Path
) -> Iterator[Callable[..., _Rig]]:
    """Yield what makes a rig for an instance's name, all on one file and clock; close their stores
    in the end."""
    clock = SlowClock()
    made: list[_Rig] = []

    def make(name: str = "host:1") -> _Rig:
        made.append(make_one(folder / "receiptd.db", clock, name))
        return made[-1]

    yield make
    for rig in made:
        rig.store.close()


def said(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what was logged since last asked, without what is in every line."""
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    always = ("at", "thread")
    return [{key: value for key, value in line.items() if key not in always} for line in lines]
