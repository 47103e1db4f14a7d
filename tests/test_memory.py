"""What is kept for good is looked at no more; what is free goes back."""

import ctypes
import gc
import os
import re
import subprocess
import sys

import pytest

from receiptd import memory
from tests.glibc import only_glibc


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

def told():
    file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    return open(sys.argv[1]).read()

def pieces():
    return int(re.findall(r'<total type="mmap" count="(.*?)"', told())[0])

libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
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


_THREAD_CACHE = """
import ctypes, threading

class Info(ctypes.Structure):  # malloc.h's struct mallinfo2
    _fields_ = [(f"field_{number}", ctypes.c_size_t) for number in range(7)] + [
        ("in_use", ctypes.c_size_t), ("free", ctypes.c_size_t), ("top", ctypes.c_size_t)]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
freed, may_end = threading.Event(), threading.Event()

def work():
    for size in range(24, 1024, 16):
        for piece in [libc.malloc(size) for _ in range(7)]:
            libc.free(piece)
    freed.set()
    may_end.wait()

thread = threading.Thread(target=work)
before = libc.mallinfo2().in_use
thread.start()
freed.wait()
print(libc.mallinfo2().in_use - before > 100_000)
may_end.set()
"""


def _environment(how: str) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if "GLIBC" not in name}
    if how == "as it is":
        return bare
    environment = memory.heap_environment(bare)
    assert environment is not None
    return environment


def _run(program: str, *arguments: str, how: str) -> list[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, check=True, timeout=60, capture_output=True, text=True, env=_environment(how)
    ).stdout.split()


@only_glibc
@pytest.mark.parametrize(("how", "heaps", "own"), [("as it is", 5, 0), ("one", 1, 1)])
def test_all_threads_share_one_heap_and_a_large_piece_is_on_its_own(tmp_path, how, heaps, own):
    """Though a larger one was freed before: from then on glibc would take it from the heap."""
    assert _run(_HEAPS, str(tmp_path / "malloc.xml"), how=how) == [str(heaps), str(own)]


@only_glibc
@pytest.mark.parametrize(("how", "keeps"), [("as it is", "True"), ("one", "False")])
def test_a_thread_keeps_no_free_pieces_of_its_own(how, keeps):
    assert _run(_THREAD_CACHE, how=how) == [keeps]


@only_glibc
def test_what_the_environment_says_of_the_heap_is_left():
    given = "glibc.malloc.arena_max=4:glibc.malloc.check=3"

    environment = memory.heap_environment({"GLIBC_TUNABLES": given, "LANG": "C"})

    assert environment is not None
    assert environment["LANG"] == "C"
    assert environment["GLIBC_TUNABLES"].split(":") == [
        "glibc.malloc.arena_max=4",
        "glibc.malloc.check=3",
        "glibc.malloc.mmap_threshold=131072",
        "glibc.malloc.tcache_count=0",
    ]


@only_glibc
def test_a_program_begins_again_once_only():
    """Even where the tunables are taken out of the environment, as for file capabilities."""
    environment = memory.heap_environment({})
    assert environment is not None
    stripped = {name: value for name, value in environment.items() if name != "GLIBC_TUNABLES"}

    assert memory.heap_environment(environment) is None
    assert memory.heap_environment(stripped) is None


@only_glibc
@pytest.mark.parametrize(("command", "begins"), [("run", 2), ("check", 1)])
def test_of_all_commands_only_the_daemon_begins_again_and_with_the_same_options(command, begins):
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "receiptd", command, "--help"],
        check=True, timeout=60, capture_output=True, text=True, env=_environment("as it is"),
    )  # fmt: skip

    assert len(re.findall(r"\| site$", told.stderr, re.MULTILINE)) == begins
    assert told.stdout.count(f"receiptd {command}") >= 1


def test_a_c_library_without_such_calls_is_no_fault(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(os, "confstr", _no_such_name)

    assert memory.give_back() is False
    assert memory.heap_environment({}) is None


def _no_such_name(name: str) -> str:
    raise ValueError("unrecognized configuration name")
