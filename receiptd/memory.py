"""What the process keeps for good, and what it gives back: so that its size says something."""

import ctypes
import gc
from contextlib import suppress

# The allocator's free pieces were up to 2 MB after some minutes, and their sum crept by 2 MB an
# hour; looking for them takes some milliseconds.
GIVE_BACK_EVERY_S = 60.0


def keep_for_good() -> None:
    """Leave what is there by now out of all later collections of garbage.

    A full one comes when a quarter more has been kept than there was, and until then garbage in
    cycles grows: with the 150,000 objects of the start in that sum, for a long time.
    """
    gc.collect()
    gc.freeze()


def give_back() -> bool:
    """Return the C library's free memory to the system; tell whether there was any, as far as the
    library can (glibc)."""
    with suppress(OSError, AttributeError):  # another C library has nothing like it, nor needs it
        return bool(ctypes.CDLL(None).malloc_trim(0))
    return False
