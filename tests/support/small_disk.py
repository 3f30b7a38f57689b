"""A file system that is soon full."""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.waiting import eventually_sync


@contextmanager
def mounted_small_disk(folder: Path, *, size: str) -> Generator[None]:
    """Mount a file system of `size`, such as ``256k``, on `folder`; skips where it cannot be."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root on Linux")
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        # The last process on it may still be on its way out.
        eventually_sync(lambda: not subprocess.run(["umount", str(folder)], check=False).returncode)


def fill(folder: Path) -> None:
    """Leave no byte free on the file system of `folder`."""
    with (folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 512)
    assert shutil.disk_usage(folder).free == 0
