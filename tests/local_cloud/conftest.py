"""A store of the test's own, and jobs in it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_cloud.jobs import Jobs
from tests.support.control_groups import groups_left


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """Jobs of a store with four slots, all ended with the test."""
    jobs = Jobs(tmp_path / "home" / "local", working_dir=tmp_path, env=dict(os.environ))
    yield jobs
    jobs.end_all()
    assert groups_left(jobs.root) == []
