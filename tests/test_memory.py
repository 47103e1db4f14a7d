"""What is kept for good is looked at no more; what is free goes back."""

import ctypes
import gc
import platform
import subprocess
import sys

import pytest

from receiptd import memory


def test_what_the_start_has_made_is_in_no_later_collection():
    kept = [object() for _ in range(100)]
    try:
        memory.keep_for_good()

        assert gc.get_freeze_count() > 1000
        assert not any(one is kept for one in gc.get_objects())
    finally:
        gc.unfreeze()


def test_garbage_in_cycles_does_not_wait_until_it_is_as_much_as_what_the_start_has_made():
    kept: list[list[object]] = [[] for _ in range(150_000)]
    full = gc.get_stats()[2]["collections"] + 3  # those of keep_for_good, and one more
    most = 0
    try:
        memory.keep_for_good()
        for number in range(200_000):
            cycle: list[object] = []
            cycle.append(cycle)
            kept[number % 100] = cycle  # some are old when they become garbage
            if number % 1_000 == 0:
                most = max(most, len(gc.get_objects()))
    finally:
        gc.unfreeze()

    assert gc.get_stats()[2]["collections"] >= full
    assert most < 10_000


def test_what_cpython_keeps_of_freed_objects_goes_back():
    tuples = [tuple([None] * length) for length in range(1, 20) for _ in range(2_000)]
    tuples.clear()
    before = sys.getallocatedblocks()

    memory.give_back()

    assert before - sys.getallocatedblocks() > 30_000


def test_what_is_free_in_the_middle_of_the_heap_goes_back():
    blocks = [ctypes.create_string_buffer(50_000) for _ in range(400)]
    last = blocks[-1]  # what is behind it cannot be cut off
    blocks.clear()

    assert memory.give_back()
    assert last


_HEAPS = """
import ctypes, re, sys, threading
from receiptd import memory

def told():
    file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    return open(sys.argv[2]).read()

def pieces():
    return int(re.findall(r'<total type="mmap" count="(.*?)"', told())[0])

libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
assert sys.argv[1] == "as it is" or memory.one_heap()
del (large := [ctypes.create_string_buffer(5 << 20)])[:]
before = pieces()
kept, all_have = [ctypes.create_string_buffer(1 << 20)], threading.Barrier(5)
own = pieces() - before

def work():
    kept.append(ctypes.create_string_buffer(50_000))
    all_have.wait()

threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
all_have.wait()
print(told().count("<heap nr="), own)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such heaps")
@pytest.mark.parametrize(("how", "heaps", "own"), [("as it is", 5, 0), ("one", 1, 1)])
def test_all_threads_share_one_heap_and_a_large_piece_is_on_its_own(tmp_path, how, heaps, own):
    """Though a larger one was freed before: from then on glibc would take it from the heap."""
    command = [sys.executable, "-c", _HEAPS, how, str(tmp_path / "malloc.xml")]
    told = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout

    assert told.split() == [str(heaps), str(own)]


def test_a_c_library_without_such_calls_is_no_fault(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())

    assert memory.give_back() is False
    assert memory.one_heap() is False
