"""What the machine says of a process, and on which core it runs. Linux's /proc; elsewhere the
benchmark refuses to start rather than to guess."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from receiptd import __version__


class Cores(msgspec.Struct, frozen=True):
    """Where the client and the broker run, each on a core of its own; None leaves a process to the
    scheduler, because the machine has one core only."""

    client: int | None = None
    broker: int | None = None

    def __str__(self) -> str:
        if self.client is None:
            return "not pinned: the machine has one core, so ratios include the broker's share"
        return f"client on core {self.client}, broker on core {self.broker}"


def cores() -> Cores:
    """Return the two cores to use. Exits where there is no /proc to read."""
    if not sys.platform.startswith("linux"):
        raise SystemExit("the benchmark reads /proc: run it on Linux, in a container for instance")
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[1]) if len(allowed) > 1 else Cores()


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run this process, and what it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU, user and system, that a process and its threads have used; to a
    hundredth."""
    # Behind the name, which may hold anything: state is field 3, utime 14, stime 15 (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Return the megabytes (10^6) of memory that a process has resident now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6  # "kB" there is 1,024
    raise ProcessLookupError(pid)


def slow_sync(command: list[str], delay_us: int) -> list[str]:
    """Return the command that runs `command` with each fdatasync and fsync `delay_us` longer."""
    # --seccomp-bpf: only these two system calls stop for the tracer, all others run at full speed.
    return [
        *("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"),
        *("-e", "trace=fdatasync,fsync"),
        *("-e", f"inject=fdatasync,fsync:delay_exit={delay_us}"),
        *command,
    ]


def why_no_slow_sync() -> str:
    """Return why `slow_sync` cannot work here, "" if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    try:
        done = subprocess.run(
            slow_sync(["true"], 1), capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"strace does not run: {type(exc).__name__}"
    if done.returncode:
        return f"strace may not trace here: {done.stderr.strip()[:120]}"
    return ""


def describe() -> dict[str, str]:
    """Return what a reader must know of the machine to judge a table."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "receiptd": __version__,
        "cpu": model or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
