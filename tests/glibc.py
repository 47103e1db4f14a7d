"""Tests of what only the GNU C library has."""

import platform

import pytest

only_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc",
    reason="another C library has neither such heaps nor tunables",
)
