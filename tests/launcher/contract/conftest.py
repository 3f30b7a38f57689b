"""The back ends of the contract, one after another.

A new one is a fixture named ``<name>_subject``, and its name in the list below.
"""

import os
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.launcher.oumi.backend import short_name
from flows.launcher.oumi_launcher import OumiLauncher
from flows.launcher.sky.server import SkyServer
from tests.lab.sky_lab import SkyLab
from tests.lab.slurm_lab import SlurmLab
from tests.launcher.contract.subjects import Subject, in_memory, on_local, waits_for

BACK_ENDS = [
    *("memory", "local", "fake", "modal"),
    pytest.param("slurm", marks=pytest.mark.cluster),
    pytest.param("sky", marks=pytest.mark.sky),
]


@pytest.fixture(params=BACK_ENDS)
async def subject(request: pytest.FixtureRequest) -> AsyncGenerator[Subject]:
    """Each back end in turn; its jobs end with the test."""
    subject: Subject = request.getfixturevalue(f"{request.param}_subject")
    yield subject
    await subject.end_all()


@pytest.fixture
def memory_subject(folder: Path) -> Subject:
    """What stands in for the launcher in tests of flows."""
    return in_memory(folder)


@pytest.fixture
def local_subject(oumi_launcher: OumiLauncher, folder: Path) -> Subject:
    """The durable local cloud."""
    return on_local(oumi_launcher, folder)


@pytest.fixture
def fake_subject(
    oumi_launcher: OumiLauncher, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Subject]:
    """The scripted cloud, through the backend of a cloud whose client keeps the names of jobs."""
    from tests.support import fake_cloud

    name = "frontier"
    monkeypatch.setenv("FAKE_CLOUD", str(tmp_path / "clusters"))
    monkeypatch.setenv("FAKE_CLOUD_SLOTS", "2")
    monkeypatch.setenv("FAKE_CLOUD_NAME", name)
    cluster = fake_cloud.build_fake_cloud().cluster("cluster")

    @contextmanager
    def unreachable() -> Generator[None]:
        cluster.answers(error="the cloud is on fire")
        yield
        cluster.answers(error=None)

    subject = Subject(
        name="fake",
        launcher=OumiLauncher(Settings()),
        cloud=name,
        cluster=cluster.name(),
        folder=folder,
        holds="hold",
        ignores="ignore",
        release=lambda handle: cluster.release(handle.launcher_job_id),
        launched=lambda key: cluster.job_names().count(short_name(key)),
        unreachable=unreachable,
        forget=lambda handle: cluster.forget(handle.launcher_job_id),
        slots=2,
        has_logs=False,
        tells_reasons=False,
    )
    with fake_cloud.registered(name):
        yield subject


@pytest.fixture
def modal_subject(fake_modal: Any, oumi_launcher: OumiLauncher, folder: Path) -> Subject:
    """Oumi's real client of Modal, with a package in the place of Modal's."""
    sandboxes = fake_modal.sandboxes()

    @contextmanager
    def unreachable() -> Generator[None]:
        sandboxes.answers(error="no network")
        yield
        sandboxes.answers(error=None)

    return Subject(
        name="modal",
        launcher=OumiLauncher(Settings()),
        cloud="modal",
        cluster="cluster",
        folder=folder,
        holds="hold",
        ignores="ignore",
        release=lambda handle: sandboxes.release(handle.launcher_job_id.removeprefix("sb-")),
        launched=lambda key: sandboxes.job_names().count(key),
        unreachable=unreachable,
        forget=lambda handle: sandboxes.forget(handle.launcher_job_id.removeprefix("sb-")),
        has_logs=False,
        lists_ended=False,
        tells_setup=False,
    )


@pytest.fixture
def slurm_subject(slurm_lab: SlurmLab, oumi_launcher: OumiLauncher, folder: Path) -> Subject:
    """The lab's cluster. Its jobs run as another user, so they wait for a file of that user's."""
    flags = slurm_lab.home / "flags"
    wait = waits_for(f"{flags}/$SLURM_JOB_ID")

    def release(handle: JobHandle) -> None:
        flags.mkdir(mode=0o755, exist_ok=True)
        (flags / handle.launcher_job_id).touch()

    @contextmanager
    def unreachable() -> Generator[None]:
        slurm_lab.cut_off()
        yield
        slurm_lab.reconnect()

    return Subject(
        name="slurm",
        launcher=oumi_launcher,
        cloud="slurm",
        cluster=slurm_lab.cluster,
        folder=folder,
        holds=wait,
        ignores=f'trap "" TERM\n{wait}',
        release=release,
        launched=lambda key: slurm_lab.jobs().count(key),
        unreachable=unreachable,
        forget=lambda _: slurm_lab.forget_jobs(),
        slots=2,
        resources={"cpus": str(slurm_lab.CPUS // 2)},
        elsewhere=None,
    )


@pytest.fixture
def sky_subject(sky_lab: SkyLab, oumi_launcher: OumiLauncher, folder: Path) -> Subject:
    """A cluster of SkyPilot's on the lab's Slurm, which the first launch brings up."""
    flags = sky_lab.home / "flags"
    wait = waits_for(f"{flags}/$SKYPILOT_INTERNAL_JOB_ID")
    # SkyPilot keeps its runtime under this name in the node's /tmp.
    cluster = f"contract{os.getpid()}"

    def release(handle: JobHandle) -> None:
        flags.mkdir(mode=0o755, exist_ok=True)
        (flags / handle.launcher_job_id).touch()

    def launched(key: str) -> int:
        return [job.name for job in SkyServer().queue(cluster) or []].count(key)

    @contextmanager
    def unreachable() -> Generator[None]:
        sky_lab.stop_server()
        yield
        sky_lab.start_server()

    return Subject(
        name="sky",
        launcher=oumi_launcher,
        cloud="sky-slurm",
        cluster=cluster,
        folder=folder,
        holds=wait,
        ignores=f'trap "" TERM\n{wait}',
        release=release,
        launched=launched,
        unreachable=unreachable,
        slots=2,
        tells_codes=False,
        patience=120.0,
        moments=6,
        # On Slurm a job is a step of the cluster's allocation that has whole CPUs to itself: asking
        # for half of one, as each does, takes one (skypilot 0.12, `math.ceil` in
        # sky/backends/task_codegen.py).
        resources={"cpus": "2", "memory": "1"},
    )
