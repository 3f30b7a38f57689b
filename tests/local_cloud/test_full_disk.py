"""A full disk: outcomes are recorded and cancels honoured; a launch is refused with the reason."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flows.errors import LaunchFailed
from flows.states import JobState, TerminationReason
from tests.local_cloud.jobs import CLUSTER, Jobs
from tests.support.waiting import eventually_sync


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(disk)]
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root on Linux")
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    yield disk
    # The last supervisor may still be on its way out.
    eventually_sync(lambda: not subprocess.run(["umount", str(disk)], check=False).returncode)


@pytest.fixture
def full_disk_jobs(small_disk: Path, tmp_path: Path) -> Iterator[Jobs]:
    jobs = Jobs(small_disk / "local", tmp_path, dict(os.environ), slots=1)
    yield jobs
    jobs.end_all()


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 512)
    assert shutil.disk_usage(disk).free == 0


def test_how_jobs_end_is_recorded_on_a_full_disk(full_disk_jobs: Jobs, small_disk: Path) -> None:
    jobs = full_disk_jobs
    first = jobs.launch("touch ready; until [ -e go ]; do sleep 0.01; done; echo end")
    second = jobs.launch("exit 3")
    third = jobs.launch("sleep 300")
    fourth = jobs.launch("touch ran")
    jobs.running(first)
    fill(small_disk)
    assert jobs.store.cancel(CLUSTER, fourth.job_id).state is JobState.CANCELLED
    (jobs.working_dir / "go").touch()
    assert jobs.ended(first).reason is TerminationReason.NONZERO_EXIT  # its echo failed
    assert jobs.ended(second).exit_code == 3
    jobs.running(third)
    assert jobs.store.cancel(CLUSTER, third.job_id).state is JobState.CANCELLED
    assert not (jobs.working_dir / "ran").exists()


def test_a_launch_on_a_full_disk_is_refused_and_leaves_nothing(
    full_disk_jobs: Jobs, small_disk: Path
) -> None:
    jobs = full_disk_jobs
    first = jobs.ended(jobs.launch("true"))
    fill(small_disk)
    with pytest.raises(LaunchFailed, match="No space left on device"):
        jobs.launch("true", env={**jobs.env, "PADDING": "x" * 200_000})
    assert list(first.job_dir.parent.iterdir()) == [first.job_dir]
