"""The suites of `receiptd.testing` as a third party runs them: copied from the page, with receiptd
and pytest, and nothing else of ours."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin_page import install


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the page's tests in a process of their own."""
    root = Path(__file__).parent.parent
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp", *arguments]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}:{root}"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def in_memory() -> Path | None:
    """Return where thousands of small files cost least: what is shown here is no power cut."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


@pytest.fixture
def package() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        install(Path(folder))
        yield Path(folder)


def test_what_the_page_shows_passes_its_suites(package: Path) -> None:
    done = run(package, "test_tencent.py", "test_spool.py")

    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 50
