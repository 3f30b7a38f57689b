"""The launchers that the contract holds for, and jobs that each of them understands."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import yaml

from flows.core import names
from flows.core.errors import ClusterUnreachable, OumiFlowsError
from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.launcher.local.job_folder import JobFolder
from flows.launcher.port import Launcher, LauncherState, Observation
from tests.support.fake_launcher import FakeLauncher
from tests.support.waiting import eventually


@dataclass
class Subject:
    """A launcher with one cluster.

    Attributes:
        holds: The script of a job that runs until the test ends it.
        ignores: As `holds`, and it also ignores a cancel that is not forced.
        exits: The script of a job that ends with a code.
        says: The script of a job that prints something.
        release: Tells a job to end well.
        unreachable: While it is open, the cluster does not answer; None: it always does.
        forget: Makes the cluster know nothing of a job any more; None: it always does.
        launched: How many jobs of a key the cluster ever had.
        slots: How many jobs run at once, where that can be waited for.
        forces: Whether a forced cancel ends what ignores another.
        has_logs: Whether output can be read.
        tells_reasons: Whether it says why a job ended.
        tells_codes: Whether it says with which code a job ended.
        tells_setup: Whether it tells a setup that failed from a run that did.
        lists_ended: Whether jobs that have ended are listed, not only known by their ids.
        moments: How many moments of a launch to kill it at.
        patience: Seconds until what must happen has happened.
    """

    name: str
    launcher: Launcher
    cloud: str
    cluster: str
    folder: Path
    holds: str
    ignores: str
    release: Callable[[JobHandle], None]
    launched: Callable[[str], int]
    exits: Callable[[int], str] = "exit {}".format
    says: Callable[[str], str] = "echo {}".format
    unreachable: Callable[[], AbstractContextManager[None]] | None = None
    forget: Callable[[JobHandle], None] | None = None
    slots: int | None = None
    forces: bool = False
    has_logs: bool = True
    tells_reasons: bool = True
    tells_codes: bool = True
    tells_setup: bool = True
    lists_ended: bool = True
    moments: int = 12
    elsewhere: str | None = "elsewhere"
    patience: float = 30.0
    resources: dict[str, Any] = field(default_factory=dict[str, Any])
    handles: list[JobHandle] = field(default_factory=list[JobHandle])

    def config(self, run: str, *, key: str, setup: str = "", cloud: str | None = None) -> str:
        config: dict[str, Any] = {
            "name": "contract",
            "resources": {"cloud": cloud or self.cloud, **self.resources},
            "working_dir": str(self.folder),
            "envs": {names.JOB_KEY_ENV: key},
            "setup": setup,
            "run": run,
        }
        return yaml.safe_dump(config)

    async def launch(self, run: str, *, key: str | None = None, setup: str = "") -> JobHandle:
        key = key or new_key()
        handle = await self.launcher.launch(
            self.config(run, key=key, setup=setup),
            cloud=self.cloud,
            cluster_name=self.cluster,
            key=key,
        )
        self.handles.append(handle)
        return handle

    async def find(self, key: str) -> JobHandle | None:
        return await self.launcher.find(cloud=self.cloud, cluster_name=self.cluster, key=key)

    async def find_in_the_end(self, key: str) -> JobHandle | None:
        """What `find` says as soon as the cluster can tell."""

        async def found() -> list[JobHandle | None]:
            try:
                return [await self.find(key)]
            except ClusterUnreachable:
                return []

        (handle,) = await eventually(found, timeout=self.patience)
        return handle

    async def observe(self) -> dict[str, Observation]:
        return await self.launcher.observe(self.cloud, self.cluster)

    async def seen(self, handle: JobHandle) -> Observation:
        """The job, by both ways to look at it, which agree once it has ended."""
        everything = await self.observe()
        single = await self.launcher.observe_job(handle)
        assert single is not None
        if single.state.is_terminal and not self.lists_ended:
            return single
        listed = everything[handle.launcher_job_id]
        if listed.state.is_terminal:
            assert (listed.state, listed.reason, listed.message) == (
                single.state,
                single.reason,
                single.message,
            )
        return single

    async def reaching(self, handle: JobHandle, state: LauncherState) -> Observation:
        async def reached() -> Observation | None:
            seen = await self.seen(handle)
            assert seen.state is state or not seen.state.is_terminal, seen
            return seen if seen.state is state else None

        return await eventually(reached, timeout=self.patience, interval=0.02)

    async def end_all(self) -> None:
        for handle in self.handles:
            if not await self._has_ended(handle):
                await self.launcher.cancel(handle, force=True)
        for handle in self.handles:
            await eventually(lambda: self._has_ended(handle), timeout=self.patience)  # noqa: B023

    async def _has_ended(self, handle: JobHandle) -> bool:
        try:
            seen = await self.launcher.observe_job(handle)
        except OumiFlowsError:
            return False
        return seen is None or seen.state.is_terminal


def new_key() -> str:
    return names.launch_key(uuid4(), 1)


def in_memory(folder: Path) -> Subject:
    """The launcher that stands in for the real one in tests of flows."""
    launcher = FakeLauncher(slots=2)

    @contextmanager
    def unreachable() -> Generator[None]:
        launcher.unreachable = "the machine is down"
        yield
        launcher.unreachable = None

    def forget(handle: JobHandle) -> None:
        del launcher.jobs[handle.launcher_job_id]

    return Subject(
        name="memory",
        launcher=launcher,
        cloud="local",
        cluster="local",
        folder=folder,
        holds="hold",
        ignores="ignore",
        release=lambda handle: launcher.jobs[handle.launcher_job_id].succeed(),
        launched=lambda key: int(key in launcher.jobs),
        unreachable=unreachable,
        forget=forget,
        slots=2,
        forces=True,
        has_logs=False,
    )


def on_local(launcher: Launcher, folder: Path) -> Subject:
    """The durable local cloud; a file with a job's name ends that job."""
    jobs = Settings().local_dir / "local" / "jobs"
    ledger = folder / "ledger"
    wait = f"echo $OUMI_FLOWS_JOB_KEY >> '{ledger}'\n" + waits_for(f"{folder}/$OUMI_FLOWS_JOB_KEY")

    def launched(key: str) -> int:
        return ledger.read_text().split().count(key) if ledger.exists() else 0

    def forget(handle: JobHandle) -> None:
        record = JobFolder(jobs / handle.launcher_job_id).process_record()
        assert record is not None
        supervisor = psutil.Process(record.supervisor_pid)
        for process in [supervisor, *supervisor.children(recursive=True)]:
            process.kill()

    return Subject(
        name="local",
        launcher=launcher,
        cloud="local",
        cluster="local",
        folder=folder,
        holds=wait,
        ignores=f'trap "" TERM\n{wait}',
        release=lambda handle: (folder / handle.launcher_job_id).touch(),
        launched=launched,
        forget=forget,
        slots=2,
        forces=True,
    )


def waits_for(file: str) -> str:
    return f'until [ -e "{file}" ]; do sleep 0.02 || :; done'
