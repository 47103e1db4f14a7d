"""What the process keeps for good, and what it gives back: so that its size says something."""

import ctypes
import gc
import os
import sys
from collections.abc import Mapping
from contextlib import suppress

# The C library's free pieces were up to 2 MB after some minutes, and their sum crept by 2 MB an
# hour; CPython's lists of freed objects (2,000 tuples of each length up to 20) crept as much while
# they filled, because a collection of all ages, which empties them, almost never came by itself.
# Both together take a millisecond or two at a thousand receipts a second, less when idle. Once a
# minute is too seldom: under faults 2 MB come together until then.
GIVE_BACK_EVERY_S = 10.0
# glibc's tunables, which it reads once, when a process begins. mallopt(3) knows no switch for the
# last.
#   arena_max: each of eight heaps a core would keep free pieces of its own.
#   mmap_threshold: where a large piece was freed once (an answer of 5 MiB), later ones would come
#     from a heap and split it. With more heaps, too, a million receipts with faults on 15 threads
#     left 50 MB of free pieces; with these two 6.
#   tcache_count: each thread would keep seven free pieces of every size up to 1 KiB. Faults bring
#     sizes that it has not met yet, so this goes on: over a million receipts with faults on 15
#     threads, 5.5 MB an hour more with it, none without.
# No slower: the interpreter's lock keeps threads from asking at the same time anyway.
_TUNABLES = {
    "glibc.malloc.arena_max": "1",
    "glibc.malloc.mmap_threshold": str(128 * 1024),
    "glibc.malloc.tcache_count": "0",
}
_VARIABLE = "GLIBC_TUNABLES"
_TRIED = "_RECEIPTD_HEAP"  # where a tunable is not taken (file capabilities), once is enough


def heap_environment(environ: Mapping[str, str]) -> dict[str, str] | None:
    """Return the environment with which a process has one heap of the C library for all its
    threads; None if `environ` is one, or the library is not glibc. What it sets itself is left."""
    given = [one for one in environ.get(_VARIABLE, "").split(":") if one]
    names = {one.partition("=")[0] for one in given}
    ours = [f"{name}={value}" for name, value in _TUNABLES.items() if name not in names]
    if not ours or _TRIED in environ or not _is_glibc():
        return None
    return {**environ, _VARIABLE: ":".join([*given, *ours]), _TRIED: "1"}


def settle_heap() -> None:
    """Begin the program again, as the same process, in `heap_environment`; return if there is
    nothing to set, or it cannot be done. Call it before anything is open: it takes 40 ms then."""
    environment = heap_environment(os.environ)
    if environment is None or not sys.executable:
        return
    with suppress(OSError):  # more memory, and no harm
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def keep_for_good() -> None:
    """Leave what is there by now out of all later collections of garbage.

    A full one comes when a quarter more has been kept than the last one left, and until then
    garbage in cycles grows: with the 150,000 objects of the start in that sum, for a long time. So
    there is one after the freeze, too, which leaves nothing.
    """
    gc.collect()
    gc.freeze()
    gc.collect()


def give_back() -> bool:
    """Return CPython's and the C library's free memory to the system; tell whether there was any,
    as far as the library can (glibc)."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library has nothing like it, nor needs it
        return bool(ctypes.CDLL(None).malloc_trim(0))
    return False


def _is_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, OSError, ValueError):
        return False
