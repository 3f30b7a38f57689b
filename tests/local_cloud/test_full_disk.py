"""A full disk: outcomes are recorded and cancels honoured; a launch is refused with the reason."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.core.errors import LaunchFailed
from flows.core.states import JobState, TerminationReason
from tests.local_cloud.jobs import CLUSTER, Jobs
from tests.support.small_disk import fill, mounted_small_disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    with mounted_small_disk(disk, size="256k"):
        yield disk


@pytest.fixture
def full_disk_jobs(small_disk: Path, tmp_path: Path) -> Iterator[Jobs]:
    jobs = Jobs(small_disk / "local", tmp_path, dict(os.environ), slots=1)
    yield jobs
    jobs.end_all()


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
