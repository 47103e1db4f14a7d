"""What the process keeps for good, and what it gives back: so that its size says something."""

import ctypes
import gc
from contextlib import suppress

# The C library's free pieces were up to 2 MB after some minutes, and their sum crept by 2 MB an
# hour; CPython's lists of freed objects (2,000 tuples of each length up to 20) crept as much while
# they filled, because a collection of all ages, which empties them, almost never came by itself.
# Both together take a millisecond or two at a thousand receipts a second, less when idle. Once a
# minute is too seldom: under faults 2 MB come together until then.
GIVE_BACK_EVERY_S = 10.0
# glibc's malloc.h
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LARGE = 128 * 1024


def one_heap() -> bool:
    """Have threads share one heap of the C library; call it before there are any. Tell whether the
    library can (glibc).

    Each of eight heaps a core keeps free pieces of its own, and where a large piece was freed once
    (an answer of 5 MiB), later ones come from a heap and split it, too. Measured over a million
    receipts with faults on 15 threads: 50 MB of free pieces against 6, and no slower, because the
    interpreter's lock keeps threads from asking at the same time anyway.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_M_ARENA_MAX, 1) and mallopt(_M_MMAP_THRESHOLD, _LARGE))
    return False


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
