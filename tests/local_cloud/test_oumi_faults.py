"""What Oumi's own local cloud gets wrong (oumi 0.9), on it and on ours.

Each test fails on Oumi's; if one passes there, Oumi has fixed the fault.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from oumi.core.configs import JobConfig
from oumi.core.configs.job_config import JobResources
from oumi.core.launcher import BaseCloud, BaseCluster, JobState, JobStatus
from oumi.launcher.clients import local_client
from oumi.launcher.clouds import LocalCloud as OumisLocalCloud

from flows.launcher.local.oumi_cloud import LocalCloud
from flows.launcher.local.store import LocalStore
from tests.support.waiting import eventually_sync, is_gone

SOON = 4.0


class Cloud:
    """A local cloud under test; `restarted()` is what another process would see."""

    def __init__(self, build: Callable[[], BaseCloud], working_dir: Path) -> None:
        self._build = build
        self.working_dir = working_dir
        self.cloud = build()

    def restarted(self) -> BaseCloud:
        return self._build()

    def up(self, run: str, **fields: Any) -> tuple[BaseCluster, JobStatus]:
        given = {"name": "job", "working_dir": str(self.working_dir), **fields}
        job = JobConfig(run=run, resources=JobResources(cloud="local"), **given)
        status = self.cloud.up_cluster(job, None)
        cluster = self.cloud.get_cluster(status.cluster)
        assert cluster is not None
        return cluster, status

    def run(self, run: str, **fields: Any) -> JobStatus:
        cluster, status = self.up(run, **fields)
        eventually_sync(lambda: cluster.get_job(status.id).done, timeout=SOON)
        return cluster.get_job(status.id)

    def wait_for(self, name: str) -> str:
        path = self.working_dir / name
        eventually_sync(lambda: path.exists() and path.read_text(), timeout=SOON)
        return path.read_text()


@pytest.fixture
def oumis_idle_seconds() -> float:
    """Oumi's idle wait, cut down lest it hide the other faults; it is 5 seconds."""
    return 0.01


@pytest.fixture(
    params=[
        pytest.param("oumi", marks=pytest.mark.xfail(strict=True, raises=Exception)),
        "durable",
    ]
)
def cloud(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    oumis_idle_seconds: float,
) -> Iterator[Cloud]:
    build: Callable[[], BaseCloud] = OumisLocalCloud
    if request.param == "durable":
        build = lambda: LocalCloud(  # noqa: E731
            LocalStore(tmp_path / "local", slots=2, cancel_grace_seconds=1.0)
        )
    wait = partial(threading.Event().wait, oumis_idle_seconds)
    quick = SimpleNamespace(sleep=lambda _: wait(), time=time.time)
    monkeypatch.setattr(local_client, "time", quick)
    yield Cloud(build, tmp_path)
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.cwd() == str(tmp_path):
                process.kill()


def test_jobs_are_known_after_the_launching_process_has_gone(cloud: Cloud) -> None:
    _, status = cloud.up("true")
    cluster = cloud.restarted().get_cluster(status.cluster)
    assert cluster is not None
    assert cluster.get_job(status.id).id == status.id


def test_ids_are_not_used_again_after_a_restart(cloud: Cloud) -> None:
    _, first = cloud.up("true")
    cloud.cloud = cloud.restarted()
    _, second = cloud.up("true")
    assert second.id != first.id


def test_two_jobs_can_run_at_once(cloud: Cloud) -> None:
    cluster, first = cloud.up("until [ -e go ]; do sleep 0.01; done")
    cloud.up("touch go")
    eventually_sync(lambda: cluster.get_job(first.id).done, timeout=SOON)


@pytest.mark.parametrize("oumis_idle_seconds", [5.0])
def test_a_job_starts_at_once_on_an_idle_machine(cloud: Cloud) -> None:
    cloud.up("touch started")
    eventually_sync((cloud.working_dir / "started").exists, timeout=2.0)


def test_a_cancelled_job_ends_cancelled_and_stays_so(cloud: Cloud) -> None:
    cluster, status = cloud.up("echo $$ > leader; exec sleep 300")
    leader = int(cloud.wait_for("leader"))
    cluster.cancel_job(status.id)
    eventually_sync(lambda: is_gone(leader), timeout=SOON)
    eventually_sync(lambda: cluster.get_job(status.id).done, timeout=SOON)
    _, after = cloud.up("true")
    eventually_sync(lambda: cluster.get_job(after.id).done, timeout=SOON)
    assert cluster.get_job(status.id).state is JobState.CANCELLED


def test_children_end_with_a_cancelled_job(cloud: Cloud) -> None:
    cluster, status = cloud.up("sleep 300 & echo $! > child; wait")
    child = int(cloud.wait_for("child"))
    cluster.cancel_job(status.id)
    eventually_sync(lambda: is_gone(child), timeout=SOON)


def test_output_of_200_kilobytes_does_not_hang_the_job(cloud: Cloud) -> None:
    assert cloud.run("head -c 200000 /dev/zero").state is JobState.SUCCEEDED


def test_cancelling_a_job_with_much_output_leaves_the_cluster_usable(cloud: Cloud) -> None:
    cluster, status = cloud.up(
        "(sleep 300 & echo $! > child; wait) & touch ready; head -c 200000 /dev/zero; wait"
    )
    cloud.wait_for("child")
    answers: queue.Queue[JobStatus] = queue.Queue()

    def cancel_and_go_on() -> None:
        with suppress(AssertionError):
            cluster.cancel_job(status.id)
            answers.put(cloud.run("true"))

    threading.Thread(target=cancel_and_go_on, daemon=True).start()
    assert answers.get(timeout=SOON).state is JobState.SUCCEEDED


def test_logs_can_be_followed(cloud: Cloud) -> None:
    cluster, status = cloud.up("echo one; echo two")
    with cluster.get_logs_stream(status.cluster, status.id) as stream:
        assert list(stream) == ["one\n", "two\n"]


def test_a_failed_setup_fails_the_job(cloud: Cloud) -> None:
    assert cloud.run("true", setup="false").state is JobState.FAILED


def test_a_failing_command_in_the_middle_fails_the_job(cloud: Cloud) -> None:
    assert cloud.run("false\ntrue").state is JobState.FAILED


def test_a_working_directory_with_spaces_is_where_the_job_runs(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where Oumi's own cloud runs the job instead
    spaced = tmp_path / "a b"
    spaced.mkdir()
    cloud.run("touch made-here", working_dir=str(spaced))
    assert (spaced / "made-here").exists()
