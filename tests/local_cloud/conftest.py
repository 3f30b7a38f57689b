"""A store of the test's own, and jobs in it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.launcher.local.supervisor_start import start_bare
from tests.local_cloud.jobs import Jobs
from tests.local_cloud.warm_hosts import WarmHosts
from tests.support.control_groups import groups_left


@pytest.fixture(scope="session")
def warm_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmHosts]:
    """Warm hosts that import what a test says, ended with the session."""
    hosts = WarmHosts(tmp_path_factory.mktemp("warm"))
    yield hosts
    hosts.close()


@pytest.fixture(params=["bare", "warm"])
def jobs(tmp_path: Path, warm_hosts: WarmHosts, request: pytest.FixtureRequest) -> Iterator[Jobs]:
    """Jobs of a store with four slots, all ended with the test; supervisors start both ways."""
    start = start_bare if request.param == "bare" else warm_hosts.shared()
    jobs = Jobs(
        tmp_path / "home" / "local", working_dir=tmp_path, env=dict(os.environ), start=start
    )
    yield jobs
    jobs.end_all()
    assert groups_left(jobs.root) == []
