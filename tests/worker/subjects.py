"""The launchers that the contract holds for, and jobs that both of them understand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from flows import names
from flows.ports import JobHandle, Launcher, LauncherState, Observation
from tests.support.fake_launcher import FakeLauncher
from tests.support.waiting import eventually

CLOUD = CLUSTER = "local"
PATIENCE_SECONDS = 30.0


@dataclass
class Subject:
    """A launcher with two slots.

    Attributes:
        exits: The script of a job that ends with a code.
        holds: The script of a job that runs until it is told to end.
        ignores: As `holds`, and it also ignores a cancel that is not forced.
        release: Tells a job to end well.
    """

    launcher: Launcher
    folder: Path
    exits: Callable[[int], str]
    holds: str
    ignores: str
    release: Callable[[JobHandle], None]
    handles: list[JobHandle] = field(default_factory=list[JobHandle])

    def config(self, run: str, *, key: str, setup: str = "", cloud: str = CLOUD) -> str:
        config: dict[str, Any] = {
            "name": "contract",
            "resources": {"cloud": cloud},
            "working_dir": str(self.folder),
            "envs": {names.JOB_KEY_ENV: key},
            "setup": setup,
            "run": run,
        }
        return yaml.safe_dump(config)

    async def launch(self, run: str, *, key: str | None = None, setup: str = "") -> JobHandle:
        key = key or new_key()
        handle = await self.launcher.launch(
            self.config(run, key=key, setup=setup), cloud=CLOUD, cluster_name=CLUSTER, key=key
        )
        self.handles.append(handle)
        return handle

    async def find(self, key: str) -> JobHandle | None:
        return await self.launcher.find(cloud=CLOUD, cluster_name=CLUSTER, key=key)

    async def seen(self, handle: JobHandle) -> Observation:
        """The job, by both ways to look at it, which agree once it has ended."""
        listed = (await self.launcher.observe(CLOUD, CLUSTER))[handle.launcher_job_id]
        single = await self.launcher.observe_job(handle)
        assert single is not None
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

        return await eventually(reached, timeout=PATIENCE_SECONDS, interval=0.02)

    async def end_all(self) -> None:
        for handle in self.handles:
            await self.launcher.cancel(handle, force=True)
        for handle in self.handles:
            await eventually(lambda: self._has_ended(handle), timeout=PATIENCE_SECONDS)  # noqa: B023

    async def _has_ended(self, handle: JobHandle) -> bool:
        return (await self.seen(handle)).state.is_terminal


def new_key() -> str:
    return names.launch_key(uuid4(), 1)


def fake_subject(folder: Path) -> Subject:
    launcher = FakeLauncher(slots=2)
    return Subject(
        launcher=launcher,
        folder=folder,
        exits=lambda code: f"exit {code}",
        holds="hold",
        ignores="ignore",
        release=lambda handle: launcher.jobs[handle.launcher_job_id].succeed(),
    )


def oumi_subject(launcher: Launcher, folder: Path) -> Subject:
    """A job is told to end by a file of its name."""
    wait = 'until [ -e "$PWD/$OUMI_FLOWS_JOB_KEY" ]; do sleep 0.02 || :; done'
    return Subject(
        launcher=launcher,
        folder=folder,
        exits=lambda code: f"exit {code}",
        holds=wait,
        ignores=f'trap "" TERM\n{wait}',
        release=lambda handle: (folder / handle.launcher_job_id).touch(),
    )
