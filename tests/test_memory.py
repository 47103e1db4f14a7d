"""What is kept for good is looked at no more; what is free goes back."""

import ctypes
import gc

from receiptd import memory


def test_what_the_start_has_made_is_in_no_later_collection():
    kept = [object() for _ in range(100)]
    try:
        memory.keep_for_good()

        assert gc.get_freeze_count() > 1000
        assert not any(one is kept for one in gc.get_objects())
    finally:
        gc.unfreeze()


def test_what_is_free_in_the_middle_of_the_heap_goes_back():
    blocks = [ctypes.create_string_buffer(50_000) for _ in range(400)]
    last = blocks[-1]  # what is behind it cannot be cut off
    blocks.clear()

    assert memory.give_back()
    assert last


def test_a_c_library_without_such_a_call_is_no_fault(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())

    assert memory.give_back() is False
